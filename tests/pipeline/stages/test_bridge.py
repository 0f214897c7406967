import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segfusion_jax.bridge import clean
from segfusion_jax.bridge.resize import resize
from segfusion_jax.input import decode
from segfusion_jax.input.mask_store import MaskStore
from segfusion_jax.models.from_config import make_unet
from segfusion_jax.models.pretrained import load_weights
from segfusion_jax.pipeline import experiment
from segfusion_jax.pipeline.run import Run
from segfusion_jax.pipeline.stages.bridge import annotated_masks, unets_for
from tests import tiny


@pytest.fixture(scope="module")
def probability(finished):
    """`probability(row, unets)`: the mean of U-Nets on one image, not by the code of the stage."""
    run = Run(tiny.BASE, finished)
    prepared = run.prepared
    unet = make_unet(tiny.BASE.segmenter, seed=0, dtype=jnp.float32)
    unets = [load_weights(path, unet) for path in run.unet_weights]
    weights = [(loaded.params, loaded.batch_stats) for loaded in unets]
    logits = jax.jit(lambda variables, image: unet.apply(*variables, image, train=False)[0])

    def mean(row, unets):
        image = resize(decode.decode_image(prepared.read(row.position)[0]), tiny.BASE.segmenter.image_size)
        values = [np.asarray(logits(weights[k], image[None] / np.float32(255)), np.float64)[0, ..., 0] for k in unets]
        return np.mean([1 / (1 + np.exp(-value)) for value in values], axis=0)

    return mean


def test_every_image_has_one_mask_and_none_from_a_unet_that_saw_its_group(finished):
    rows = {row["image_id"]: row for row in tiny.table(finished / "prepare/splits.csv")}
    masks = tiny.table(finished / "bridge/masks.csv")
    assert sorted(mask["image_id"] for mask in masks) == sorted(rows)
    for mask in masks:
        row = rows[mask["image_id"]]
        # U-Net k is trained and chosen without fold k; test groups are in no fold
        assert mask["unets"] == ("0+1+2" if row["split"] == "test" else row["fold"])
    assert {row["fold"] for row in rows.values() if row["split"] != "test"} == {"0", "1", "2"}


def test_annotated_masks_are_the_annotations_cleaned(finished, tmp_path):
    config = dataclasses.replace(tiny.BASE, bridge=dataclasses.replace(tiny.BASE.bridge, masks="annotated"))
    stages = ("prepare", "segment", "score", "bridge")
    run = experiment.run(config, tmp_path / "annotated", stages, reuse=(finished,))
    prepared, store = run.prepared, run.masks
    assert {mask.unets for mask in store.rows} == {"annotation"} and len(store.rows) == len(prepared.rows)
    for row in prepared.rows[::10]:
        annotation = decode.decode_mask(prepared.read(row.position)[1])
        expected, _ = clean(resize(annotation, config.segmenter.image_size), config.bridge)
        np.testing.assert_array_equal(decode.decode_mask(store.read(row.image_id)), expected)


def test_annotated_masks_are_asked_for_where_there_are_none(finished, monkeypatch):
    run = Run(tiny.BASE, finished)
    row, read = run.prepared.rows[0], run.prepared.read
    monkeypatch.setattr(type(run.prepared), "read", lambda _, position: (read(position)[0], b""))
    with pytest.raises(ValueError, match=f"config.bridge.masks = 'annotated': image {row.image_id} has no annotated"):
        next(annotated_masks(run, run.prepared, [row]))


def test_unets_of_a_row(finished):
    rows = Run(tiny.BASE, finished).prepared.rows
    assert {tuple(unets_for(row, 5)) for row in rows if row.split == "test"} == {(0, 1, 2, 3, 4)}
    assert all(unets_for(row, 5) == [row.fold] for row in rows if row.split != "test")


@pytest.mark.parametrize("fold", [-1, 0, 1, 2])
def test_masks_are_the_cleaned_prediction_of_those_unets(finished, probability, fold):
    store = MaskStore(finished / "bridge")
    about = {mask.image_id: mask for mask in store.rows}
    rows = [row for row in Run(tiny.BASE, finished).prepared.rows if row.fold == fold]
    for row in rows[:5]:
        predicted = np.round(255 * probability(row, range(3) if fold < 0 else [fold])).astype(np.uint8)
        expected, fallback = clean(predicted, tiny.BASE.bridge)
        mask = decode.decode_mask(store.read(row.image_id))
        assert mask.shape == tiny.BASE.segmenter.image_size
        assert about[row.image_id].fallback == fallback
        assert np.abs(mask.astype(int) - expected).max() <= 1
        assert about[row.image_id].area == pytest.approx((mask >= 127.5).mean(), abs=1e-5)


def test_the_unets_differ_so_that_a_wrong_one_would_be_seen(finished, probability):
    row = Run(tiny.BASE, finished).prepared.rows[0]
    one, two, three = (probability(row, [unet]) for unet in range(3))
    assert min(np.abs(one - two).max(), np.abs(one - three).max(), np.abs(two - three).max()) > 0.02


def test_fall_backs_are_whole_images_with_a_reason(finished):
    store = MaskStore(finished / "bridge")
    reasons = {mask.fallback for mask in store.rows}
    assert reasons <= {"", "empty", "tiny", "border"} and reasons - {""}  # an epoch of one step leaves some
    for mask in store.rows:
        assert ((decode.decode_mask(store.read(mask.image_id)) == 255).all() and mask.area == 1) or not mask.fallback
