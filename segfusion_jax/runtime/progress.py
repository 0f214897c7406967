"""Progress of long loops over images, in the log."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from absl import logging

_Item = TypeVar("_Item")


def logged(items: Iterable[_Item], *, total: int, what: str, first: int = 0, seconds: float = 10.0) -> Iterator[_Item]:
    """Yields `items`; every `seconds` it logs how many of `total` are done, the rate and the time left.

    Args:
      items: the items from number `first` on.
      total: items in all.
      what: is done to them.
      first: items done before.
      seconds: time between lines.
    """
    start = last = time.monotonic()
    done = first
    for done, item in enumerate(items, first + 1):
        now = time.monotonic()
        if now - last >= seconds:
            rate = (done - first) / (now - start)
            logging.info(
                "%s: %d of %d images, %.0f a second, %.0f s left", what, done, total, rate, (total - done) / rate
            )
            last = now
        yield item
    if done >= total:
        logging.info("%s: %d images done", what, total)
