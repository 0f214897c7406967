"""What is told on the way, through one logger that any caller may silence or redirect, and what is printed."""

import contextlib
import logging
import os
import pathlib
import sys
from typing import IO, Any

from segfusion_jax.runtime import sinks

LOGGER = logging.getLogger("segfusion_jax")
"""Each module logs below it, by its own name."""


def show(logger: logging.Logger = LOGGER) -> None:
    """Lets progress be seen on standard error, unless the caller has said otherwise, by a level or a handler.

    Args:
      logger: gets the handler; the root, to let what others say look alike.
    """
    if not LOGGER.level:
        LOGGER.setLevel(logging.INFO)
    if not LOGGER.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(_Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        handler.addFilter(_is_ours_or_serious)
        logger.addHandler(handler)


def say(text: object, *, error: bool = False) -> None:
    """Prints a text to standard output, or error, whatever that can show, and be it closed: output never ends a run."""
    stream: IO[str] | None = sys.stderr if error else sys.stdout
    if stream is None:
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    clean = sinks.terminal(str(text)) if error else sinks.page(str(text))
    shown = clean.encode(encoding, errors="replace").decode(encoding)
    try:
        print(shown, file=stream, flush=True)
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):  # what it still holds must not fail at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _Formatter(logging.Formatter):
    """Writes what a terminal shows and does not obey."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return sinks.terminal(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        return sinks.page(super().formatException(ei))


def _is_ours_or_serious(record: logging.LogRecord) -> bool:
    """Keeps the libraries' remarks out of our log; Orbax's all, since its errors are raised."""
    ours, serious = record.name.startswith(LOGGER.name), record.levelno >= logging.WARNING
    return ours or (serious and "orbax" not in pathlib.Path(record.pathname).parts)
