"""The one thread that uses the device: images wait in a queue, and those that wait together are predicted together."""

import collections
import concurrent.futures
import dataclasses
import logging
import threading
from collections.abc import Callable, Sequence

import numpy as np

from segfusion_jax.serving.segfusion import BATCH, Prediction

_log = logging.getLogger(__name__)

WINDOW = 0.005
"""Seconds that an image waits for others to be predicted with."""
THREAD = "device"
"""Name of the thread."""
_END_SECONDS = 3.0
"""Seconds in which the thread may end by itself."""

Predict = Callable[[Sequence[np.ndarray], bool], list[Prediction]]
"""What is said of images, with their evidence or without."""

Answered = concurrent.futures.Future[Prediction]


@dataclasses.dataclass(frozen=True)
class _Job:
    image: np.ndarray
    explain: bool
    answered: Answered


class Device:
    """A thread that predicts what is submitted, in batches of one kind, in the order in which it came.

    Args:
      predict: what predicts.
      tell: is called with the number of images of each batch.
      window: seconds that the first image of a batch waits for others.

    Attributes:
      ready: is set when the device has predicted images that show nothing, so that all programs are compiled.
    """

    def __init__(self, predict: Predict, tell: Callable[[int], None] = lambda size: None, *, window: float = WINDOW):
        self._predict, self._tell, self._window = predict, tell, window
        self._jobs: collections.deque[_Job] = collections.deque()
        self._changed = threading.Condition()
        self._closed = False
        self.ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name=THREAD, daemon=True)
        self._thread.start()

    def submit(self, image: np.ndarray, *, explain: bool) -> Answered:
        """Returns what will be said of an image; it may be cancelled while it waits.

        Args:
          image: [height, width, 3] uint8 RGB.
          explain: whether the evidence is asked for.
        """
        job = _Job(image, explain, concurrent.futures.Future())
        with self._changed:
            if self._closed:
                raise RuntimeError("the device is closed")
            self._jobs.append(job)
            self._changed.notify()
        return job.answered

    def close(self) -> None:
        """Ends the thread after the batch that it is at; what waits is cancelled. A compilation is not waited for."""
        with self._changed:
            self._closed = True
            for job in self._jobs:
                job.answered.cancel()
            self._jobs.clear()
            self._changed.notify()
        self._thread.join(_END_SECONDS)

    def _run(self) -> None:
        self._warm_up()
        while (batch := self._next()) is not None:
            taken = [job for job in batch if job.answered.set_running_or_notify_cancel()]
            if taken:
                self._tell(len(taken))
                self._answer(taken)
            del batch, taken  # or the images would stay until others come

    def _warm_up(self) -> None:
        nothing = np.zeros((64, 64, 3), np.uint8)
        try:
            for size in (1, BATCH):
                self._predict([nothing] * size, True)
        except Exception as error:
            _log.error("the model cannot predict: %s: %s", type(error).__name__, error)
        else:
            self.ready.set()

    def _next(self) -> list[_Job] | None:
        """Waits for images, and takes from the queue the first and those that are predicted with it."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            self._changed.wait_for(lambda: len(self._jobs) >= BATCH or self._closed, timeout=self._window)
            if self._closed:
                return None
            explain = self._jobs[0].explain
            batch = [job for job in self._jobs if job.explain == explain][:BATCH]
            chosen = set(map(id, batch))
            self._jobs = collections.deque(job for job in self._jobs if id(job) not in chosen)
            return batch

    def _answer(self, jobs: Sequence[_Job]) -> None:
        """Predicts a batch; where that fails, each image alone, so that one does not take others with it."""
        try:
            predictions = self._predict([job.image for job in jobs], jobs[0].explain)
        except Exception as error:  # whatever it is: the thread has others to serve
            if len(jobs) > 1:
                for job in jobs:
                    self._answer([job])
                return
            _log.warning("an image could not be predicted: %s", type(error).__name__)
            jobs[0].answered.set_exception(error)
            return
        for job, prediction in zip(jobs, predictions, strict=True):
            job.answered.set_result(prediction)
