"""What the process of a command is set to, and how it ends."""

import argparse
import logging
import sys
from collections.abc import Callable

import jax

from segfusion_jax.runtime import interruption, processes, programs
from segfusion_jax.runtime.devices import check_platforms, keep_memory
from segfusion_jax.runtime.log import LOGGER, say, show


def run(command: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> int:
    """Runs a command; returns the exit status: 1 where something went wrong, 75 or 130 where it was stopped.

    Where several processes run together and one of them cannot go on, it ends all.
    """
    _set_up()
    try:
        if not any(getattr(arguments, name, None) for name in ("coordinator", "num_processes", "process")):
            check_platforms()  # of several processes after they have joined
        return command(arguments)
    except (ValueError, OSError, FloatingPointError) as error:
        LOGGER.debug("stopped", exc_info=True)
        return _failed(f"error: {error}", error)
    except interruption.Stopped as stopped:
        message = f"{stopped}; the same command goes on"
        if jax.distributed.is_initialized() and not stopped.together:
            processes.leave(message, status=stopped.status)
        say(message, error=True)
        return stopped.status
    except Exception as error:
        if not jax.distributed.is_initialized():
            raise
        LOGGER.exception("stopped")
        return _failed(f"error: {type(error).__name__}: {error}", error)


def _set_up() -> None:
    """Sets up logging to standard error, signals, memory, and compiled programs that the next start finds again."""
    root = logging.getLogger()
    root.handlers = [one for one in root.handlers if type(one) is not logging.StreamHandler]  # some library's
    show(root)
    sys.warnoptions.append("ignore:resource_tracker")  # which cleans up after a stop, and need not say so
    interruption.install()
    keep_memory()
    programs.keep()


def _failed(message: str, error: Exception) -> int:
    if jax.distributed.is_initialized():
        # A collective that failed, not memory that ran out; Gloo's errors may come as ValueError.
        of_runtime = isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error)
        processes.leave(message, others_first=of_runtime or "Gloo" in str(error))
    say(message, error=True)
    return 1
