"""Tables of rows: what is written is what is read."""

import dataclasses
import math

from segfusion_jax.datasets import table
from tests.datasets.rows import row


def test_rows_are_read_as_they_were_written(tmp_path):
    rows = [
        row(0, age=0.5, has_mask=False, split="train", fold=2, site='of the "back", left'),
        row(1, age=85.0, target=-1, malignant=-1, origin="Zürich", copy=3, perceptual_hash="ff00"),
    ]
    table.write_rows(tmp_path / "rows.csv", [*rows, row(2, age=math.nan)])
    *read, unknown = table.read_rows(tmp_path / "rows.csv")
    assert read == rows and math.isnan(unknown.age)
    assert dataclasses.replace(unknown, age=50.0) == row(2)
