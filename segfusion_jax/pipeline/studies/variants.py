"""Runs of a study: variants of one config in folders of one workdir, which share what is the same in them."""

import dataclasses
import logging
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from segfusion_jax.config import Config
from segfusion_jax.pipeline import experiment
from segfusion_jax.pipeline.run import Run
from segfusion_jax.runtime.atomic import write_text

_log = logging.getLogger(__name__)


def run(
    study: str,
    variants: Iterable[tuple[str, Config]],
    workdir: pathlib.Path,
    stages: Sequence[str] = tuple(experiment.STAGES),
) -> dict[str, Run]:
    """Runs variants one after the other, each in `workdir/<its name>`; what is done already is not done again.

    Stages that an earlier variant did in the same way, such as the U-Nets where only the classifiers differ, are taken
    over from it.

    Args:
      study: name of the study; a workdir belongs to one study.
      variants: names and configs; may be a generator that looks at what the variants before wrote.
      workdir: folder of the study.
      stages: names of the stages that are run.

    Returns:
      The runs by name.

    Raises:
      ValueError: as `experiment.run`, or `workdir` holds something else than this study.
    """
    marker = workdir / "study"
    theirs = marker.read_text() if marker.exists() else ""
    others = [file for file in workdir.glob("*") if not file.name.startswith(".study")]  # being written by a process
    if theirs != study and others:
        owner = f"the study {theirs!r}" if theirs else "something else"
        raise ValueError(f"{workdir} belongs to {owner}, not to the study {study!r}: give another --workdir")
    workdir.mkdir(parents=True, exist_ok=True)
    write_text(marker, study)
    runs: dict[str, Run] = {}
    for name, config in variants:
        _log.info("variant %s", name)
        runs[name] = experiment.run(config, workdir / name, stages, reuse=[run.workdir for run in runs.values()])
    return runs


def with_shared_records(config: Config, workdir: pathlib.Path) -> Config:
    """Returns `config` with one store of records for all runs of a study in `workdir`."""
    return changed(config, "data", records=config.data.records or str(workdir / "records"))


def changed(config: Any, section: str, **fields: object) -> Any:
    """Returns `config`, or a section of it, with other values in the section that the dotted path names."""
    name, _, inner = section.partition(".")
    part = getattr(config, name)
    part = changed(part, inner, **fields) if inner else dataclasses.replace(part, **fields)
    return dataclasses.replace(config, **{name: part})
