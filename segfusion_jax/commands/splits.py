"""`segfusion splits`: the published splits, made anew from the official tables."""

import argparse

from segfusion_jax.datasets.published_splits import content, making, writing
from segfusion_jax.pipeline.run import Run
from segfusion_jax.runtime.log import say


def run(arguments: argparse.Namespace) -> int:
    """Writes the tables and their page into the folder that `arguments` name; returns 0.

    Raises:
      FileNotFoundError: an official table is not there, or `--prepared` is no run whose images are prepared.
      ValueError: an official table is not what it should be.
    """
    told = making.read()
    if arguments.prepared:
        compared = content.of_prepared(Run.open(arguments.prepared).rows, told.cases)
    else:
        compared = content.read()
    rows = making.make(told, compared)
    writing.write(arguments.output, told, compared, rows)
    say(f"{len(rows)} images in {len({row.group for row in rows})} groups: {arguments.output / 'README.md'}")
    return 0
