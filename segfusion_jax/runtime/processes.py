"""Several processes of one run: they join, wait for each other, and end together.

JAX's coordination service, which process 0 runs, holds them together: each says every few seconds that it lives, and
the service ends all where one no longer does. Its own messages name a process by its number, but not process 0, and an
error in one is nothing to it until that one is silent. So each process also keeps watch: a thread asks the service for
the report of an error, and whether it answers at all.
"""

import atexit
import contextlib
import logging
import os
import threading
import time

import jax
from jax._src import distributed  # the service's client is public nowhere: neither its barrier nor its keys

from segfusion_jax.runtime.log import say

_log = logging.getLogger(__name__)

SECONDS_TO_END = 30
"""Seconds within which, after a process has died or frozen, the others have ended."""

HEARTBEAT_SECONDS = 20  # after which a silent process is dead; process 0 is missed after up to 1.5 times this
_SILENCE_SECONDS = 15  # after which the watch takes process 0 for dead, before the service's client does
_WATCH_SECONDS = 1.0
_FOREVER_MS = 2**31 - 1
_NAME = "segfusion_jax"

_leaving = threading.Event()


def join(coordinator: str, num_processes: int, process: int) -> None:
    """Joins the other processes, before anything touches a device. A process that never comes ends all after 300 s.

    Args:
      coordinator: "host:port" of process 0; "auto" where Slurm, Open MPI, Kubernetes or Cloud TPU tell.
      num_processes: how many there are; 0 with "auto".
      process: index of this one; 0 with "auto".

    Raises:
      ValueError: the arguments contradict each other, or the environment does not tell.
    """
    _check(coordinator, num_processes, process)
    # The service would catch SIGTERM in C++, and Python's own handler would never run.
    jax.config.update("jax_enable_preemption_service", False)
    if coordinator == "auto":
        _initialize_by_environment()
    else:
        _log.info("process %d of %d: joining the others at %s", process, num_processes, coordinator)
        jax.distributed.initialize(coordinator, num_processes, process, heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
    state = distributed.global_state
    _log.info("process %d of %d: all are there; 0 leads", state.process_id, state.num_processes)
    if state.process_id == 0:
        _client().key_value_set(f"{_NAME}/report", "")
    watch = threading.Thread(target=_watch, name="watch", daemon=True)
    watch.start()
    atexit.register(watch.join)  # before JAX takes its client away: last registered, first called
    atexit.register(_leaving.set)


def wait_for_all(name: str) -> None:
    """Returns when every process has called it with this name, however long that takes.

    It waits on the host: a collective, as in `multihost_utils.sync_global_devices`, gives up after 30 s on a CPU.

    Raises:
      ValueError: they called it with different names.
    """
    client, process = _client(), distributed.global_state.process_id
    client.key_value_set(f"{_NAME}/at/{process}", name, allow_overwrite=True)
    client.wait_at_barrier(f"{_NAME}/arrive", _FOREVER_MS)
    names = {key.rpartition("/")[2]: value for key, value in client.key_value_dir_get(f"{_NAME}/at")}
    client.wait_at_barrier(f"{_NAME}/leave", _FOREVER_MS)
    if len(set(names.values())) > 1:
        listed = ", ".join(f"process {number} at {name!r}" for number, name in sorted(names.items()))
        raise ValueError(f"the processes are at different points of the run: {listed}")


def leave(message: str, *, others_first: bool = False, status: int = 1) -> None:
    """Ends this process with `status` and `message`, and the others too, which name it and repeat both.

    Args:
      message: printed at once; "error: ..." where it is one.
      others_first: whether the death of another process may be the cause; then its name is waited for, with which the
        service or the watch ends this process.
      status: exit status of the process.
    """
    say(message, error=True)
    if others_first:
        time.sleep(SECONDS_TO_END)
    _leaving.set()
    state = distributed.global_state
    kind, text = ("error: ", message[7:]) if message.startswith("error: ") else ("", message)
    report = f"{kind}process {state.process_id} of {state.num_processes} ended: {text}"
    with contextlib.suppress(jax.errors.JaxRuntimeError):  # process 0 is gone already
        _client().key_value_set(f"{_NAME}/report", f"{status} {report}", allow_overwrite=True)
    _end(status)


def _check(coordinator: str, num_processes: int, process: int) -> None:
    if coordinator in ("", "auto"):
        if num_processes or process:
            raise ValueError(f"--num_processes and --process: go with --coordinator=HOST:PORT, not {coordinator!r}")
        return
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(f"--coordinator={coordinator}: must be HOST:PORT of process 0, or auto")
    if num_processes < 1:
        raise ValueError(f"--num_processes={num_processes}: must be at least 1")
    if not 0 <= process < num_processes:
        raise ValueError(
            f"--process={process}: must be from 0 to {num_processes - 1}, as --num_processes={num_processes}"
        )


def _initialize_by_environment() -> None:
    try:
        jax.distributed.initialize(heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"--coordinator=auto: neither Slurm, Open MPI, Kubernetes nor Cloud TPU tell who takes part ({error}). "
            "Give --coordinator=HOST:PORT --num_processes=N --process=I"
        ) from error


def _watch() -> None:
    """Ends this process when another reports an error, or when process 0 is silent."""
    state = distributed.global_state
    while not _leaving.wait(_WATCH_SECONDS):
        try:
            report = _client().blocking_key_value_get(f"{_NAME}/report", _SILENCE_SECONDS * 1000)
        except jax.errors.JaxRuntimeError:
            report = f"1 error: process 0 of {state.num_processes} does not answer: it died or is frozen"
        if report and not _leaving.is_set():
            status, _, message = report.partition(" ")
            say(message, error=True)
            _end(int(status))


def _end(status: int) -> None:
    """Ends this process without waiting for the others; 0, which keeps the report, after they could read it."""
    if distributed.global_state.process_id == 0:
        time.sleep(3 * _WATCH_SECONDS)
    os._exit(status)


def _client():
    client = distributed.global_state.client
    assert client is not None
    return client
