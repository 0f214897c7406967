"""How a config differs from the one that a workdir was written by, and what would have to run again."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from segfusion_jax.config import Config
from segfusion_jax.datasets import identity, prepared
from segfusion_jax.pipeline import released
from segfusion_jax.pipeline.dependence import ADDED, DEPENDS, PLACES, TRAINED, stage_of, values
from segfusion_jax.pipeline.run import Run
from segfusion_jax.training.optimizer import make_schedule

_NAMED = 10


@dataclasses.dataclass(frozen=True)
class Changes:
    """What is otherwise, here, than where a workdir was written.

    Attributes:
      told: what changed, in words, by field.
      again: stages that are done there, or a training that was begun, and depend on it.
      longer: the one of them that only trains for more epochs than before; "" = none.
      epochs_before: for how many it did.
    """

    told: Mapping[str, str]
    again: tuple[str, ...] = ()
    longer: str = ""
    epochs_before: int = 0

    @property
    def refused(self) -> bool:
        """Whether images would have to be dealt anew, or something be trained anew."""
        return any(stage in ("prepare", *TRAINED) for stage in self.again if stage != self.longer)


def changes(
    run: Run, files: Mapping[str, str] | None = None, images: Mapping[str, identity.Content] | None = None
) -> Changes:
    """Compares a run with what its workdir was written by.

    Args:
      run: the run.
      files: of `dependence.files`; None leaves the content of files aside.
      images: what the images are now.

    Raises:
      ValueError: another version of segfusion_jax, with other fields, wrote the workdir.
    """
    written = run.read_settings()
    if written is None:
        return Changes({})
    theirs, ours = values(written["config"]), values(json.loads(run.config.to_json()))
    begun = [stage for stage in DEPENDS if _is_begun(run, stage)]
    free = ("data.collections.", *ADDED)
    differing = [name for name in theirs.keys() ^ ours.keys() if not name.startswith(free)]
    unknown = sorted(name for name in differing if stage_of(name) != "report")  # which any version may write again
    unknown += [] if "files" in written else ["digests of the files"]
    if unknown:
        if not begun:
            return Changes({})
        listed = ", ".join(unknown[:_NAMED])
        raise ValueError(
            f"{run.workdir} was written by another version of segfusion_jax, without or with {listed}. "
            "Give another --workdir"
        )
    told = {
        name: f"{name} is {theirs.get(name)!r} there, {ours.get(name)!r} here"
        for name in sorted({*theirs, *ours})
        if theirs.get(name) != ours.get(name)
    }
    told |= _files_told(run, written["files"], files, images)
    order = list(DEPENDS)
    first = min((order.index(_stage_of(name)) for name in told), default=len(order))
    again = tuple(stage for stage in begun if order.index(stage) >= first)
    longer = _longer(order[first], told, theirs, ours) if first < len(order) else ""
    if longer not in again:
        return Changes(told, again)
    return Changes(told, again, longer, theirs[TRAINED[longer]])


def refusal(run: Run, found: Changes) -> str:
    """Says what changed, what would run again for it, and how that is asked for."""
    done = [stage for stage in DEPENDS if run.done(stage)]
    kept, again = ([s for s in done if s not in found.again], [s for s in DEPENDS if s in found.again])
    listed = "; ".join(list(found.told.values())[:_NAMED])
    goes_on = f"{found.longer} would go on from its last epoch and " if found.longer else ""
    again = [stage for stage in again if stage != found.longer]
    taken = f"; {', '.join(kept)} would be taken over" if kept else ""
    whose = (
        "was made of other files" if found.told.keys() <= {*PLACES, *released.DIGESTS} else "belongs to another config"
    )
    return (
        f"{run.workdir} {whose}: {listed}. {goes_on}{', '.join(again)} would run again{taken}. "
        f"Give another --workdir, with --reuse {run.workdir}, which does so and leaves this one as it is"
    )


def schedule_told(config: Config, stage: str, before: int) -> str:
    """Says what happens to the learning rate of a stage that was trained for `before` epochs, and now for more."""
    section = "segmenter" if stage == "segment" else "classifier"
    training = getattr(config, section).training
    old = dataclasses.replace(training, epochs=before, warmup_epochs=min(training.warmup_epochs, before))
    parts = 1000  # of an epoch, each as if it were a step
    had, has = (float(np.asarray(make_schedule(one, parts)(before * parts))) for one in (old, training))
    then = "stays" if abs(had - has) < 1e-3 * has else f"goes from {had:.3g} to {has:.3g}"
    return (
        f"stage {stage} goes on from its last state, after {before} epochs, to {training.epochs}: its learning rate "
        f"{then} and follows the {training.schedule} schedule of {training.epochs} epochs from there on"
    )


def _is_begun(run: Run, stage: str) -> bool:
    return run.has_begun(stage) if stage in TRAINED else run.done(stage) is not None


def _files_told(
    run: Run,
    theirs: Mapping[str, str],
    ours: Mapping[str, str] | None,
    images: Mapping[str, identity.Content] | None,
) -> dict[str, str]:
    if ours is None:
        return {}
    told = {}
    for name in sorted({*theirs, *ours}):
        if theirs.get(name) == ours.get(name):
            continue
        if name == "data.root":
            before = prepared.read_contents(run.folder("prepare"))
            what = identity.differences(before, images or {}) if before else ""
            told[name] = f"the images changed: {what or 'what is known of them, or of their duplicates'}"
        else:
            told[name] = f"{released.DIGESTS.get(name, f'the file of {name}')} changed"
    return told


def _stage_of(name: str) -> str:
    stage = stage_of(name)
    assert stage is not None  # of fields that `values` leaves out
    return stage


def _longer(stage: str, told: Mapping[str, Any], theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """Returns `stage`, the first that something changed for, if all that changed is that it trains for longer."""
    field = TRAINED.get(stage, "")
    alone = [name for name in told if stage_of(name) == stage] == [field]
    return stage if alone and theirs[field] < ours[field] else ""
