"""The training loop: steps, validation, checkpoints; and going on where a stopped run was."""

import collections
import contextlib
import dataclasses
import hashlib
import itertools
import json
import math
import pathlib
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import jax
import numpy as np
from absl import logging

from segfusion_jax.config import Checkpointing, Input
from segfusion_jax.input.loader import TrainStream
from segfusion_jax.models.functional import Variables
from segfusion_jax.runtime import interruption
from segfusion_jax.runtime.devices import Devices
from segfusion_jax.training.checkpoint import Checkpoints
from segfusion_jax.training.metric_log import MetricLog
from segfusion_jax.training.progress import Progress
from segfusion_jax.training.state import TrainState

_CALLS_AHEAD = 4
"""Calls of the train step that may wait for the device: enough to keep it busy, few enough for its memory."""

Validate = Callable[[Variables, Variables], dict[str, float]]
"""Params and batch_stats to metrics on validation data."""


@dataclasses.dataclass(frozen=True)
class Fit:
    """One training.

    Attributes:
      name: in progress lines.
      folder: of its checkpoints and metrics.
      train_step: `(state, batch) -> (state, metrics)`, compiled for the batches of `stream`; metrics are of one step or
        [steps].
      stream: of training batches.
      validate: run after every epoch.
      best_metric: of `validate`; its largest value chooses the weights.
      epochs: how many.
      steps_per_epoch: how long one is.
    """

    name: str
    folder: pathlib.Path
    train_step: Callable[[TrainState, dict], tuple[TrainState, dict[str, jax.Array]]]
    stream: TrainStream
    validate: Validate
    best_metric: str
    epochs: int
    steps_per_epoch: int


@dataclasses.dataclass(frozen=True)
class _Best:
    """Params and batch_stats, on the host, after `step` steps, and their score; -inf before the first validation."""

    variables: tuple[Variables, Variables]
    step: int = 0
    score: float = -math.inf


def fit(
    task: Fit, state: TrainState, devices: Devices, config: Input, checkpointing: Checkpointing
) -> tuple[Variables, Variables]:
    """Trains to the end, from the newest checkpoint of `task.folder` where there is one.

    A checkpoint is written at every epoch's end, before the validation, and now and then between. A training that goes
    on from an epoch's end starts with that validation.

    Returns:
      The params and batch_stats with the best validation metric, on the host.

    Raises:
      FloatingPointError: a loss or gradient is not finite; names the step, the images and the last good checkpoint.
      ValueError: the checkpoint was written by another model or for other images.
      OSError: a checkpoint cannot be written.
      interruption.Stopped: the process was asked to stop; the training is saved.
    """
    with contextlib.closing(Checkpoints(task.folder / "checkpoints", devices, keep=checkpointing.keep)) as checkpoints:
        state, best = _start(task, devices.replicate(state), checkpoints)
        step = int(state.step)
        with MetricLog(task.folder, from_step=step, enabled=devices.is_lead) as log:
            training = _Training(
                task, devices, config, checkpoints, checkpointing.seconds, log, best, int(state.skipped)
            )
            with contextlib.closing(_epochs(task, step, devices, config)) as epochs:
                for epoch, batches in epochs:
                    with interruption.deferred() as asked:
                        state = training.train(state, epoch, batches, asked)
                    training.validate(state, epoch)
            return training.best.variables


def _start(task: Fit, state: TrainState, checkpoints: Checkpoints) -> tuple[TrainState, _Best]:
    """The state to go on from, and the best weights so far."""
    best = _Best(jax.device_get(state.evaluated))
    restored = checkpoints.restore({"state": state, "best": best.variables})
    if restored is None:
        return state, best
    arrays, facts = restored
    if facts["position"] != _position(task.stream, facts["position"]["next_step"]):
        raise ValueError(f"{task.folder}: the checkpoint's input position {facts['position']} is not of these images")
    logging.info("%s: going on after step %d", task.name, facts["position"]["next_step"])
    if facts["best"] is None:
        return arrays["state"], best
    return arrays["state"], _Best(arrays["best"], **facts["best"])


def _epochs(task: Fit, step: int, devices: Devices, config: Input) -> Generator[tuple[int, Iterator[dict]], None, None]:
    """Each epoch that is not validated after `step` steps, and its batches from there on.

    All are read in one go, so that worker processes start once.
    """
    first, last = max(step - 1, 0) // task.steps_per_epoch, task.epochs * task.steps_per_epoch
    share: dict[str, int] = dict(process=devices.process, num_processes=devices.num_processes)
    with contextlib.ExitStack() as opened:

        def read(start: int, stop: int) -> Iterator[dict]:
            if start == stop:
                return iter(())
            return opened.enter_context(contextlib.closing(task.stream.batches(start, stop, config, **share)))

        # an on-device stream's blocks of steps end with an epoch
        everything = None if task.stream.on_device else read(step, last)
        for epoch in range(first, task.epochs):
            stop = (epoch + 1) * task.steps_per_epoch
            yield epoch, read(step, stop) if everything is None else itertools.islice(everything, stop - step)
            step = stop


class _Training:
    """A training that runs, and the best weights so far."""

    def __init__(
        self,
        task: Fit,
        devices: Devices,
        config: Input,
        checkpoints: Checkpoints,
        seconds: float,
        log: MetricLog,
        best: _Best,
        skipped: int,
    ):
        self.best = best
        self._task = task
        self._devices = devices
        self._checkpoints = checkpoints
        self._seconds = seconds
        self._log = log
        steps, batch_size = task.epochs * task.steps_per_epoch, task.stream.batch_size
        self._progress = Progress(task.name, steps=steps, batch_size=batch_size, seconds=config.log_seconds, log=log)
        self._saved = time.monotonic()
        self._skipped, self._skipped_in_a_row = skipped, 0

    def train(self, state: TrainState, epoch: int, batches: Iterator[dict], asked: Callable[[], bool]) -> TrainState:
        """Makes the steps of an epoch and saves; stops where this process or another one was `asked` to."""
        step, end = int(state.step), (epoch + 1) * self._task.steps_per_epoch
        pending: list[dict[str, jax.Array]] = []
        wishes: collections.deque[Any] = collections.deque()
        self._progress.restart(step)
        for batch in batches:
            state, metrics = self._task.train_step(state, batch)
            step += metrics["loss"].size
            pending.append(metrics)
            jax.block_until_ready(pending[:-_CALLS_AHEAD][-1:])
            self._wait_for_first(metrics, step)
            wishes.append(self._devices.any_process(asked() or self._is_checkpoint_due()))
            save = step < end and self._is_agreed(wishes)
            if save or step == end or self._progress.is_due():
                self._record(pending, step)
                pending = []
            if save:
                self._save(state, step)
                self._stop_if(asked())
                wishes.clear()
        if self._checkpoints.latest_step() != end:
            self._save(state, end)
        self._stop_if(asked())
        return state

    def validate(self, state: TrainState, epoch: int) -> None:
        """Scores the weights, and keeps the best."""
        task, step = self._task, int(state.step)
        metrics = task.validate(*state.evaluated)
        self._log.write(step, epoch + 1, "validation", metrics)
        shown = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        logging.info("%s: epoch %d of %d: validation %s", task.name, epoch + 1, task.epochs, shown)
        if metrics[task.best_metric] > self.best.score:
            self.best = _Best(jax.device_get(state.evaluated), step, metrics[task.best_metric])

    def _wait_for_first(self, metrics: dict[str, jax.Array], step: int) -> None:
        """The first call may compile, which says nothing about the rate."""
        if not self._progress.warm:
            jax.block_until_ready(metrics)
            self._progress.warm = True
            self._progress.restart(step)

    def _is_checkpoint_due(self) -> bool:
        return self._devices.is_lead and time.monotonic() - self._saved >= self._seconds

    def _is_agreed(self, wishes: collections.deque[Any]) -> bool:
        """Whether a process wished for a checkpoint: alike on all of them, which hear of each other with a delay."""
        delay = 0 if self._devices.num_processes == 1 else 1 if self._task.stream.on_device else _CALLS_AHEAD
        return len(wishes) > delay and bool(wishes.popleft())

    def _save(self, state: TrainState, step: int) -> None:
        self._log.flush()  # a checkpoint's steps are in the log
        best = {"step": self.best.step, "score": self.best.score} if self.best.step else None
        facts = {"position": _position(self._task.stream, step), "best": best}
        self._checkpoints.save(step, {"state": state, "best": self.best.variables}, facts)
        self._saved = time.monotonic()

    def _stop_if(self, asked: bool) -> None:
        if bool(self._devices.any_process(asked)):
            interruption.stop_together()

    def _record(self, pending: list[dict[str, jax.Array]], stop: int) -> None:
        """Writes the metrics of the steps that led to `stop`, after checking that they are finite."""
        fetched = jax.device_get(pending)
        history = {name: np.concatenate([np.ravel(metrics[name]) for metrics in fetched]) for name in fetched[0]}
        start = stop - len(history["loss"])
        finite = np.all([np.isfinite(values) for values in history.values()], axis=0)
        skipped = history.get("skipped", np.zeros(len(finite))) > 0
        if not (finite | skipped).all():
            self._refuse(history, start, int(np.argmin(finite | skipped)))
        for place in range(len(finite)):
            step, metrics = start + place + 1, {name: float(values[place]) for name, values in history.items()}
            self._log.write(step, step / self._task.steps_per_epoch, "train", metrics)
        self._count(skipped, stop)
        if finite.any():
            self._progress.show(stop, history["loss"][finite].mean())

    def _refuse(self, history: dict[str, np.ndarray], start: int, place: int) -> None:
        name, value = next((name, v[place]) for name, v in history.items() if not np.isfinite(v[place]))
        good = self._checkpoints.latest_step()
        kept = "there is no checkpoint yet" if good is None else f"the checkpoint of step {good} is good"
        images = ", ".join(self._task.stream.image_ids(start + place))
        text = f"{self._task.name}: {name} is {value} at step {start + place + 1}; {kept}; images: {images}"
        raise FloatingPointError(text)

    def _count(self, skipped: np.ndarray, stop: int) -> None:
        """Warns of skipped steps; stops where those of a whole epoch, and ten at least, were skipped in a row."""
        for one in skipped:
            self._skipped += int(one)
            self._skipped_in_a_row = self._skipped_in_a_row + 1 if one else 0
        if skipped.any():
            text = "%s: %d steps skipped up to step %d: loss or gradient was not finite"
            logging.warning(text, self._task.name, self._skipped, stop)
        if self._skipped_in_a_row >= max(self._task.steps_per_epoch, 10):
            text = f"{self._task.name}: the {self._skipped_in_a_row} steps up to step {stop} were all skipped"
            raise FloatingPointError(f"{text}, since their loss or gradient was not finite")


def _position(stream: TrainStream, step: int) -> dict[str, Any]:
    """Where the input is after `step` steps, and which input it is."""
    rows = [(row.image_id, row.target) for row in stream.examples.rows]
    images = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    return {"next_step": step, "seed": stream.seed, "batch_size": stream.batch_size, "images": images}
