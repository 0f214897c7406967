"""What a run starts with: its config, its workdir, and the processes that it runs in."""

import argparse
import logging
import pathlib

import jax

from segfusion_jax.commands import config_files
from segfusion_jax.config import Config
from segfusion_jax.runtime.devices import start_distributed
from segfusion_jax.runtime.log import LOGGER


def start(arguments: argparse.Namespace) -> tuple[Config, pathlib.Path]:
    """Reads the config that `arguments` name, and joins the other processes if there are any.

    Returns:
      The config and the absolute path of the workdir.

    Raises:
      FileNotFoundError: there is no such config.
      ValueError: the config is not accepted, or the options of several processes contradict each other.
    """
    config = config_files.load(arguments.config, arguments.set)
    workdir = pathlib.Path(arguments.workdir or default_workdir(arguments)).expanduser().absolute()
    if not arguments.workdir:
        LOGGER.info("--workdir is %s", workdir)
    if arguments.coordinator or arguments.num_processes or arguments.process:
        start_distributed(arguments.coordinator, arguments.num_processes, arguments.process)
        if jax.process_index():
            text = "process %d of %d: does its share of each step; process 0 tells how far all are, here are warnings"
            LOGGER.info(text, jax.process_index(), jax.process_count())
            LOGGER.setLevel(logging.WARNING)
    return config, workdir


def default_workdir(arguments: argparse.Namespace) -> pathlib.Path:
    """Returns runs/CONFIG, with the variant and the study after it where there are such."""
    name, _, variant = arguments.config.partition(":")
    parts = pathlib.Path(name).stem, variant, getattr(arguments, "study", "")
    return pathlib.Path("runs", "_".join(filter(None, parts)))
