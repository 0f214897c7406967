"""`segfusion study`: a question that takes several runs of variants of a config, and a page of them."""

import argparse

import jax

from segfusion_jax.commands import launch
from segfusion_jax.pipeline.studies import bridge_modes, protocols


def run(arguments: argparse.Namespace) -> int:
    """Runs the study that `arguments` name, and prints where its page is; returns 0.

    Raises:
      FileNotFoundError: there is no such config, or its data or weights are not there.
      ValueError: `--repeats` of a study that has none, or as of `experiment.run`.
    """
    if arguments.repeats < 1 or (arguments.repeats > 1 and arguments.study != "bridge"):
        accepted = "at least 1" if arguments.study == "bridge" else f"left away: 'study {arguments.study}' has none"
        raise ValueError(f"--repeats = {arguments.repeats}: must be {accepted}")
    config, workdir = launch.start(arguments)
    if arguments.study == "bridge":
        page = bridge_modes.study(config, workdir, arguments.repeats)
    else:
        page = protocols.study(config, workdir)
    if jax.process_index() == 0:
        print(f"report: {page}")
    return 0
