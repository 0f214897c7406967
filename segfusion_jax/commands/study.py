"""`segfusion study`: a question that takes several runs of variants of a config, and a page of them."""

import argparse

import jax

from segfusion_jax.commands import launch
from segfusion_jax.pipeline.studies import bridge_modes, origins, protocols
from segfusion_jax.runtime.log import say


def run(arguments: argparse.Namespace) -> int:
    """Runs the study that `arguments` name, and prints where its page is; returns 0.

    Raises:
      FileNotFoundError: there is no such config, or its data or weights are not there.
      ValueError: `--repeats` below 1, an option of another study, or as of the study.
    """
    if arguments.repeats < 1:
        raise ValueError(f"--repeats = {arguments.repeats}: must be at least 1")
    of_origins = arguments.study == "origins"
    if of_origins and arguments.repeats != 1:
        raise ValueError(f"--repeats = {arguments.repeats}: the study 'origins' trains each model once")
    if not of_origins and arguments.by:
        raise ValueError(f"--by = {arguments.by!r}: is of the study 'origins'")
    config, workdir = launch.start(arguments)
    if of_origins:
        page = origins.study(config, workdir, arguments.by or "collection")
    else:
        study = {"bridge": bridge_modes.study, "protocols": protocols.study}[arguments.study]
        page = study(config, workdir, arguments.repeats)
    if jax.process_index() == 0:
        say(f"report: {page}")
    return 0
