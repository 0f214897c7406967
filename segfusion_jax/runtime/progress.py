"""How far long work is, how fast it goes and when it will be done, in the log."""

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

_log = logging.getLogger(__name__)

_Item = TypeVar("_Item")


class Progress:
    """The clock of some work.

    Args:
      what: the work; begins each line.
      total: all of it, in `unit`; 0 where that is not known.
      done: what was done before.
      unit: what is counted.
      digits: of counts, behind the point.
      seconds: between two lines.
    """

    def __init__(
        self, what: str, *, total: float, done: float = 0, unit: str = "images", digits: int = 0, seconds: float = 10.0
    ):
        self._what = what
        self._total = total
        self._unit = unit
        self._digits = digits
        self._seconds = seconds
        self.restart(done)

    def restart(self, done: float) -> None:
        """Forgets the time before, at which so much was done."""
        self._start = self._shown = time.monotonic()
        self._first = done

    def is_due(self) -> bool:
        """Returns whether it is time for a line."""
        return time.monotonic() - self._shown >= self._seconds

    def rate(self, done: float) -> float:
        """Returns what was done a second since the start."""
        return (done - self._first) / max(time.monotonic() - self._start, 1e-6)

    def pace(self, done: float) -> str:
        """Returns how fast it goes and how long it will take: 31.2 images/s, 3 min 20 s left."""
        rate = self.rate(done)
        text = f"{rate:.1f} {self._unit}/s"
        if not self._total:
            return text
        return f"{text}, {duration((self._total - done) / rate) if rate else '?'} left"

    def show(self, done: float) -> None:
        """Logs a line: 12 of 50 images, 31.2 images/s, 3 min 20 s left; before anything is done without the pace."""
        of = f" of {self._total:.{self._digits}f}" if self._total else ""
        pace = f", {self.pace(done)}" if done > self._first else ""
        _log.info("%s: %.*f%s %s%s", self._what, self._digits, done, of, self._unit, pace)
        self._shown = time.monotonic()


def logged(items: Iterable[_Item], *, total: int, what: str, first: int = 0, seconds: float = 10.0) -> Iterator[_Item]:
    """Yields `items`, images; logs when it begins, every `seconds` and when it ends.

    Args:
      items: the items from number `first` on.
      total: items in all.
      what: is done to them.
      first: items done before.
      seconds: time between lines.
    """
    progress, done = Progress(what, total=total, done=first, seconds=seconds), first
    if not first:
        progress.show(first)
    for done, item in enumerate(items, first + 1):
        if progress.is_due():
            progress.show(done)
        yield item
    if done >= total:
        _log.info("%s: %d images done", what, total)


def duration(seconds: float) -> str:
    """Returns a time in words: 5 s, 3 min 20 s, 2 h 5 min."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
