"""What a command is given: its arguments as the command line parses them, and a released model."""

import argparse

import pytest

import segfusion_jax as sf
from segfusion_jax.commands import main


@pytest.fixture(scope="session")
def model(finished) -> sf.SegFusion:
    return sf.SegFusion.load(finished / "model")


@pytest.fixture(scope="session")
def parse():
    """Words of a command line to its arguments."""

    def parsed(*words) -> argparse.Namespace:
        return main.parser().parse_args([str(word) for word in words])

    return parsed
