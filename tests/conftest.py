"""Four CPU devices for every test, a compile cache that all tests share, and one finished run."""

import os
import pathlib

# Level 1 compiles more than twice as fast as the default.
_XLA_FLAGS = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=1"
os.environ["XLA_FLAGS"] = f"{_XLA_FLAGS} {os.environ.get('XLA_FLAGS', '')}"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["MPLBACKEND"] = "agg"

import jax  # noqa: E402
import pytest  # noqa: E402

from segfusion_jax.pipeline import experiment  # noqa: E402
from segfusion_jax.runtime.locks import locked  # noqa: E402
from tests import shallow, tiny  # noqa: E402

TESTS = pathlib.Path(__file__).parent
LONGEST = (
    "pipeline/test_experiment.py",  # makes the finished run, which the next two do without
    "training/test_curves.py",
    "faults/test_killed.py",
    "test_configs.py",
    "runtime/test_processes.py",
    "models/test_contracts.py",
    "serving/export/test_artefacts.py",
    "pipeline/test_plan.py",
    "serving/test_segfusion.py",
    "datasets/test_protocols.py",
    "serving/test_targets.py",
    "pipeline/stages/test_classify.py",
    "runtime/test_devices.py",
    "serving/test_released.py",
    "serving/web/test_released_served.py",
)
"""Files that take half a minute or more."""


def pytest_collection_modifyitems(items):
    """Puts the longest files first, so that no process is left with one when the others are done."""
    places = {TESTS / name: place for place, name in enumerate(LONGEST)}
    assert all(path.exists() for path in places)
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> pathlib.Path:
    """A folder that all processes of the session have in common: pytest-xdist's each have one below it."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session", autouse=True)
def compile_cache(shared) -> pathlib.Path:
    """Compiles equal programs once a session."""
    folder = shared / "compiled"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    return folder


@pytest.fixture
def shallow_networks(monkeypatch):
    """Networks that are made have few blocks and levels. Not for those of the run `finished`, which has them all."""
    shallow.patch(monkeypatch.setattr)


@pytest.fixture(scope="session")
def finished(shared) -> pathlib.Path:
    """The workdir of a run of all stages with `tiny.BASE`. Not to be written into."""
    workdir = shared / "finished/workdir"
    with locked(shared / "finished.lock", what="makes the finished run"):
        experiment.run(tiny.BASE, workdir)  # nothing, where another process has made it
    return workdir
