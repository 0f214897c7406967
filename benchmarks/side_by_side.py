"""Processes that are timed in turns, each in its own environment, so that whatever slows the machine slows them all."""

import json
import os
import pathlib
import statistics
import subprocess
from collections.abc import Mapping, Sequence

PEERS = pathlib.Path(__file__).parent / "peers"


class Peer:
    """A script of `peers/`, started with a Python that has what it needs.

    Attributes:
      about: what it said when it was ready.
    """

    def __init__(self, python: str, script: str, *args: object):
        paths = [str(PEERS.parent.parent), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(paths),
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # a GPU is shared with the other peers
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        }
        command = [python, str(PEERS / script), *map(str, args)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self._name = " ".join([script, *map(str, args)])
        self.about: dict = {}

    def wait(self) -> None:
        """Waits until it is ready."""
        self.about = self._read()

    def ask(self, line: object) -> dict:
        """Sends a line and returns the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """Ends it."""
        self._process.communicate()

    def _read(self) -> dict:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._name} ended: run it by hand to see why")
        return json.loads(line)


def in_turns(peers: Mapping[str, Peer], line: object, rounds: int) -> dict[str, list[dict]]:
    """Asks each peer `rounds` times, one after the other."""
    answers: dict[str, list[dict]] = {name: [] for name in peers}
    for _ in range(rounds):
        for name, peer in peers.items():
            answers[name].append(peer.ask(line))
    return answers


def median(values: Sequence[float]) -> float:
    """Returns the middle value."""
    return statistics.median(values)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Writes a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
