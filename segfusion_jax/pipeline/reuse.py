"""Stages that another workdir did in the same way, taken over as links; and trainings that go on for longer."""

import dataclasses
import json
import logging
import os
import pathlib
import shutil
from collections.abc import Mapping, Sequence

from segfusion_jax.pipeline.changes import schedule_told
from segfusion_jax.pipeline.dependence import DEPENDS, TRAINED, fingerprints, values
from segfusion_jax.pipeline.run import Run

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _Other:
    """A run that stages may be taken over from.

    Attributes:
      run: the run, with its own config.
      values: as of `dependence.values`.
    """

    run: Run
    values: Mapping[str, object]

    def longer(self, stage: str) -> list[int]:
        """Returns for how many epochs a stage was trained there before it was trained for longer."""
        return self.run.longer.get(stage, [])


def take_over(run: Run, others: Sequence[pathlib.Path], files: Mapping[str, str], store: str) -> None:
    """Takes over what the first of other workdirs has that did the same, stage by stage.

    Files are linked: what a stage wrote is never written again, but removed. A training that is the same but for fewer
    epochs is copied, so that it goes on from its last state.

    Args:
      run: the run; its settings are written.
      others: workdirs; one that is none has nothing.
      files: of `dependence.files`.
      store: name of the run's record store.
    """
    read = [Run.open(path) for path in others if Run(run.config, path).read_settings() is not None]
    known = [_Other(other, values(json.loads(other.config.to_json()))) for other in read]
    for other in known:
        if not run.has_store(store) and other.run.has_store(store):
            _log.info("the prepared images are taken over from %s", other.run.workdir)
            _link_tree(other.run.records / store, run.records / store, last="images.csv")
    ours = values(json.loads(run.config.to_json()))
    for stage in (stage for stage in DEPENDS if not run.done(stage)):
        for take in (_same, _shorter):
            if any(take(run, other, stage, ours, files) for other in known):
                break


def go_on(folder: pathlib.Path) -> None:
    """Makes the folder of a training one that can go on: without weights, and without links that others have to it."""
    for path in folder.rglob("weights.safetensors"):
        path.unlink()
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_nlink > 1:
            copy = path.with_name(f".{path.name}.own")
            shutil.copy2(path, copy)
            copy.replace(path)


def _same(run: Run, other: _Other, stage: str, ours: Mapping[str, object], files: Mapping[str, str]) -> bool:
    """Links a stage that the other did alike; returns whether it did."""
    longer = run.longer | {stage: other.longer(stage)}
    if other.run.done(stage) != fingerprints(ours, files, longer)[stage]:
        return False
    _log.info("stage %s is taken over from %s", stage, other.run.workdir)
    if other.longer(stage):
        run.write_longer(longer)
    _link_tree(other.run.folder(stage), run.folder(stage), last="done.json")
    return True


def _shorter(run: Run, other: _Other, stage: str, ours: Mapping[str, object], files: Mapping[str, str]) -> bool:
    """Copies a training that the other did alike for fewer epochs; returns whether it did."""
    if stage not in TRAINED or run.has_begun(stage):
        return False
    field = TRAINED[stage]
    before = other.values[field]
    longer = run.longer | {stage: other.longer(stage)}
    as_there = fingerprints({**ours, field: before}, files, longer)[stage]
    if other.run.done(stage) != as_there or not before < ours[field]:  # pyright: ignore[reportOperatorIssue]
        return False
    _log.info("stage %s begins with what %s has", stage, other.run.workdir)
    _log.info("%s", schedule_told(run.config, stage, int(before)))  # pyright: ignore[reportArgumentType]
    unfinished = run.workdir / f".{stage}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    left_out = shutil.ignore_patterns("done.json", "weights.safetensors")
    shutil.copytree(other.run.folder(stage), unfinished, ignore=left_out)
    run.write_longer({**longer, stage: [*longer[stage], int(before)]})  # pyright: ignore[reportArgumentType]
    unfinished.rename(run.folder(stage))
    return True


def _link_tree(source: pathlib.Path, target: pathlib.Path, *, last: str = "") -> None:
    """Links the files of a folder; `last` is linked last."""
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
