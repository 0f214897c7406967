"""What importing the package does not do, and which way its imports run."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent

READING = """
import importlib, json, pkgutil, sys
for name in ("jax", "jaxlib", "flax", "optax"):
    sys.modules[name] = None  # whoever imports it fails; Grain alone tries, and does without
import segfusion_jax, segfusion_jax.datasets, segfusion_jax.input
modules = ["segfusion_jax.bridge.masked", "segfusion_jax.config"]
for package in (segfusion_jax.datasets, segfusion_jax.input):
    modules += [module.name for module in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
for module in modules:
    importlib.import_module(module)
json.dump({"imported": modules, "tensorflow": "tensorflow" in sys.modules}, sys.stdout)
"""

EVERYTHING = """
import importlib, json, logging, pkgutil, sys
import absl.flags, absl.logging, cv2, flax.nnx, grain, jax, jax.experimental.multihost_utils, matplotlib, optax
import array_record.python.array_record_module, ml_collections, orbax.checkpoint, safetensors.numpy, scipy.ndimage
import sklearn.metrics, tensorflow_datasets
from jax._src import xla_bridge  # whether devices were started is public nowhere

def state():
    loggers = [logging.getLogger(), *map(logging.getLogger, logging.root.manager.loggerDict)]
    return {
        "flags": sorted(absl.flags.FLAGS),
        "handlers": sorted(f"{logger.name}: {handler!r}" for logger in loggers for handler in logger.handlers),
        "level": logging.getLogger().level,
        "verbosity": absl.logging.get_verbosity(),
        "jax config": {name: repr(value) for name, value in jax.config.values.items()},
        "matplotlib": {name: repr(value) for name, value in matplotlib.rcParams.items()},
    }

before = state()
import segfusion_jax
modules = [module.name for module in pkgutil.walk_packages(segfusion_jax.__path__, "segfusion_jax.")]
for module in modules:
    importlib.import_module(module)
public = {name: getattr(segfusion_jax, name) for name in segfusion_jax.__all__}
public = {name: getattr(value, "__module__", None) or value.__name__ for name, value in public.items()}
devices = bool(xla_bridge.backends_are_initialized())
jax.devices()
json.dump({
    "imported": modules, "before": before, "after": state(), "public": public,
    "devices": devices, "devices once asked for": bool(xla_bridge.backends_are_initialized()),
}, sys.stdout)
"""


@pytest.fixture(scope="module")
def imports():
    """What two fresh interpreters report: one that imports what reads images, one that imports everything."""
    running = [
        subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for program in (READING, EVERYTHING)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    return [json.loads(output) for output in outputs]


def test_code_that_reads_images_needs_neither_jax_nor_tensorflow(imports):
    reading, _ = imports
    assert {"segfusion_jax.input.loader", "segfusion_jax.datasets.prepared"} <= set(reading["imported"])
    assert not reading["tensorflow"]


def test_importing_everything_starts_no_device(imports):
    _, everything = imports
    assert {"segfusion_jax.runtime.devices", "segfusion_jax.training.steps"} <= set(everything["imported"])
    assert not everything["devices"]
    assert everything["devices once asked for"]


@pytest.mark.parametrize("what", ["flags", "handlers", "level", "verbosity", "jax config", "matplotlib"])
def test_importing_everything_changes_no_settings(imports, what):
    _, everything = imports
    assert everything["before"][what] is not None
    assert everything["after"][what] == everything["before"][what]


def test_every_public_name_can_be_reached(imports):
    _, everything = imports
    named = {
        "Config",
        "EfficientNet",
        "MobileNetV3",
        "SegFusion",
        "UNet",
        "functional",
        "load_dataset",
        "load_pretrained",
        "train",
    }
    assert set(everything["public"]) >= named
    assert all(module.startswith("segfusion_jax.") for module in everything["public"].values())


def test_imports_run_one_way():
    pytest.importorskip("importlinter")
    linter = pathlib.Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout
    assert "0 broken" in result.stdout
