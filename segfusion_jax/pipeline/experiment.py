"""The stages of a run, their order, and what is already done."""

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import pathlib
import shutil
import time
from collections.abc import Callable, Sequence

from segfusion_jax.config import Config, flatten
from segfusion_jax.datasets import prepared
from segfusion_jax.datasets.splits import find_table
from segfusion_jax.models.from_config import find_pretrained
from segfusion_jax.pipeline import plan as planning
from segfusion_jax.pipeline import released
from segfusion_jax.pipeline.run import Run
from segfusion_jax.pipeline.stages.bridge import bridge
from segfusion_jax.pipeline.stages.classify import classify
from segfusion_jax.pipeline.stages.evaluate import evaluate
from segfusion_jax.pipeline.stages.prepare import prepare
from segfusion_jax.pipeline.stages.report import report
from segfusion_jax.pipeline.stages.score import score
from segfusion_jax.pipeline.stages.segment import segment
from segfusion_jax.runtime.devices import Devices
from segfusion_jax.runtime.locks import owned
from segfusion_jax.runtime.log import show
from segfusion_jax.runtime.progress import duration

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Stage:
    """A step of a run.

    Attributes:
      perform: writes the folder that bears the stage's name from what the stages before wrote.
      fields: fields of the config, or sections, that its result depends on beside those of the stages before.
    """

    perform: Callable[[Run], None]
    fields: tuple[str, ...]


STAGES = {
    "prepare": Stage(prepare, ("data.", "splits.")),
    "segment": Stage(segment, ("seed", "compute_dtype", "parallel.", "segmenter.")),
    "score": Stage(score, ("bridge.threshold",)),
    "bridge": Stage(bridge, ("bridge.masks", "bridge.min_area", "bridge.max_border")),
    "classify": Stage(classify, ("bridge.", "classifier.")),
    "evaluate": Stage(evaluate, ("evaluation.",)),
    "report": Stage(report, ()),
}
"""In the order in which they run."""

_ADVICE = "Give another --workdir"

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
) -> Run:
    """Runs stages in their order; one that is done already is skipped, one that was stopped goes on.

    Args:
      config: config of the experiment.
      workdir: a new folder, or one that the same config wrote.
      stages: names of the stages that are run.
      reuse: workdirs of other configs, whose leading stages are taken over where theirs would do the same.

    Returns:
      The run.

    Raises:
      ValueError: an unknown stage, a stage whose input is not there yet, a batch that the devices cannot share, or a
        workdir of another config or of other data, or that another process uses; it is left as it was.
      FileNotFoundError: the pretrained weights or the official files are not there.
    """
    show()
    for name in stages:
        if name not in STAGES:
            raise ValueError(f"stage {name!r}: must be one of {', '.join(STAGES)}")
    config = released.resolved(config)
    this = Run(config, workdir, stages)
    devices = this.devices
    _check_batch_sizes(config, devices)
    digest = hashlib.sha256(config.to_json().encode()).hexdigest()[:8]
    devices.wait_for_all(f"the start, with the workdir {workdir} and a config of digest {digest}")
    _check_owner(this)
    fingerprints = _fingerprints(config)
    _check_weights(this)
    _check_done(this, stages, fingerprints)
    if all(this.done(name) for name in stages):
        _log.info("%s: all is done already", workdir)
        return this
    devices.wait_for_all("workdir checked")
    with owned(this.lock, what=str(workdir)) if devices.is_lead else contextlib.nullcontext():
        if devices.is_lead:
            _check_owner(this)  # once more, now that nobody else changes it
            _check_done(this, stages, fingerprints)
            if not this.done("prepare"):
                this.write_settings()
            _take_over(this, [Run(config, path) for path in reuse], fingerprints)
        devices.wait_for_all("workdir claimed")
        for name in STAGES:
            if name in stages:
                _perform(this, name, fingerprints[name])
    return this


def _perform(this: Run, name: str, fingerprint: str) -> None:
    if this.done(name):
        _log.info("stage %s was done before", name)
        return
    _log.info("stage %s", name)
    start = time.monotonic()
    STAGES[name].perform(this)
    seconds = time.monotonic() - start
    if this.devices.is_lead:
        this.mark_done(name, fingerprint, seconds)
    this.devices.wait_for_all(name)
    _log.info("stage %s took %s", name, duration(seconds))


def plan(config: Config, workdir: pathlib.Path) -> str:
    """Returns what the training steps of a run would need of the devices; nothing is written and nothing trained.

    Args:
      config: config of the experiment; its data and pretrained weights need not be there.
      workdir: need not be there; in one that is prepared, the data say how many classes and steps there are.

    Raises:
      ValueError: a batch that the devices cannot share, or a workdir of another config.
    """
    config = released.resolved(config)
    this = Run(config, workdir)
    _check_batch_sizes(config, this.devices)
    _check_owner(this)
    return planning.plan(this)


def _check_batch_sizes(config: Config, devices: Devices) -> None:
    """Checks the batch sizes before the first stage, not after hours."""
    for name in ("classifier",) if config.bridge.released else ("segmenter", "classifier"):
        training = getattr(config, name).training
        devices.check_batch_size(f"config.{name}.training.batch_size", training.batch_size, training.microbatches)


def _check_weights(this: Run) -> None:
    """Reads the pretrained weights into the models, before the first stage and not after hours."""
    if "segmenter" in this.pretrained:
        this.networks.unet(fold=0)
    if "classifier" in this.pretrained:
        this.networks.classifier(number=0, num_logits=1)


def _check_owner(this: Run) -> None:
    written = this.read_settings()
    if written is None:
        if not this.is_empty:
            raise ValueError(f"{this.workdir} is not empty and holds no config.json: give a new folder as --workdir")
        return
    if not any(this.done(name) for name in STAGES):
        return
    theirs, ours = _bound(written["config"]), _bound(json.loads(this.config.to_json()))
    unknown = sorted(name for name in theirs.keys() ^ ours.keys() if not name.startswith("data.collections."))
    if unknown:
        listed = ", ".join(unknown[:10])
        raise ValueError(
            f"{this.workdir} was written by another version of segfusion_jax, without or with {listed}. {_ADVICE}"
        )
    names = [name for name in sorted(theirs | ours) if theirs.get(name) != ours.get(name)]
    if names:
        listed = "; ".join(f"{name} is {theirs.get(name)!r} there, {ours.get(name)!r} here" for name in names[:10])
        raise ValueError(f"{this.workdir} belongs to another config: {listed}. {_ADVICE}")


def _fingerprints(config: Config) -> dict[str, str]:
    """Returns a hash of what each stage's result depends on: fields that are not free, and the files that they name."""
    values = _bound(dataclasses.asdict(config))
    files = {"data.": prepared.fingerprint(config.data)}
    for name, section in (("segmenter.", config.segmenter), ("classifier.", config.classifier)):
        if section.pretrained:
            files[name] = hashlib.sha256(find_pretrained(section).read_bytes()).hexdigest()
    files |= released.digests(config)
    if config.splits.table:
        files["splits."] = hashlib.sha256(find_table(config.splits).read_bytes()).hexdigest()
    fields, fingerprints = (), {}
    for stage in STAGES:
        fields += STAGES[stage].fields
        parts = [{name: value for name, value in part.items() if name.startswith(fields)} for part in (values, files)]
        fingerprints[stage] = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    return fingerprints


def _take_over(this: Run, others: Sequence[Run], fingerprints: dict[str, str]) -> None:
    """Links what leading stages wrote from the first of `others` whose stage has the same fingerprint."""
    for name in STAGES:
        if this.done(name):
            continue
        same = [other for other in others if other.done(name) == fingerprints[name]]
        if not same:
            continue
        _log.info("stage %s is taken over from %s", name, same[0].workdir)
        if name == "prepare" and not this.config.data.records:
            _link_tree(same[0].records, this.records)
        _link_tree(same[0].folder(name), this.folder(name), last="done.json")


def _link_tree(source: pathlib.Path, target: pathlib.Path, *, last: str = "") -> None:
    """Links the files of a stage that is done, which is never written again; `last` is linked last."""
    if not source.exists():
        return
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, copy_function=_link, ignore=shutil.ignore_patterns(last))
    if last:
        _link(source / last, target / last)


def _link(source: str | pathlib.Path, target: str | pathlib.Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def _check_done(this: Run, stages: Sequence[str], fingerprints: dict[str, str]) -> None:
    """Checks that what is done is of these files, and that nothing between it and `stages` is missing."""
    for name in STAGES:
        if this.done(name) not in (None, fingerprints[name]):
            changed = "the files of data.root, the pretrained weights or the model of bridge.masks changed"
            raise ValueError(f"{this.workdir}: {changed} since its stage {name!r}. {_ADVICE}")
    for name in STAGES:
        if this.done(name) or name not in stages:
            continue
        for missing in _needed(this.config, name):
            if missing not in stages and not this.done(missing):
                raise ValueError(
                    f"stage {name!r} needs stage {missing!r}, which is not done: run it too, or no --stages"
                )


def _needed(config: Config, name: str) -> list[str]:
    """Returns the stages that a stage reads, or that those read: annotated masks need no U-Nets."""
    before = list(STAGES)[: list(STAGES).index(name)]
    if name not in ("bridge", "classify"):
        return before
    spare = ("segment", "score") if config.bridge.masks == "annotated" else ("score",)
    return [stage for stage in before if stage not in spare]


def _bound(values: dict) -> dict:
    """Returns the fields of a config that are not free, by their dotted names."""
    return {name: value for name, value in flatten(values).items() if not name.startswith(FREE)}
