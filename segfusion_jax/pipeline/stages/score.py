"""Stage 3: how well the U-Nets' masks meet the annotations of held-out images."""

from collections.abc import Sequence

import numpy as np

from segfusion_jax.bridge.resize import resize
from segfusion_jax.datasets.prepared import Prepared
from segfusion_jax.datasets.table import Row
from segfusion_jax.evaluation import segmentation
from segfusion_jax.input import decode
from segfusion_jax.input.examples import Examples
from segfusion_jax.pipeline.run import Run
from segfusion_jax.runtime.progress import logged

Overlaps = Sequence[tuple[Row, dict[str, float]]]
"""Annotated images and the scores of their predicted masks."""

_KEYS = ("image_id", "group")


def score(run: Run) -> None:
    """Writes the scores of the U-Nets' mean mask of each annotated test image.

    Masks are compared at the annotations' own size, before the bridge cleans them.
    """
    threshold = run.config.bridge.threshold
    rows = run.split.annotated_test
    found = run.segmenters.predict(Examples(run.prepared, rows, run.config.segmenter.image_size))
    overlaps = [
        (row, overlap(run.prepared, row, probability, threshold))
        for row, probability in logged(found, total=len(rows), what="scoring masks")
    ]
    if run.devices.is_lead:
        run.write_scores(*table(overlaps))


def overlap(records: Prepared, row: Row, probability: np.ndarray, threshold: float) -> dict[str, float]:
    """Returns the scores of a predicted mask, at the size of its annotation, see `segmentation.score`.

    Args:
      records: prepared records that the row is of.
      row: an annotated image.
      probability: [height, width] float32 of lesion, as the U-Nets give it.
      threshold: probability from which a pixel is lesion.
    """
    _, annotation = decode.read(records, row)
    assert annotation is not None  # of rows that have a mask
    size = annotation.shape[0], annotation.shape[1]
    lesion = resize(probability, size) >= threshold
    return segmentation.score(lesion, segmentation.binarise(annotation, "above_128"))


def table(overlaps: Overlaps) -> tuple[list[str], list[list]]:
    """Returns the columns and the lines of a table: image, group, scores."""
    names = list(overlaps[0][1]) if overlaps else ["dice"]
    return [*_KEYS, *names], [[row.image_id, row.group, *(scores[name] for name in names)] for row, scores in overlaps]


def read_overlaps(run: Run) -> Overlaps:
    """Returns what the stage wrote."""
    rows = {row.image_id: row for row in run.prepared.rows}
    return [
        (rows[line["image_id"]], {name: float(line[name]) for name in line if name not in _KEYS})
        for line in run.read_scores()
    ]
