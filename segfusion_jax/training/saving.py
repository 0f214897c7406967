"""Saving a training: when it is due, agreed among processes; what is written; and the best weights, a part of it."""

import collections
import hashlib
import json
import logging
import math
import time
from collections.abc import Mapping
from typing import Any

import jax

from segfusion_jax.models.functional import Variables
from segfusion_jax.runtime import interruption
from segfusion_jax.runtime.devices import Devices
from segfusion_jax.training.checkpoint import Checkpoints
from segfusion_jax.training.choice import rank
from segfusion_jax.training.history import CALLS_AHEAD, History
from segfusion_jax.training.state import TrainState
from segfusion_jax.training.task import Task

_log = logging.getLogger(__name__)


class Saving:
    """Decides when a training is saved, and what; all processes call its methods at the same points.

    Args:
      task: the training.
      devices: devices of its processes.
      checkpoints: the checkpoints that it writes.
      seconds: between two of them within an epoch.

    Attributes:
      best: the best params and batch_stats so far, on the host; set by `restore`, which comes first.
    """

    best: tuple[Variables, Variables]

    def __init__(self, task: Task, devices: Devices, checkpoints: Checkpoints, seconds: float):
        self._task = task
        self._devices = devices
        self._checkpoints = checkpoints
        self._seconds = seconds
        self._chosen: dict[str, Any] | None = None  # the step and the scores of the best; None before a validation
        self._saved = time.monotonic()
        self._wishes: collections.deque[Any] = collections.deque()
        self._delay = 0 if devices.num_processes == 1 else 1 if task.stream.on_device else CALLS_AHEAD

    def restore(self, state: TrainState) -> TrainState:
        """Returns the state to go on from: that of the newest checkpoint, or `state` where there is none.

        Raises:
          ValueError: the checkpoint was written by another model or for other images.
        """
        self.best = jax.device_get(state.evaluated)
        restored = self._checkpoints.restore({"state": state, "best": self.best})
        if restored is None:
            return state
        arrays, facts = restored
        position = facts["position"]
        if position != _position(self._task, position["next_step"]):
            raise ValueError(f"{self._task.folder}: the checkpoint's input position {position} is not of these images")
        _log.info("%s: going on after step %d", self._task.name, position["next_step"])
        self.best, self._chosen = arrays["best"], facts["best"]
        return arrays["state"]

    def is_due(self, asked: bool) -> bool:
        """Returns whether a process was `asked` to stop, or the lead finds it time: alike on all, which hear with a
        delay.
        """
        late = self._devices.is_lead and time.monotonic() - self._saved >= self._seconds
        self._wishes.append(self._devices.any_process(asked or late))
        return len(self._wishes) > self._delay and bool(self._wishes.popleft())

    def save(self, state: TrainState, history: History) -> None:
        """Writes a checkpoint, whose steps are in the history before; not again where nothing was done since.

        Raises:
          FloatingPointError: a number is not finite.
          OSError: it cannot be written.
        """
        history.flush()
        step = int(state.step)
        if self._checkpoints.latest_step() != step:
            facts = {"position": _position(self._task, step), "best": self._chosen}
            self._checkpoints.save(step, {"state": state, "best": self.best}, facts)
            self._saved = time.monotonic()
        self._wishes.clear()

    def stop_if(self, asked: bool) -> None:
        """Stops all processes where one of them was asked to.

        Raises:
          interruption.Stopped: it was so.
        """
        if bool(self._devices.any_process(asked)):
            interruption.stop_together()

    def keep_if_best(self, state: TrainState, scores: Mapping[str, float]) -> None:
        """Keeps the weights if they score as high as all before, or higher; of equal scores the lower loss counts."""
        metric = self._task.best_metric
        ours, theirs = rank(scores, metric), rank(self._chosen, metric) if self._chosen else (-math.inf, -math.inf)
        if ours >= theirs:
            kept = {"step": int(state.step), metric: scores[metric], "loss": scores["loss"]}
            self.best, self._chosen = jax.device_get(state.evaluated), kept


def _position(task: Task, step: int) -> dict[str, Any]:
    """Returns where the input is after `step` steps, and which input it is."""
    stream = task.stream
    rows = [(row.image_id, row.target) for row in stream.examples.rows]
    images = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    return {"next_step": step, "seed": stream.seed, "batch_size": stream.batch_size, "images": images}
