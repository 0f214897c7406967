"""`segfusion report`: the page of a finished run, to be shown to others."""

import argparse

from segfusion_jax.config import Config
from segfusion_jax.pipeline.run import Run
from segfusion_jax.pipeline.stages.report import share
from segfusion_jax.report.pseudonyms import Key
from segfusion_jax.runtime.locks import locked_folder
from segfusion_jax.runtime.log import say


def run(arguments: argparse.Namespace) -> int:
    """Writes the page that `arguments` ask for, and prints where it is; returns 0.

    Raises:
      FileNotFoundError: no run, or one that is not finished.
      ValueError: an output that is a workdir, or a key that would lie in it.
    """
    if Run(Config(), arguments.output).read_settings():
        raise ValueError(f"--output = {arguments.output}: must be another folder than the workdir of a run")
    key = Key(arguments.pseudonymise, apart=arguments.output) if arguments.pseudonymise else None
    finished = Run.open(arguments.run)
    if not finished.done("report"):
        raise FileNotFoundError(f"{arguments.run}: its stage 'report' is not done: show runs that are finished")
    with locked_folder(arguments.output, what=f"writes a page into {arguments.output}"):
        share(finished, arguments.output, photographs=not arguments.no_photographs, key=key)
    say(arguments.output / "index.html")
    if key:
        say(f"which id each number stands for: {key.path}; it is not to be shown")
    return 0
