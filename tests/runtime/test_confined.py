"""A process that reads a file for another: what becomes of its crash, its hunger, its slowness and its errors."""

import os
import pathlib
import signal
import sys
import time

import pytest

from segfusion_jax.runtime import confined
from segfusion_jax.runtime.confined import Confined

MB = 1 << 20


def main() -> None:
    """What the process does, by the question."""

    def answer(question: str, memory: int) -> bytes:
        match question:
            case "read":
                return confined.opened().read()
            case "crash":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "exit":
                os._exit(3)
            case "hang":
                time.sleep(600)
            case "eat":
                return bytes(64 * memory)
            case "talk":
                return bytes(memory + 1)
            case "lie":
                sys.stdout.buffer.write(b"\0" + (1 << 60).to_bytes(8, "little"))
                sys.stdout.buffer.flush()
                time.sleep(600)
        raise ValueError(f"no answer to {question}")

    confined.serve(answer)


@pytest.fixture
def asked(tmp_path):
    """Asks a new process that has a file open."""
    path = tmp_path / "file"
    path.write_bytes(b"content")
    started = []

    def ask(question: str, seconds: float = 60) -> bytes:
        with path.open("rb") as file:
            started.append(Confined(__name__, file, memory=8 * MB, seconds=seconds))
        return started[-1].ask(question)

    yield ask
    for one in started:
        one.close()
        assert not one._processes, "it ends with its owner"


def test_it_answers_and_tells_what_it_cannot(asked):
    assert asked("read") == b"content"
    with pytest.raises(ValueError, match="no answer to whom"):
        asked("whom\udcff")


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ("crash", "ended by itself .signal 11., as on a damaged file"),
        ("exit", "ended by itself .status 3."),
        ("eat", "takes more than 8388608 bytes of memory"),
        ("talk", "it holds 8388609 bytes; at most 8388608 are read"),
        ("lie", "it holds 1152921504606846976 bytes"),
    ],
)
def test_whatever_befalls_it_is_an_error_here(asked, question, message):
    with pytest.raises(ValueError, match=message):
        asked(question)


def test_who_takes_too_long_is_ended(asked):
    with pytest.raises(ValueError, match="takes longer than 3 s"):
        asked("hang", seconds=3)


def test_after_its_end_the_next_question_is_answered_by_another(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    with (tmp_path / "file").open("rb") as file:
        one = Confined(__name__, file, memory=MB, seconds=60)
    for _ in range(2):
        with pytest.raises(ValueError, match="ended by itself"):
            one.ask("exit")
        assert one.ask("read") == b"content"
    (process,) = one._processes
    del one
    assert process.poll() is not None, "it ends with its owner"


def test_its_file_is_closed_here(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    with (tmp_path / "file").open("rb") as file:
        one = Confined(__name__, file, memory=MB, seconds=60)
    pathlib.Path(tmp_path / "file").unlink()
    assert one.ask("read") == b"x"
    one.close()
