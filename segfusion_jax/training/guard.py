"""The guard against numbers that are not finite."""

import logging
from collections.abc import Callable, Mapping

import numpy as np

from segfusion_jax.training.task import Task

_log = logging.getLogger(__name__)


class Guard:
    """Stops a training whose loss or gradient is not finite; where its step skips such batches, it counts them.

    Args:
      task: the training.
      skipped: steps before.
      latest_step: tells the step of the newest checkpoint.
    """

    def __init__(self, task: Task, skipped: int, latest_step: Callable[[], int | None]):
        self._task = task
        self._latest_step = latest_step
        self._skipped, self._skipped_in_a_row = skipped, 0

    def check(self, history: Mapping[str, np.ndarray], stop: int) -> np.ndarray:
        """Returns which of the steps that led to `stop` changed the weights, [steps] bool; the others were skipped.

        Args:
          history: the metrics of these steps, each [steps].
          stop: the last of them, counted from 1.

        Raises:
          FloatingPointError: a metric of a step that was not skipped is not finite.
        """
        finite = np.all([np.isfinite(values) for values in history.values()], axis=0)
        good = finite | (history.get("skipped", np.zeros(len(finite))) > 0)
        if not good.all():
            place = int(np.argmin(good))
            name, value = next((name, v[place]) for name, v in history.items() if not np.isfinite(v[place]))
            raise FloatingPointError(self._refusal(f"{name} is {value}", stop - len(good) + place))
        return finite

    def count(self, made: np.ndarray, stop: int) -> None:
        """Counts skipped steps, and warns of them.

        Args:
          made: result of `check`.
          stop: the last of these steps, counted from 1.

        Raises:
          FloatingPointError: the steps of a whole epoch, and ten at least, were skipped in a row.
        """
        for one in made:
            self._skipped += not one
            self._skipped_in_a_row = 0 if one else self._skipped_in_a_row + 1
        if not made.all():
            text = "%s: %d steps skipped up to step %d: loss or gradient was not finite"
            _log.warning(text, self._task.name, self._skipped, stop)
        if self._skipped_in_a_row >= max(self._task.steps_per_epoch, 10):
            text = f"{self._task.name}: the {self._skipped_in_a_row} steps up to step {stop} were all skipped"
            raise FloatingPointError(f"{text}, since their loss or gradient was not finite")

    def _refusal(self, what: str, index: int) -> str:
        good = self._latest_step()
        kept = "there is no checkpoint yet" if good is None else f"the checkpoint of step {good} is good"
        images = ", ".join(self._task.stream.image_ids(index))
        return f"{self._task.name}: {what} at step {index + 1}; {kept}; images: {images}"
