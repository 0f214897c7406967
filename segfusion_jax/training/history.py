"""What is told of a training while it runs: a line of metrics a step in its files, and lines of progress."""

import logging

import jax
import numpy as np

from segfusion_jax.runtime.devices import Devices
from segfusion_jax.runtime.progress import Progress
from segfusion_jax.training.guard import Guard
from segfusion_jax.training.metric_log import MetricLog
from segfusion_jax.training.state import TrainState
from segfusion_jax.training.task import Task

_log = logging.getLogger(__name__)

CALLS_AHEAD = 4
"""Calls of the train step that may wait for the device: enough to keep it busy, few enough for its memory."""


class History:
    """Holds the metrics of steps, which may still be computed, until they are due.

    Args:
      task: the training.
      state: the state that it starts from.
      guard: checks the metrics before they are written.
      devices: devices, of whose processes the lead one writes.
      seconds: between lines of progress.
    """

    def __init__(self, task: Task, state: TrainState, guard: Guard, devices: Devices, *, seconds: float):
        self._task = task
        self._guard = guard
        self._step = int(state.step)
        self._pending: list[dict[str, jax.Array]] = []
        self._is_warm = False  # whether a step was made, which may have compiled
        self._log = MetricLog(task.folder, from_step=self._step, enabled=devices.is_lead, own=task.metric_logger)
        total = task.steps * task.stream.batch_size
        self._progress = Progress(task.name, total=total, done=self._images, seconds=seconds)
        text = "%s: %d steps of %d images, %d an epoch"
        _log.info(text, task.name, task.steps, task.stream.batch_size, task.steps_per_epoch)

    @property
    def _images(self) -> int:
        return self._step * self._task.stream.batch_size

    def add(self, metrics: dict[str, jax.Array]) -> None:
        """Takes the metrics of the next step, or steps; waits where too many calls are ahead of the device."""
        self._step += metrics["loss"].size
        self._pending.append(metrics)
        jax.block_until_ready(self._pending[:-CALLS_AHEAD][-1:])
        if not self._is_warm:  # the first call may compile, which says nothing about the rate
            jax.block_until_ready(metrics)
            self._is_warm = True
            self._progress.restart(self._images)

    def is_due(self) -> bool:
        """Returns whether it is time for a line of progress."""
        return self._progress.is_due()

    def write(self) -> None:
        """Writes what is held, with a line of progress.

        Raises:
          FloatingPointError: of the guard.
        """
        if not self._pending:
            return
        fetched, self._pending = jax.device_get(self._pending), []
        columns = {name: np.concatenate([np.ravel(metrics[name]) for metrics in fetched]) for name in fetched[0]}
        made = self._guard.check(columns, self._step)
        for step, row in enumerate(zip(*columns.values(), strict=True), self._step - len(made) + 1):
            metrics = dict(zip(columns, map(float, row), strict=True))
            self._log.write(step, step / self._task.steps_per_epoch, "train", metrics)
        self._guard.count(made, self._step)
        if made.any():
            rate, pace = self._progress.rate(self._images), self._progress.pace(self._images)
            self._log.write_rate(self._step, rate)
            loss, text = columns["loss"][made].mean(), "%s: step %d of %d, loss %.4f, %s"
            _log.info(text, self._task.name, self._step, self._task.steps, loss, pace)
            self._progress.restart(self._images)

    def flush(self) -> None:
        """Writes what is held; once it returns, all lines outlive this process and a loss of power."""
        self.write()
        self._log.flush()

    def write_validation(self, epoch: int, metrics: dict[str, float]) -> None:
        """Writes the metrics after the epoch numbered so, from 0 on."""
        self._log.write(self._step, epoch + 1, "validation", metrics)
        shown = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        _log.info("%s: epoch %d of %d: validation %s", self._task.name, epoch + 1, self._task.epochs, shown)
        self._progress.restart(self._images)

    def close(self) -> None:
        """Closes the files."""
        self._log.close()
