"""Being asked to stop, by SIGTERM or Ctrl-C: at once, or, within `deferred`, where it suits."""

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

from segfusion_jax.runtime.log import say

GRACE_SECONDS = 25.0
"""Seconds after a signal in which the process ends in any case; schedulers commonly send SIGKILL after 30."""

STATUSES = {signal.SIGTERM: 75, signal.SIGINT: 130}
"""Exit statuses. 75 is EX_TEMPFAIL of sysexits.h: the same command goes on. 130 is a shell's own for Ctrl-C."""


class Stopped(BaseException):
    """This process was asked to stop. Not an `Exception`, as KeyboardInterrupt is none.

    Attributes:
      status: exit status of the process.
      together: whether all processes of the run stop at this point.
    """

    def __init__(self, number: int, *, together: bool = False):
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.status = STATUSES[signal.Signals(number)]
        self.together = together


class _Asked:
    """What signals did to this process; there is one set of signal handlers in it."""

    number = 0  # of the first signal
    deferred = False


def install() -> None:
    """Makes this process stop by `Stopped`; a program calls it first, from its main thread."""
    watcher, wakeup = socket.socketpair()
    wakeup.setblocking(False)
    signal.set_wakeup_fd(wakeup.fileno())
    for number in STATUSES:
        signal.signal(number, _on_signal)
    threading.Thread(target=_end_in_time, args=(watcher, wakeup), daemon=True).start()  # holds both open


@contextlib.contextmanager
def deferred() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether a signal came, which within only counts; one that came stops afterwards."""
    _Asked.deferred = True
    try:
        yield lambda: bool(_Asked.number)
    finally:
        _Asked.deferred = False
    if _Asked.number:
        raise Stopped(_Asked.number)


def stop_together() -> None:
    """Stops this process, as all others of the run do at this point: one of them was asked to.

    Raises:
      Stopped: always.
    """
    raise Stopped(_Asked.number or signal.SIGTERM, together=True)


def _on_signal(number: int, _) -> None:
    if _Asked.number:
        if number == signal.SIGINT:  # whoever types Ctrl-C again waits for nothing
            os._exit(STATUSES[signal.SIGINT])
        return  # launchers pass on what the process has got already
    _Asked.number = number
    if not _Asked.deferred:
        raise Stopped(number)


def _end_in_time(watcher: socket.socket, _) -> None:
    """Ends the process some time after a signal, whatever its main thread is in: Python's handlers wait for that."""
    number = 0
    while number not in STATUSES:  # all signals that Python handles come here
        number = watcher.recv(1)[0]
    time.sleep(GRACE_SECONDS)
    message = f"error: not at a place to save within {GRACE_SECONDS:.0f} s; the last checkpoint is good"
    say(message, error=True)
    os._exit(STATUSES[signal.Signals(number)])
