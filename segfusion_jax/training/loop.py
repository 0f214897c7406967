"""The training loop: steps, validation, checkpoints, progress; and going on where a stopped run was."""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import math
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from absl import logging

from segfusion_jax.config import Input
from segfusion_jax.input.loader import TrainStream
from segfusion_jax.models.functional import Variables
from segfusion_jax.parallel import Devices
from segfusion_jax.training.checkpoint import Checkpoints
from segfusion_jax.training.metric_log import MetricLog
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


def fit(task: Fit, state: TrainState, devices: Devices, config: Input) -> TrainState:
    """Trains to the end, from the newest checkpoint of `task.folder` where there is one.

    Returns:
      The state with the best validation metric.

    Raises:
      FloatingPointError: a loss or gradient is not finite; names the step, the images and the last good checkpoint.
      ValueError: the checkpoint was written by another model or for other images.
    """
    with contextlib.closing(Checkpoints(task.folder / "checkpoints", best_metric=task.best_metric)) as checkpoints:
        return _fit(task, state, devices, config, checkpoints)


def _fit(task: Fit, state: TrainState, devices: Devices, config: Input, checkpoints: Checkpoints) -> TrainState:
    state = devices.replicate(state)
    if checkpoints.latest_step() is not None:
        state, position = checkpoints.restore_latest(state)
        if position != _position(task.stream, int(state.step)):
            raise ValueError(f"{task.folder}: the checkpoint's input position {position} is not of these images")
    with MetricLog(task.folder, from_step=int(state.step), enabled=devices.is_lead) as log:
        progress = _Progress(task, config.log_seconds)
        first = int(state.step) // task.steps_per_epoch
        for epoch, batches in enumerate(_epochs(task, int(state.step), devices, config), first):
            state = _train_epoch(task, state, epoch, batches, log, progress, checkpoints.latest_step())
            metrics = task.validate(*state.evaluated)
            log.write(int(state.step), epoch + 1, "validation", metrics)
            shown = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
            logging.info("%s: epoch %d of %d: validation %s", task.name, epoch + 1, task.epochs, shown)
            checkpoints.save(state, _position(task.stream, int(state.step)), metrics)
        return checkpoints.restore_best(state)


def _epochs(task: Fit, step: int, devices: Devices, config: Input) -> Iterator[Iterator[dict]]:
    """The batches from `step` on, by epoch. All are read in one go, so that worker processes start once."""
    ends = range((step // task.steps_per_epoch + 1) * task.steps_per_epoch, task.epochs * task.steps_per_epoch + 1)
    ends = ends[:: task.steps_per_epoch]
    share: dict[str, int] = dict(process=devices.process, num_processes=devices.num_processes)
    if task.stream.resident:  # whose blocks of steps end with an epoch
        for start, end in zip((step, *ends), ends, strict=False):
            yield task.stream.batches(start, end, config, **share)
    elif ends:
        with contextlib.closing(task.stream.batches(step, ends[-1], config, **share)) as batches:
            for start, end in zip((step, *ends), ends, strict=False):
                yield itertools.islice(batches, end - start)


def _train_epoch(
    task: Fit,
    state: TrainState,
    epoch: int,
    batches: Iterator[dict],
    log: MetricLog,
    progress: "_Progress",
    last_good: int | None,
) -> TrainState:
    step, stop = int(state.step), (epoch + 1) * task.steps_per_epoch
    pending: list[dict[str, jax.Array]] = []
    progress.restart(step)
    for batch in batches:
        state, metrics = task.train_step(state, batch)
        step += metrics["loss"].size
        pending.append(metrics)
        jax.block_until_ready(pending[:-_CALLS_AHEAD][-1:])
        if not progress.warm:
            jax.block_until_ready(metrics)  # the first call may compile, which says nothing about the rate
            progress.warm = True
            progress.restart(step)
        if step == stop or progress.is_due():
            recent = _fetch(pending, step, task, last_good)
            log.write(step, step / task.steps_per_epoch, "train", recent | progress.rates(step))
            progress.show(step, recent["loss"])
            pending = []
    return state


def _fetch(pending, stop, task, last_good) -> dict[str, float]:
    """The mean of the metrics of the steps that led to `stop`, after checking that each of them is finite."""
    fetched = jax.device_get(pending)
    history = {name: np.concatenate([np.ravel(metrics[name]) for metrics in fetched]) for name in fetched[0]}
    finite = np.all([np.isfinite(values) for values in history.values()], axis=0)
    if not finite.all():
        place = int(np.argmin(finite))
        name, value = next((name, v[place]) for name, v in history.items() if not np.isfinite(v[place]))
        step = stop - len(finite) + place
        kept = "there is no checkpoint yet" if last_good is None else f"the checkpoint of step {last_good} is good"
        images = ", ".join(task.stream.image_ids(step))
        raise FloatingPointError(f"{task.name}: {name} is {value} at step {step}; {kept}; images: {images}")
    return {name: float(values.mean()) for name, values in history.items()}


def _position(stream: TrainStream, step: int) -> dict[str, Any]:
    """Where the input is after `step` steps, and which input it is."""
    rows = [(row.image_id, row.target) for row in stream.examples.rows]
    images = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    return {"next_step": step, "seed": stream.seed, "batch_size": stream.batch_size, "images": images}


class _Progress:
    """Says now and then how far a training is, how fast, and when it will be done."""

    def __init__(self, task: Fit, seconds: float):
        self.warm = False
        self._task = task
        self._seconds = seconds
        self._rate = 0.0

    def restart(self, step: int) -> None:
        """Forgets the time before, at which `step` steps were done."""
        self._shown = self._measured = time.monotonic()
        self._step = step

    def is_due(self) -> bool:
        return time.monotonic() - self._shown >= self._seconds

    def rates(self, step: int) -> dict[str, float]:
        """Images a second since the last call."""
        now = time.monotonic()
        self._rate = (step - self._step) * self._task.stream.batch_size / (now - self._measured)
        self._measured, self._step = now, step
        return {"images_per_second": self._rate}

    def show(self, step: int, loss: float) -> None:
        self._shown = time.monotonic()
        total = self._task.epochs * self._task.steps_per_epoch
        left = (total - step) * self._task.stream.batch_size / self._rate if self._rate else math.inf
        logging.info(
            "%s: step %d of %d, loss %.4f, %.1f images/s, %s left",
            self._task.name,
            step,
            total,
            loss,
            self._rate,
            duration(left) if math.isfinite(left) else "?",
        )


def duration(seconds: float) -> str:
    """5 s, 3 min 20 s, 2 h 5 min."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
