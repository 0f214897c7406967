"""`segfusion plan`: what the training steps of an experiment need, before it is run."""

import argparse

import jax

from segfusion_jax.commands import launch
from segfusion_jax.pipeline import experiment
from segfusion_jax.runtime.log import say


def run(arguments: argparse.Namespace) -> int:
    """Prints what the experiment that `arguments` name needs of this machine; returns 0.

    Raises:
      FileNotFoundError: there is no such config.
      ValueError: as of `experiment.plan`.
    """
    config, workdir = launch.start(arguments)
    needs = experiment.plan(config, workdir)
    if jax.process_index() == 0:
        say(needs)
    return 0
