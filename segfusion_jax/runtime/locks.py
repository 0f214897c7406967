"""One process at a time, by a file that the operating system frees when its holder dies."""

import contextlib
import fcntl
import logging
import os
import pathlib
import socket
from collections.abc import Iterator
from typing import IO

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def locked(path: pathlib.Path, *, what: str) -> Iterator[None]:
    """Holds the lock file `path`, made if missing; while another process, called `what`, has it, waits and logs so."""
    with _opened(path) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.info("waiting for another process, which %s", what)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def locked_folder(folder: pathlib.Path, *, what: str) -> Iterator[None]:
    """Holds a folder, made if missing, in which it leaves nothing; otherwise as `locked`."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.info("waiting for another process, which %s", what)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:  # of a file system that knows no locks
            _log.warning("%s cannot be locked (%s): nothing else may write there meanwhile", folder, error)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def owned(path: pathlib.Path, *, what: str) -> Iterator[None]:
    """Holds the lock file `path`, made if missing; `what` is what it stands for.

    Raises:
      ValueError: another process, which it names, has it.
    """
    with _opened(path) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read() or "another process"
            raise ValueError(f"{what} is in use by {holder}; it is free when that ends") from None
        except OSError as error:
            _log.warning("%s cannot be locked (%s): nothing else may use it meanwhile", what, error)
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}")
        lock.flush()
        yield


def _opened(path: pathlib.Path) -> IO[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("a+")
