"""What the process of a command is set to, and how it ends."""

import argparse
import logging as std_logging
import pathlib
import sys
from collections.abc import Callable

import jax
from absl import flags, logging

import segfusion_jax
from segfusion_jax.runtime import interruption, processes, programs
from segfusion_jax.runtime.devices import keep_memory

_PACKAGE = pathlib.Path(segfusion_jax.__file__).parent


def run(command: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> int:
    """Runs a command; returns the exit status: 1 where something went wrong, 75 or 130 where it was stopped.

    Where several processes run together and one of them cannot go on, it ends all.
    """
    _set_up()
    try:
        return command(arguments)
    except (ValueError, OSError, FloatingPointError) as error:
        logging.debug("stopped", exc_info=True)
        return _failed(f"error: {error}", error)
    except interruption.Stopped as stopped:
        message = f"{stopped}; the same command goes on"
        if jax.distributed.is_initialized() and not stopped.together:
            processes.leave(message, status=stopped.status)
        print(message, file=sys.stderr)
        return stopped.status
    except Exception as error:
        if not jax.distributed.is_initialized():
            raise
        logging.exception("stopped")
        return _failed(f"error: {type(error).__name__}: {error}", error)


def _set_up() -> None:
    """Sets up logging to standard error, signals, memory, and compiled programs that the next start finds again."""
    flags.FLAGS.mark_as_parsed()  # there are none of ours; Grain's workers and absl's log would wait for them
    logging.use_absl_handler()
    logging.set_verbosity(logging.INFO)
    handler = logging.get_absl_handler()
    handler.addFilter(_is_ours_or_serious)
    handler.setFormatter(std_logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    interruption.install()
    keep_memory()
    programs.keep()


def _is_ours_or_serious(record: std_logging.LogRecord) -> bool:
    """Keeps the libraries' remarks, which share absl's log, out of ours; Orbax's all, since its errors are raised."""
    path = pathlib.Path(record.pathname)
    return path.is_relative_to(_PACKAGE) or (record.levelno >= std_logging.WARNING and "orbax" not in path.parts)


def _failed(message: str, error: Exception) -> int:
    if jax.distributed.is_initialized():
        # A collective that failed, not memory that ran out; Gloo's errors may come as ValueError.
        of_runtime = isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error)
        processes.leave(message, others_first=of_runtime or "Gloo" in str(error))
    print(message, file=sys.stderr)
    return 1
