"""How far a training is, how fast, and when it will be done."""

import time

from absl import logging

from segfusion_jax.training.metric_log import MetricLog


class Progress:
    """Says so now and then.

    Args:
      name: of the training.
      steps: of all of it.
      batch_size: images a step.
      seconds: between two lines.
      log: that the rates are written to.
    """

    def __init__(self, name: str, *, steps: int, batch_size: int, seconds: float, log: MetricLog):
        self.warm = False  # whether a step has been made, which may have compiled
        self._name = name
        self._steps = steps
        self._batch_size = batch_size
        self._seconds = seconds
        self._log = log

    def restart(self, step: int) -> None:
        """Forgets the time before, at which `step` steps were done."""
        self._start, self._first = time.monotonic(), step

    def is_due(self) -> bool:
        """Whether it is time for a line."""
        return time.monotonic() - self._start >= self._seconds

    def show(self, step: int, loss: float) -> None:
        """A line after `step` steps, `loss` being the mean since the last one."""
        rate = (step - self._first) * self._batch_size / max(time.monotonic() - self._start, 1e-6)
        self._log.write_rate(step, rate)
        self.restart(step)
        left = duration((self._steps - step) * self._batch_size / rate) if rate else "?"
        text = "%s: step %d of %d, loss %.4f, %.1f images/s, %s left"
        logging.info(text, self._name, step, self._steps, loss, rate, left)


def duration(seconds: float) -> str:
    """5 s, 3 min 20 s, 2 h 5 min."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
