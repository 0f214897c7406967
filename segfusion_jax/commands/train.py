"""`segfusion train`: an experiment, from the official files to the report."""

import argparse

from segfusion_jax.commands import launch
from segfusion_jax.pipeline import experiment
from segfusion_jax.pipeline.run import Run
from segfusion_jax.pipeline.stages import metrics
from segfusion_jax.runtime.log import say


def run(arguments: argparse.Namespace) -> int:
    """Runs the stages of the experiment that `arguments` name, and prints its metrics; returns 0.

    Raises:
      FileNotFoundError: there is no such config, its data or weights are not there, or --reuse names no run's workdir.
      ValueError: as of `experiment.run`.
    """
    config, workdir = launch.start(arguments)
    reuse = [Run.open(arguments.reuse.expanduser().absolute()).workdir] if arguments.reuse else []
    finished = experiment.run(config, workdir, arguments.stages or tuple(experiment.STAGES), reuse=reuse)
    if finished.devices.is_lead and finished.done("report"):
        say(f"{metrics.main_table(finished.read_metrics())}\n\nreport: {finished.page}")
    return 0
