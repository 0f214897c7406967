"""The stages of a run, their order, and what is already done."""

import contextlib
import hashlib
import json
import logging
import pathlib
import time
from collections.abc import Callable, Sequence

from segfusion_jax.config import Config
from segfusion_jax.datasets import prepared
from segfusion_jax.pipeline import plan as planning
from segfusion_jax.pipeline import released
from segfusion_jax.pipeline.changes import Changes, changes, refusal, schedule_told
from segfusion_jax.pipeline.dependence import TRAINED, files, fingerprints, values
from segfusion_jax.pipeline.reuse import go_on, take_over
from segfusion_jax.pipeline.run import Run
from segfusion_jax.pipeline.stages.bridge import bridge
from segfusion_jax.pipeline.stages.classify import classify
from segfusion_jax.pipeline.stages.evaluate import evaluate
from segfusion_jax.pipeline.stages.prepare import prepare
from segfusion_jax.pipeline.stages.report import report
from segfusion_jax.pipeline.stages.score import score
from segfusion_jax.pipeline.stages.segment import segment
from segfusion_jax.plugins import contracts
from segfusion_jax.runtime.devices import Devices
from segfusion_jax.runtime.locks import owned
from segfusion_jax.runtime.log import show
from segfusion_jax.runtime.progress import duration

_log = logging.getLogger(__name__)


STAGES: dict[str, Callable[[Run], None]] = {
    "prepare": prepare,
    "segment": segment,
    "score": score,
    "bridge": bridge,
    "classify": classify,
    "evaluate": evaluate,
    "report": report,
}
"""In the order in which they run. Each writes the folder that bears its name from what those before it wrote."""


def run(
    config: Config,
    workdir: pathlib.Path,
    stages: Sequence[str] = tuple(STAGES),
    *,
    reuse: Sequence[pathlib.Path] = (),
) -> Run:
    """Runs stages in their order; one that is done already is skipped, one that was stopped goes on.

    A stage that does not train runs again where a field changed that it depends on, see `dependence`; a training goes
    on where it is only to have more epochs than it had.

    Args:
      config: config of the experiment.
      workdir: a new folder, or one of an experiment that trained nothing that this one would train otherwise.
      stages: names of the stages that are run.
      reuse: other workdirs, whose stages are taken over where they did the same.

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
    contracts.check(config)
    config = released.resolved(config)
    this = Run(config, workdir, stages)
    devices = this.devices
    _check_batch_sizes(config, devices)
    digest = hashlib.sha256(config.to_json().encode()).hexdigest()[:8]
    devices.wait_for_all(f"the start, with the workdir {workdir} and a config of digest {digest}")
    _check_is_run(this)
    found = _check_changes(changes(this), this)
    _check_weights(this)
    _check_stages(this, stages, found)
    lead = _Lead(this) if devices.is_lead else None
    if lead:
        lead.check()
        lead.remember()
    if all(this.done(name) for name in stages) and not set(stages) & set(found.again):
        _log.info("%s: all is done already", workdir)
        return this
    devices.wait_for_all("workdir checked")
    with owned(this.lock, what=str(workdir)) if lead else contextlib.nullcontext():
        if lead:
            lead.claim(stages, reuse)
        devices.wait_for_all("workdir claimed")
        for name in STAGES:
            if name in stages:
                _perform(this, name, lead)
    return this


class _Lead:
    """What the process does that writes: it knows the content of the files that the config names.

    Args:
      run: the run.
    """

    def __init__(self, run: Run):
        self._run = run
        self._digests = run.digests
        self._contents = prepared.contents(run.config.data, self._digests)
        self._files = files(run.config, self._contents.fingerprint)

    def check(self) -> Changes:
        """Returns what is otherwise than the workdir has it.

        Raises:
          ValueError: it is of another config, of other files or of another version.
        """
        found = _check_changes(changes(self._run, self._files, self._contents.images), self._run)
        for name in STAGES:
            if name not in found.again and self._run.done(name) not in (None, self.fingerprint(name)):
                raise ValueError(
                    f"{self._run.workdir}: another version of segfusion_jax did its stage {name!r}. "
                    "Give another --workdir"
                )
        return found

    def claim(self, stages: Sequence[str], reuse: Sequence[pathlib.Path]) -> None:
        """Makes the workdir this config's, now that nobody else changes it, with what other workdirs have for it."""
        _check_is_run(self._run)
        found = self.check()
        _check_stages(self._run, stages, found)
        longer = self._run.longer
        if found.longer:
            before = found.epochs_before
            _log.info("%s", schedule_told(self._run.config, found.longer, before))
            longer = {**longer, found.longer: [*longer.get(found.longer, []), before]}
        if anew := [name for name in found.again if name != found.longer]:
            _log.info("%s: %s is not done any more", "; ".join(found.told.values()), ", ".join(anew))
        for name in found.again:
            self._run.forget(name)
        if found.longer:
            go_on(self._run.folder(found.longer))
        self._run.write_settings(self._files, longer)
        self.remember()
        take_over(self._run, reuse, self._files, prepared.store_name(self._contents))

    def remember(self) -> None:
        """Keeps what was read of files for the next start, where images are prepared."""
        if self._run.is_prepared:
            self._digests.save()

    def fingerprint(self, stage: str) -> str:
        """Returns a hash of all that the result of a stage depends on."""
        bound = values(json.loads(self._run.config.to_json()))
        return fingerprints(bound, self._files, self._run.longer)[stage]


def _perform(this: Run, name: str, lead: _Lead | None) -> None:
    if this.done(name):
        _log.info("stage %s was done before", name)
        return
    _log.info("stage %s", name)
    start = time.monotonic()
    if lead and name not in TRAINED:
        this.clear(name)
    this.devices.wait_for_all(f"the start of {name}")
    STAGES[name](this)
    seconds = time.monotonic() - start
    if lead:
        this.mark_done(name, lead.fingerprint(name), seconds)
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
    contracts.check(config)
    config = released.resolved(config)
    this = Run(config, workdir)
    _check_batch_sizes(config, this.devices)
    _check_is_run(this)
    _check_changes(changes(this), this)
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


def _check_is_run(this: Run) -> None:
    if this.read_settings() is None and not this.is_empty:
        raise ValueError(f"{this.workdir} is not empty and holds no config.json: give a new folder as --workdir")


def _check_changes(found: Changes, this: Run) -> Changes:
    if found.refused:
        raise ValueError(refusal(this, found))
    return found


def _check_stages(this: Run, stages: Sequence[str], found: Changes) -> None:
    """Checks that nothing between what is done and `stages` is missing."""
    done = {name for name in STAGES if this.done(name) and name not in found.again}
    for name in (name for name in STAGES if name in stages and name not in done):
        for missing in _needed(this.config, name):
            if missing not in stages and missing not in done:
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
