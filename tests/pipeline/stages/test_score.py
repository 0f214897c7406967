import csv

import numpy as np
import pytest

from segfusion_jax.bridge.resize import resize
from segfusion_jax.input import decode
from segfusion_jax.input.loader import Examples
from segfusion_jax.pipeline.stages.score import load_overlaps, write_overlaps
from segfusion_jax.pipeline.workdir import load_prepared, unet_weights
from segfusion_jax.runtime.devices import make_devices
from segfusion_jax.serving.ensembles import SegmenterEnsemble
from tests import tiny


def test_scores_are_those_of_the_mean_of_all_unets_on_the_test_images(finished):
    prepared = load_prepared(tiny.BASE, finished)
    rows = tuple(row for row in prepared.rows if row.split == "test")
    overlaps = load_overlaps(prepared, finished)
    assert [row for row, _ in overlaps] == list(rows)
    segmenters = SegmenterEnsemble(tiny.BASE, make_devices(tiny.BASE.parallel), unet_weights(tiny.BASE, finished))
    examples = Examples(prepared, rows, tiny.BASE.segmenter.image_size)
    alone = [[mask for _, mask in segmenters.predict(examples, [unet])] for unet in range(3)]
    for place, (row, scores) in enumerate(overlaps):
        annotation = decode.decode_mask(prepared.read(row.position)[1]) > 128
        mean = np.mean([masks[place] for masks in alone], axis=0)
        lesion = resize(mean, annotation.shape) >= tiny.BASE.bridge.threshold
        dice = 2 * (lesion & annotation).sum() / (lesion.sum() + annotation.sum())
        assert scores["dice"] == pytest.approx(dice, abs=0.01)  # a few pixels, where the mean is about the threshold


def test_scores_are_read_as_they_were_written(finished, tmp_path):
    prepared = load_prepared(tiny.BASE, finished)
    overlaps = [(row, {"dice": 1 / (3 + place), "hausdorff_95": 7.0}) for place, row in enumerate(prepared.rows[:4])]
    write_overlaps(tmp_path / "overlaps/segmentation.csv", overlaps)
    assert load_overlaps(prepared, tmp_path) == overlaps


def test_without_annotated_images_there_is_an_empty_table(finished, tmp_path):
    write_overlaps(tmp_path / "overlaps/segmentation.csv", [])
    with (tmp_path / "overlaps/segmentation.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["image_id", "group", "dice"]]
    assert load_overlaps(load_prepared(tiny.BASE, finished), tmp_path) == []
