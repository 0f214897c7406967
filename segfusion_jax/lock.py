"""One process at a time, by a file that the operating system frees when its holder dies."""

import contextlib
import fcntl
import pathlib
from collections.abc import Iterator

from absl import logging


@contextlib.contextmanager
def locked(path: pathlib.Path, *, what: str) -> Iterator[None]:
    """Holds the lock file `path`, made if missing; waits, and logs so, while another process, which `what`, has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logging.info("waiting for another process, which %s", what)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
