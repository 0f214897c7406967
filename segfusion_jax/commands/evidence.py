"""Evidence of images that were predicted before, whose rows stay as they are."""

import argparse
import pathlib
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from PIL import Image

from segfusion_jax.commands import images, pictures
from segfusion_jax.commands.meaning import Meaning
from segfusion_jax.runtime.log import say
from segfusion_jax.serving.segfusion import SegFusion

FOLDER = "evidence"
"""Name of the folder of the pictures."""


def missing(
    folder: pathlib.Path, done: Mapping[pathlib.Path, Mapping[str, str]]
) -> dict[pathlib.Path, Mapping[str, str]]:
    """Returns the images, with their rows, of which there is no picture of the evidence in an output folder."""
    return {path: row for path, row in done.items() if not (folder / FOLDER / f"{row['name']}.png").exists()}


def add(
    model: SegFusion,
    meaning: Meaning,
    rows: Mapping[pathlib.Path, Mapping[str, str]],
    arguments: argparse.Namespace,
    faults: tuple[type[Exception], ...],
) -> int:
    """Draws the evidence in images without predicting them again; returns of how many it could not be drawn.

    Args:
      model: the model that they were predicted by.
      meaning: what its decisions mean.
      rows: the images' rows.
      arguments: `output`, whose masks are there, and `memory`.
      faults: what one image can lead to; the others go on.
    """
    (arguments.output / FOLDER).mkdir(exist_ok=True)
    failed, memory = 0, round(arguments.memory * 1e9)
    for batch in images.batches(rows, memory, explain=True):
        problems = _drawn(model, meaning, images.read(batch, memory), rows, arguments.output, faults)
        for path, told in problems.items():
            say(f"{path}: its evidence cannot be drawn: {told}", error=True)
        failed += len(problems)
    return failed


def _drawn(
    model: SegFusion,
    meaning: Meaning,
    files: Sequence[images.Read],
    rows: Mapping[pathlib.Path, Mapping[str, str]],
    output: pathlib.Path,
    faults: tuple[type[Exception], ...],
) -> dict[pathlib.Path, str]:
    """Draws the evidence in images; returns of which it cannot be drawn, and why."""
    read = [file for file in files if file.image is not None]
    problems = {file.path: file.error for file in files if file.image is None}
    try:
        found = model.explain([file.image for file in read if file.image is not None])
        for file, values in zip(read, found, strict=True):
            row = rows[file.path]
            with Image.open(output / "masks" / f"{row['name']}.png") as mask:
                lesion = np.asarray(mask) > 0
            assert file.image is not None
            drawn = pictures.evidence(file.image, lesion, values, meaning.told(row), fallback=row["fallback"])
            pictures.save(output / FOLDER / f"{row['name']}.png", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
        return problems
    except faults as error:
        if len(read) == 1:
            return problems | {read[0].path: str(error) or type(error).__name__}
    for file in read:
        problems |= _drawn(model, meaning, [file], rows, output, faults)
    return problems
