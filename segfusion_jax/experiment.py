"""The stages of a run, their order, and what is already done."""

import dataclasses
import hashlib
import importlib.metadata
import json
import pathlib
import platform
import time
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from absl import logging

from segfusion_jax.config import Config
from segfusion_jax.datasets import prepared
from segfusion_jax.datasets.splits import find_table
from segfusion_jax.models.from_config import find_pretrained, load_backbone, load_encoder, make_classifier, make_unet
from segfusion_jax.parallel import Devices, make_devices
from segfusion_jax.stages.bridge import bridge
from segfusion_jax.stages.classify import classify
from segfusion_jax.stages.evaluate import evaluate
from segfusion_jax.stages.prepare import prepare
from segfusion_jax.stages.report import report
from segfusion_jax.stages.segment import segment
from segfusion_jax.training.loop import duration


@dataclasses.dataclass(frozen=True)
class Stage:
    """A step of a run.

    Attributes:
      run: writes `folder` in the workdir from what the stages before wrote.
      folder: its name.
    """

    run: Callable[[Config, pathlib.Path], None]
    folder: str


STAGES = {
    "prepare": Stage(prepare, "splits"),
    "segment": Stage(segment, "segmentation"),
    "bridge": Stage(bridge, "masks"),
    "classify": Stage(classify, "classification"),
    "evaluate": Stage(evaluate, "evaluation"),
    "report": Stage(report, "report"),
}
"""In the order in which they run."""


def run(config: Config, workdir: pathlib.Path, stages: Sequence[str] = tuple(STAGES)) -> None:
    """Runs stages in their order; one that is done already is skipped, one that was stopped goes on.

    Args:
      config: of the experiment.
      workdir: a new folder, or one that the same config wrote.
      stages: which ones.

    Raises:
      ValueError: an unknown stage, a stage whose input is not there yet, a batch that the devices cannot share, or a
        workdir of another config or of other data; the workdir is left as it was.
      FileNotFoundError: the pretrained weights or the official files are not there.
    """
    for name in stages:
        if name not in STAGES:
            raise ValueError(f"stage {name!r}: must be one of {', '.join(STAGES)}")
    devices = make_devices(config.parallel)
    _check_batch_sizes(config, devices)
    _check_owner(config, workdir)
    fingerprint = _fingerprint(config)
    _check_weights(config)
    _check_fingerprints(workdir, fingerprint)
    _check_order(workdir, stages)
    devices.wait_for_all("workdir checked")
    if devices.is_lead:
        _claim(config, workdir)
    for name, stage in STAGES.items():
        marker = workdir / stage.folder / "done.json"
        if name not in stages or marker.exists():
            continue
        logging.info("stage %s", name)
        start = time.monotonic()
        stage.run(config, workdir)
        seconds = time.monotonic() - start
        if devices.is_lead:
            marker.write_text(json.dumps({"fingerprint": fingerprint, "seconds": round(seconds, 1)}) + "\n")
        devices.wait_for_all(name)
        logging.info("stage %s took %s", name, duration(seconds))


def _check_batch_sizes(config: Config, devices: Devices) -> None:
    """Before the first stage, not after hours."""
    for name in ("segmenter", "classifier"):
        training = getattr(config, name).training
        devices.check_batch_size(f"config.{name}.training.batch_size", training.batch_size, training.microbatches)


def _check_weights(config: Config) -> None:
    """Reads the pretrained weights into the models, before the first stage and not after hours."""
    if config.segmenter.pretrained:
        load_encoder(config.segmenter, make_unet(config.segmenter, seed=0, dtype=jnp.float32))
    if config.classifier.pretrained:
        load_backbone(config.classifier, make_classifier(config.classifier, config.bridge, seed=0, dtype=jnp.float32))


def _check_owner(config: Config, workdir: pathlib.Path) -> None:
    path = workdir / "config.json"
    if not path.exists():
        if workdir.is_dir() and any(workdir.iterdir()):
            raise ValueError(f"{workdir} is not empty and holds no config.json: give a new folder as --workdir")
        return
    if not any((workdir / stage.folder / "done.json").exists() for stage in STAGES.values()):
        return
    theirs = _flatten(json.loads(path.read_text())["config"])
    ours = _flatten(json.loads(config.to_json()))
    names = [n for n in sorted(theirs | ours) if theirs.get(n) != ours.get(n) and not n.startswith("input.")]
    if names:
        listed = "; ".join(f"{name} is {theirs.get(name)!r} there, {ours.get(name)!r} here" for name in names[:10])
        raise ValueError(f"{workdir} belongs to another config: {listed}. Give another --workdir")


def _fingerprint(config: Config) -> str:
    """Of what results depend on: the config but for `input`, and the files that it names."""
    values = {name: value for name, value in dataclasses.asdict(config).items() if name != "input"}
    named = [find_pretrained(section) for section in (config.segmenter, config.classifier) if section.pretrained]
    if config.splits.table:
        named.append(find_table(config.splits))
    contents = [hashlib.sha256(path.read_bytes()).hexdigest() for path in named]
    parts = [values, prepared.fingerprint(config.data), contents]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _check_fingerprints(workdir: pathlib.Path, fingerprint: str) -> None:
    for name, stage in STAGES.items():
        marker = workdir / stage.folder / "done.json"
        if marker.exists() and json.loads(marker.read_text())["fingerprint"] != fingerprint:
            raise ValueError(
                f"{workdir}: the files of data.root, or the pretrained weights, changed since its stage {name!r}. "
                "Give another --workdir"
            )


def _check_order(workdir: pathlib.Path, stages: Sequence[str]) -> None:
    missing = None
    for name, stage in STAGES.items():
        if (workdir / stage.folder / "done.json").exists():
            continue
        if name not in stages:
            missing = missing or name
        elif missing:
            raise ValueError(f"stage {name!r} needs stage {missing!r}, which is not done: run it too, or no --stages")


def _claim(config: Config, workdir: pathlib.Path) -> None:
    """Writes `config.json`, with the versions that make the run, until the first stage is done."""
    path = workdir / "config.json"
    if (workdir / STAGES["prepare"].folder / "done.json").exists():
        return
    workdir.mkdir(parents=True, exist_ok=True)
    packages = ("segfusion_jax", "jax", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")
    versions = {name: _version(name) for name in packages} | {"python": platform.python_version()}
    content = {"config": json.loads(config.to_json()), "versions": versions}
    path.write_text(json.dumps(content, indent=2) + "\n")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        return "not installed"


def _flatten(values: dict, path: str = "") -> dict:
    flat = {}
    for name, value in values.items():
        flat |= _flatten(value, f"{path}{name}.") if isinstance(value, dict) else {f"{path}{name}": value}
    return flat
