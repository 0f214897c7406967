"""The stages of a run, their order, and what is already done."""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
import time
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from absl import logging

from segfusion_jax.config import Config, flatten
from segfusion_jax.datasets import prepared
from segfusion_jax.datasets.splits import find_table
from segfusion_jax.models.from_config import find_pretrained, load_backbone, load_encoder, make_classifier, make_unet
from segfusion_jax.pipeline.plan import describe
from segfusion_jax.pipeline.stages.bridge import bridge
from segfusion_jax.pipeline.stages.classify import classify
from segfusion_jax.pipeline.stages.evaluate import evaluate
from segfusion_jax.pipeline.stages.prepare import prepare
from segfusion_jax.pipeline.stages.report import report
from segfusion_jax.pipeline.stages.score import score
from segfusion_jax.pipeline.stages.segment import segment
from segfusion_jax.runtime.atomic import write_text
from segfusion_jax.runtime.devices import Devices, make_devices
from segfusion_jax.runtime.locks import owned
from segfusion_jax.training.progress import duration


@dataclasses.dataclass(frozen=True)
class Stage:
    """A step of a run.

    Attributes:
      run: writes `folder` in the workdir from what the stages before wrote.
      folder: its name.
      fields: of the config, or sections, that its result depends on beside those of the stages before.
    """

    run: Callable[[Config, pathlib.Path], None]
    folder: str
    fields: tuple[str, ...]


STAGES = {
    "prepare": Stage(prepare, "splits", ("data.", "splits.")),
    "segment": Stage(segment, "segmentation", ("seed", "compute_dtype", "parallel.", "segmenter.")),
    "score": Stage(score, "overlaps", ("bridge.threshold",)),
    "bridge": Stage(bridge, "masks", ("bridge.masks", "bridge.min_area", "bridge.max_border")),
    "classify": Stage(classify, "classification", ("bridge.", "classifier.")),
    "evaluate": Stage(evaluate, "evaluation", ("evaluation.",)),
    "report": Stage(report, "report", ()),
}
"""In the order in which they run."""

_ADVICE = "Give another --workdir"

LOCK = "lock"
"""Name of the file in a workdir that a run holds."""

FREE = (
    "input.",
    "checkpoints.",
    "parallel.api",
    *(f"{model}.training.{name}" for model in ("segmenter", "classifier") for name in ("remat", "nonfinite")),
)
"""Fields and sections of the config that change no result, but a run that stops at what is not finite into one that
skips it: they may differ when a run goes on."""


def run(
    config: Config,
    workdir: pathlib.Path,
    stages: Sequence[str] = tuple(STAGES),
    *,
    reuse: Sequence[pathlib.Path] = (),
) -> None:
    """Runs stages in their order; one that is done already is skipped, one that was stopped goes on.

    Args:
      config: of the experiment.
      workdir: a new folder, or one that the same config wrote.
      stages: which ones.
      reuse: workdirs of other configs, whose leading stages are taken over where theirs would do the same.

    Raises:
      ValueError: an unknown stage, a stage whose input is not there yet, a batch that the devices cannot share, or a
        workdir of another config or of other data, or that another process uses; it is left as it was.
      FileNotFoundError: the pretrained weights or the official files are not there.
    """
    for name in stages:
        if name not in STAGES:
            raise ValueError(f"stage {name!r}: must be one of {', '.join(STAGES)}")
    devices = make_devices(config.parallel)
    _check_batch_sizes(config, devices)
    digest = hashlib.sha256(config.to_json().encode()).hexdigest()[:8]
    devices.wait_for_all(f"the start, with the workdir {workdir} and a config of digest {digest}")
    _check_owner(config, workdir)
    fingerprints = _fingerprints(config)
    _check_weights(config)
    _check_done(workdir, stages, fingerprints)
    if all((workdir / STAGES[name].folder / "done.json").exists() for name in stages):
        logging.info("%s: all is done already", workdir)
        return
    devices.wait_for_all("workdir checked")
    with owned(workdir / LOCK, what=str(workdir)) if devices.is_lead else contextlib.nullcontext():
        if devices.is_lead:
            _check_owner(config, workdir)  # once more, now that nobody else changes it
            _check_done(workdir, stages, fingerprints)
            _claim(config, workdir)
            _take_over(workdir, reuse, fingerprints)
        devices.wait_for_all("workdir claimed")
        for name in STAGES:
            if name in stages:
                _run_stage(name, config, workdir, devices, fingerprints[name])


def _run_stage(name: str, config: Config, workdir: pathlib.Path, devices: Devices, fingerprint: str) -> None:
    stage = STAGES[name]
    marker = workdir / stage.folder / "done.json"
    if marker.exists():
        logging.info("stage %s was done before", name)
        return
    logging.info("stage %s", name)
    start = time.monotonic()
    stage.run(config, workdir)
    seconds = time.monotonic() - start
    if devices.is_lead:
        write_text(marker, json.dumps({"fingerprint": fingerprint, "seconds": round(seconds, 1)}) + "\n")
    devices.wait_for_all(name)
    logging.info("stage %s took %s", name, duration(seconds))


def dry_run(config: Config, workdir: pathlib.Path) -> str:
    """What the training steps of a run would need of the devices, as text; nothing is written and nothing trained.

    Args:
      config: of the experiment; its data and pretrained weights need not be there.
      workdir: need not be there; in one that is prepared, the data say how many classes and steps there are.

    Raises:
      ValueError: a batch that the devices cannot share, or a workdir of another config.
    """
    devices = make_devices(config.parallel)
    _check_batch_sizes(config, devices)
    _check_owner(config, workdir)
    return describe(config, workdir, devices)


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
        ours = (LOCK, ".config.json.")  # the second of a run that was killed while it wrote
        if workdir.is_dir() and any(not file.name.startswith(ours) for file in workdir.iterdir()):
            raise ValueError(f"{workdir} is not empty and holds no config.json: give a new folder as --workdir")
        return
    if not any((workdir / stage.folder / "done.json").exists() for stage in STAGES.values()):
        return
    theirs, ours = _bound(json.loads(path.read_text())["config"]), _bound(json.loads(config.to_json()))
    unknown = sorted(theirs.keys() ^ ours.keys())
    if unknown:
        listed = ", ".join(unknown[:10])
        raise ValueError(
            f"{workdir} was written by another version of segfusion_jax, without or with {listed}. {_ADVICE}"
        )
    names = [name for name in sorted(ours) if theirs[name] != ours[name]]
    if names:
        listed = "; ".join(f"{name} is {theirs[name]!r} there, {ours[name]!r} here" for name in names[:10])
        raise ValueError(f"{workdir} belongs to another config: {listed}. {_ADVICE}")


def _fingerprints(config: Config) -> dict[str, str]:
    """Of what each stage's result depends on: fields of the config that are not free, and the files that they name."""
    values = _bound(dataclasses.asdict(config))
    files = {"data.": prepared.fingerprint(config.data)}
    for name, section in (("segmenter.", config.segmenter), ("classifier.", config.classifier)):
        if section.pretrained:
            files[name] = hashlib.sha256(find_pretrained(section).read_bytes()).hexdigest()
    if config.splits.table:
        files["splits."] = hashlib.sha256(find_table(config.splits).read_bytes()).hexdigest()
    fields, fingerprints = (), {}
    for stage in STAGES:
        fields += STAGES[stage].fields
        parts = [{name: value for name, value in part.items() if name.startswith(fields)} for part in (values, files)]
        fingerprints[stage] = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    return fingerprints


def _take_over(workdir: pathlib.Path, reuse: Sequence[pathlib.Path], fingerprints: dict[str, str]) -> None:
    """Links what leading stages wrote from the first of `reuse` whose stage has the same fingerprint."""
    for name, stage in STAGES.items():
        if (workdir / stage.folder / "done.json").exists():
            continue
        same = [path for path in reuse if _done(path / stage.folder) == fingerprints[name]]
        if not same:
            return
        logging.info("stage %s is taken over from %s", name, same[0])
        records = ["records"] if name == "prepare" and (same[0] / "records").exists() else []
        for folder in (*records, stage.folder):
            shutil.rmtree(workdir / folder, ignore_errors=True)
            unfinished = shutil.ignore_patterns("done.json")
            shutil.copytree(same[0] / folder, workdir / folder, copy_function=_link, ignore=unfinished)
        _link(same[0] / stage.folder / "done.json", workdir / stage.folder / "done.json")


def _done(folder: pathlib.Path) -> str | None:
    """The fingerprint of the stage that wrote `folder`; None = it is not done."""
    marker = folder / "done.json"
    return json.loads(marker.read_text())["fingerprint"] if marker.exists() else None


def _link(source: str | pathlib.Path, target: str | pathlib.Path) -> None:
    """A stage that is done is never written again, so that two workdirs may share its files."""
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def _check_done(workdir: pathlib.Path, stages: Sequence[str], fingerprints: dict[str, str]) -> None:
    """That what is done is of these files, and that nothing between it and `stages` is missing."""
    for name, stage in STAGES.items():
        if _done(workdir / stage.folder) not in (None, fingerprints[name]):
            changed = "the files of data.root, or the pretrained weights, changed"
            raise ValueError(f"{workdir}: {changed} since its stage {name!r}. {_ADVICE}")
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
    packages = ("segfusion_jax", "jax", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")
    versions = {name: _version(name) for name in packages} | {"python": platform.python_version()}
    content = {"config": json.loads(config.to_json()), "versions": versions}
    write_text(path, json.dumps(content, indent=2) + "\n")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        return "not installed"


def _bound(values: dict) -> dict:
    """The fields of a config that are not free, by their dotted names."""
    return {name: value for name, value in flatten(values).items() if not name.startswith(FREE)}
