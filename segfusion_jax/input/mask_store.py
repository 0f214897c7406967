"""The bridge's masks on disk: one encoded mask an image, in an ArrayRecord file, and a table of what they are."""

import csv
import pathlib
from collections.abc import Iterable
from typing import NamedTuple

import grain
from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

from segfusion_jax.runtime import sinks
from segfusion_jax.runtime.atomic import read_table


class MaskRow(NamedTuple):
    """What is known of a mask.

    Attributes:
      image_id: id of the image.
      unets: folds of the U-Nets that made it, joined by '+', none of which saw the image's group; "all" those of a
        released model; "annotation"; or "none", which makes it the whole image.
      area: share of the image that is lesion.
      fallback: why it is the whole image, "" where it is not.
    """

    image_id: str
    unets: str
    area: float
    fallback: str


class MaskStore:
    """Random access to the masks that `write` wrote; can be sent to other processes."""

    def __init__(self, folder: pathlib.Path):
        self._source = grain.sources.ArrayRecordDataSource(str(folder / "masks.array_record"))
        rows = read_table(folder / "masks.csv")
        self.rows = [MaskRow(r["image_id"], r["unets"], float(r["area"]), r["fallback"]) for r in rows]
        self._positions = {row.image_id: position for position, row in enumerate(self.rows)}

    def read(self, image_id: str) -> bytes:
        """Returns the encoded mask of an image.

        Raises:
          KeyError: there is none of this image.
        """
        return self._source[self._positions[image_id]]


def write(folder: pathlib.Path, masks: Iterable[tuple[MaskRow, bytes]]) -> None:
    """Writes masks one after the other; keeps none in memory."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = array_record_module.ArrayRecordWriter(str(folder / "masks.array_record"), "group_size:1")
    with (folder / "masks.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(MaskRow._fields)
        for row, encoded in masks:
            table.writerow(map(sinks.cell, row))
            writer.write(encoded)
    writer.close()
