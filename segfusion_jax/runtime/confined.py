"""A process of its own for a library that a damaged file can crash: a crash there is an error here.

The process has the file open, a limit of memory and no core dumps; whoever waits for it has a limit of time. It ends
when its owner does.
"""

import contextlib
import os
import resource
import select
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import IO

_START = "import sys; sys.path[:] = sys.argv[4:]; import importlib; importlib.import_module(sys.argv[1]).main()"
_NO_PLUGINS = {"HDF5_PLUGIN_PRELOAD": "::"}  # of compression, which are libraries that a file could name


class Confined:
    """Asks a process that reads one file. One that has ended, as on damage, is followed by another.

    Args:
      module: its `main` calls `serve`.
      file: an open file; may be closed afterwards.
      memory: bytes that it may take beside what it has when it starts; no answer may be longer.
      seconds: time for one answer.
    """

    def __init__(self, module: str, file: IO[bytes], *, memory: int, seconds: float):
        self._module, self._memory, self._seconds = module, memory, seconds
        self._file = os.dup(file.fileno())
        self._lock = threading.Lock()
        self._processes: list[subprocess.Popen] = []  # at most one
        self.close = weakref.finalize(self, _close, self._processes, self._file, os.getpid())
        """Ends the process, for good."""

    def ask(self, question: str) -> bytes:
        """Returns the answer.

        Raises:
          ValueError: the process says that the file cannot be read, crashes, takes too long or answers too much.
        """
        with self._lock:
            ends = time.monotonic() + self._seconds
            line = question.encode(errors="surrogateescape")
            try:
                process = self._running()
                assert process.stdin is not None
                process.stdin.write(len(line).to_bytes(8, "little") + line)
                process.stdin.flush()
                head = self._received(9, ends)
                size = int.from_bytes(head[1:], "little")
                if size > self._memory:
                    raise ValueError(f"it holds {size} bytes; at most {self._memory} are read")
                answer = self._received(size, ends)
            except BaseException as error:  # what it still says would be taken for the next answer
                told = self._crashed() if isinstance(error, OSError) else ""
                _end(self._processes)
                if told:
                    raise ValueError(told) from None
                raise
        if head[0]:
            raise ValueError(answer.decode(errors="replace"))
        return answer

    def _running(self) -> subprocess.Popen:
        if not self._processes:
            command = [sys.executable, "-c", _START, self._module, str(self._file), str(self._memory), *sys.path]
            self._processes.append(
                subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    pass_fds=[self._file],
                    env=os.environ | _NO_PLUGINS,
                    start_new_session=True,
                )
            )
        return self._processes[0]

    def _received(self, size: int, ends: float) -> bytes:
        stdout = self._processes[0].stdout
        assert stdout is not None
        received, descriptor = bytearray(), stdout.fileno()
        while len(received) < size:
            if not select.select([descriptor], [], [], max(0.0, ends - time.monotonic()))[0]:
                raise ValueError(f"reading it takes longer than {self._seconds:g} s")
            part = os.read(descriptor, min(size - len(received), 1 << 20))
            if not part:
                raise ValueError(self._crashed())
            received += part
        return bytes(received)

    def _crashed(self) -> str:
        status = None
        with contextlib.suppress(subprocess.TimeoutExpired, IndexError):
            status = self._processes[0].wait(5)
        how = f"signal {-status}" if status is not None and status < 0 else f"status {status}"
        return f"the process that reads it ended by itself ({how}), as on a damaged file"


def serve(answer: Callable[[str, int], bytes]) -> None:
    """Answers questions of a `Confined` until it has no more.

    Args:
      answer: gets a question and the memory in bytes that may be taken; what it raises is told as the reason why the
        file cannot be read.
    """
    memory = int(sys.argv[3])
    _limit(memory)
    questions, answers = sys.stdin.buffer, sys.stdout.buffer
    while head := questions.read(8):
        question = questions.read(int.from_bytes(head, "little")).decode(errors="surrogateescape")
        try:
            status, told = 0, answer(question, memory)
        except MemoryError:
            status, told = 1, f"reading it takes more than {memory} bytes of memory".encode()
        except Exception as error:  # of a damaged file: nearly any
            status, told = 1, (str(error) or type(error).__name__).encode(errors="replace")
        answers.write(bytes([status]) + len(told).to_bytes(8, "little"))
        answers.write(told)
        answers.flush()


def path() -> str:
    """Returns a path of the file, which has a name in a folder, in the process that reads it."""
    return f"/dev/fd/{int(sys.argv[2])}"


def opened() -> IO[bytes]:
    """Returns the file, at its start, in the process that reads it."""
    os.lseek(int(sys.argv[2]), 0, os.SEEK_SET)
    return os.fdopen(int(sys.argv[2]), "rb")


def _limit(memory: int) -> None:
    with open("/proc/self/statm") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = taken + 2 * memory
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard < 0 else min(wanted, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _end(processes: list[subprocess.Popen]) -> None:
    while processes:
        process = processes.pop()
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()


def _close(processes: list[subprocess.Popen], file: int, owner: int) -> None:
    if os.getpid() == owner:  # and not a copy of it
        _end(processes)
    with contextlib.suppress(OSError):
        os.close(file)
