"""Stage 1: official files to validated records and grouped splits."""

import pathlib

from segfusion_jax.config import Config
from segfusion_jax.datasets import prepared
from segfusion_jax.pipeline.workdir import records_folder
from segfusion_jax.runtime.devices import make_devices


def prepare(config: Config, workdir: pathlib.Path) -> None:
    """Writes the records, `splits/splits.csv` and `splits/audit.json`; of several processes, the first does.

    Raises:
      FileNotFoundError: the official files are not there; says where they are published.
      ValueError: files that cannot be used, with data.on_error "raise".
    """
    if make_devices(config.parallel).is_lead:
        prepared.prepare(config.data, config.splits, records_folder(config, workdir), workdir / "splits")
