"""Predicted masks as a COCO file, which tools of annotation read, and training after them."""

import json
import os
import pathlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from segfusion_jax.commands.journal import read_rows
from segfusion_jax.datasets import coco
from segfusion_jax.runtime.atomic import write_text

NAME = "annotations.json"
"""Name of the file in an output folder."""


def write(folder: pathlib.Path) -> None:
    """Writes the masks in an output folder as a COCO file beside them.

    Images are called by their paths below the folder that holds all of them; of several that are called alike, the
    further ones by their results' names. An image without a usable mask has no annotation, so that nobody learns from a
    mask of all of it.
    """
    rows = [row for row in read_rows(folder) if not row["error"]]
    above = os.path.commonpath([os.path.dirname(row["image"]) for row in rows]) if rows else ""

    taken: set[str] = set()

    def masks() -> Iterator[tuple[str, np.ndarray]]:
        for row in rows:
            with Image.open(folder / "masks" / f"{row['name']}.png") as mask:
                lesion = np.asarray(mask) > 0
            called = os.path.relpath(row["image"], above).replace(os.sep, "/")
            if called in taken:
                called = row["name"] + pathlib.PurePath(row["image"]).suffix
            taken.add(called)
            yield called, lesion & (not row["fallback"])

    write_text(folder / NAME, json.dumps(coco.document(masks())))
