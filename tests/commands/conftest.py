"""What a command is given: its arguments as the command line parses them, and a released model.

Commands that tests run change nothing of the test's own process.
"""

import argparse

import pytest

import segfusion_jax as sf
from segfusion_jax.commands import parser, program


@pytest.fixture(autouse=True)
def unchanged_process(monkeypatch):
    """Leaves this process's log, signals and compile cache as they are."""
    monkeypatch.setattr(program, "_set_up", lambda: None)


@pytest.fixture(scope="session")
def model(finished) -> sf.SegFusion:
    return sf.SegFusion.load(finished / "model")


@pytest.fixture(scope="session")
def parse():
    """Words of a command line to its arguments."""

    def parsed(*words) -> argparse.Namespace:
        return parser.parse([str(word) for word in words])

    return parsed
