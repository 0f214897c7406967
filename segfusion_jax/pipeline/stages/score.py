"""Stage 3: how well the U-Nets' masks meet the annotations of held-out images."""

import csv
import pathlib
from collections.abc import Sequence

import numpy as np

from segfusion_jax.bridge.resize import resize
from segfusion_jax.config import Config
from segfusion_jax.datasets.prepared import Prepared
from segfusion_jax.datasets.table import Row
from segfusion_jax.evaluation import segmentation
from segfusion_jax.input import decode
from segfusion_jax.input.loader import Examples
from segfusion_jax.pipeline.workdir import load_prepared, unet_weights
from segfusion_jax.runtime.atomic import write_table
from segfusion_jax.runtime.devices import make_devices
from segfusion_jax.runtime.progress import logged
from segfusion_jax.serving.ensembles import SegmenterEnsemble

Overlaps = Sequence[tuple[Row, dict[str, float]]]
"""Annotated images and the scores of their predicted masks."""

_KEYS = ("image_id", "group")


def score(config: Config, workdir: pathlib.Path) -> None:
    """Writes `overlaps/segmentation.csv`: the scores of the U-Nets' mean mask of each annotated test image.

    Masks are compared at the annotations' own size, before the bridge cleans them.
    """
    devices = make_devices(config.parallel)
    prepared = load_prepared(config, workdir)
    rows = tuple(row for row in prepared.rows if row.split == "test" and row.has_mask)
    segmenters = SegmenterEnsemble(config, devices, unet_weights(config, workdir))
    found = segmenters.predict(Examples(prepared, rows, config.segmenter.image_size))
    overlaps = [
        (row, overlap(prepared, row, probability, config))
        for row, probability in logged(found, total=len(rows), what="scored masks of")
    ]
    if devices.is_lead:
        write_overlaps(_path(workdir), overlaps)


def overlap(records: Prepared, row: Row, probability: np.ndarray, config: Config) -> dict[str, float]:
    """The scores of a predicted mask, at the size of its annotation, see `segmentation.score`.

    Args:
      records: whose the row is.
      row: of an annotated image.
      probability: [height, width] float32 of lesion, as the U-Nets give it.
      config: its `bridge.threshold` counts.
    """
    _, annotation = decode.read(records, row)
    assert annotation is not None  # of rows that have a mask
    size = annotation.shape[0], annotation.shape[1]
    lesion = resize(probability, size) >= config.bridge.threshold
    return segmentation.score(lesion, segmentation.binarise(annotation))


def load_overlaps(prepared: Prepared, workdir: pathlib.Path) -> Overlaps:
    """What the stage wrote."""
    rows = {row.image_id: row for row in prepared.rows}
    with _path(workdir).open(newline="") as file:
        return [
            (rows[line["image_id"]], {name: float(line[name]) for name in line if name not in _KEYS})
            for line in csv.DictReader(file)
        ]


def write_overlaps(path: pathlib.Path, overlaps: Overlaps) -> None:
    """Writes a table: image, group, scores."""
    names = list(overlaps[0][1]) if overlaps else ["dice"]
    lines = ([row.image_id, row.group, *(scores[name] for name in names)] for row, scores in overlaps)
    write_table(path, [*_KEYS, *names], lines)


def _path(workdir: pathlib.Path) -> pathlib.Path:
    return workdir / "overlaps" / "segmentation.csv"
