import csv

import numpy as np
import pytest

from segfusion_jax.bridge.resize import resize
from segfusion_jax.input import decode
from segfusion_jax.input.examples import Examples
from segfusion_jax.pipeline.run import Run
from segfusion_jax.pipeline.stages.score import read_overlaps, table
from tests import tiny


def test_scores_are_those_of_the_mean_of_all_unets_on_the_test_images(finished):
    run = Run(tiny.BASE, finished)
    prepared = run.prepared
    rows = tuple(row for row in prepared.rows if row.split == "test")
    overlaps = read_overlaps(run)
    assert [row for row, _ in overlaps] == list(rows)
    examples = Examples(prepared, rows, tiny.BASE.segmenter.image_size)
    alone = [[mask for _, mask in run.segmenters.predict(examples, [unet])] for unet in range(3)]
    for place, (row, scores) in enumerate(overlaps):
        annotation = decode.decode_mask(prepared.read(row.position)[1]) > 128
        mean = np.mean([masks[place] for masks in alone], axis=0)
        lesion = resize(mean, annotation.shape) >= tiny.BASE.bridge.threshold
        dice = 2 * (lesion & annotation).sum() / (lesion.sum() + annotation.sum())
        assert scores["dice"] == pytest.approx(dice, abs=0.01)  # a few pixels, where the mean is about the threshold


def copied(finished, folder) -> Run:
    """A run whose images are those of the finished one."""
    for name in ("records", "prepare"):
        (folder / name).symlink_to(finished / name)
    return Run(tiny.BASE, folder)


def test_scores_are_read_as_they_were_written(finished, tmp_path):
    run = copied(finished, tmp_path)
    overlaps = [(row, {"dice": 1 / (3 + i), "hausdorff_95": 7.0}) for i, row in enumerate(run.prepared.rows[:4])]
    run.write_scores(*table(overlaps))
    assert read_overlaps(run) == overlaps


def test_without_annotated_images_there_is_an_empty_table(finished, tmp_path):
    run = copied(finished, tmp_path)
    run.write_scores(*table([]))
    with (tmp_path / "score/segmentation.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["image_id", "group", "dice"]]
    assert read_overlaps(run) == []
