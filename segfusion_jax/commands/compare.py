"""`segfusion compare`: finished runs side by side."""

import argparse
import os

from segfusion_jax.config import Config
from segfusion_jax.pipeline import comparison
from segfusion_jax.pipeline.run import Run
from segfusion_jax.runtime.log import say


def run(arguments: argparse.Namespace) -> int:
    """Compares the runs that `arguments` name, and prints where the page is; returns 0.

    Raises:
      FileNotFoundError: a run is not evaluated.
      ValueError: fewer than two runs, one twice, a reference that is none of them, or an output that is a workdir.
    """
    paths = [run.resolve() for run in arguments.runs]
    if len(set(paths)) < max(2, len(paths)):
        raise ValueError(f"runs {', '.join(map(str, arguments.runs))}: must be at least two, all different")
    reference = (arguments.reference or arguments.runs[0]).resolve()
    if reference not in paths:
        raise ValueError(f"--reference = {arguments.reference}: must be one of the runs")
    if Run(Config(), arguments.output).read_settings():
        raise ValueError(f"--output = {arguments.output}: must be another folder than the workdir of a run")
    short = len({path.name for path in paths}) == len(paths)
    above = os.path.commonpath(paths)
    names = {path: path.name if short else path.relative_to(above).as_posix() for path in paths}
    compared = comparison.compare({name: [Run.open(path)] for path, name in names.items()}, names[reference])
    comparison.write(arguments.output, compared, names[reference], title="Comparison of runs")
    say(arguments.output / "index.html")
    return 0
