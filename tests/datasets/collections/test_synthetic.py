"""Drawn lesions: repeatable, exactly annotated, and as hard as they claim to be."""

import io
import pathlib

import cv2
import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from segfusion_jax import config
from segfusion_jax.datasets.collections import rendering, synthetic
from segfusion_jax.datasets.files import Folder


def pixels(file) -> np.ndarray:
    with Image.open(io.BytesIO(file.read())) as image:
        return np.asarray(image)


def read(n: int, seed: int = 0):
    return synthetic.read(Folder(pathlib.Path()), config.Data(synthetic_images=n, synthetic_seed=seed))[0]


@pytest.fixture(scope="module")
def records():
    return read(500)


def test_image_i_depends_on_seed_and_i_only(records):
    again = read(41)
    assert [(r.image_id, r.image.read(), r.mask.read(), r.lesion_id) for r in again] == [
        (r.image_id, r.image.read(), r.mask.read(), r.lesion_id) for r in records[:41]
    ]
    assert not {r.image.read() for r in read(40, seed=1)} & {r.image.read() for r in records}


def test_records_keep_the_contract(records):
    assert len(records) == len({r.image_id for r in records}) == len({r.image.read() for r in records}) == 500
    for record in records[:60]:
        assert pixels(record.image).shape == (144, 192, 3)
        mask = pixels(record.mask)
        assert mask.shape == (144, 192) and set(np.unique(mask)) == {0, 255}
        assert record.diagnosis == ("melanoma" if record.malignant else "nevus")


def test_classes_and_views(records):
    by_lesion: dict[str, list[int]] = {}
    for record in records:
        by_lesion.setdefault(record.lesion_id, []).append(record.malignant)
    assert all(len(set(labels)) == 1 for labels in by_lesion.values())
    assert {len(labels) for labels in by_lesion.values()} == {1, 2, 3}
    assert 0.22 < np.mean([labels[0] for labels in by_lesion.values()]) < 0.38


def test_the_mask_is_the_lesion_whatever_lies_over_it(monkeypatch):
    lesion = rendering.lesion(np.random.default_rng(0), severity=1.0)
    image, mask = rendering.view(np.random.default_rng(1), lesion)
    monkeypatch.setattr(rendering, "_occlude", lambda rng, image: np.zeros_like(image))
    hidden, same_mask = rendering.view(np.random.default_rng(1), lesion)
    np.testing.assert_array_equal(mask, same_mask)
    assert image.mean() > 80 and hidden.mean() < 10


def test_the_lesion_is_darker_than_the_skin_beside_it(records):
    contrast = []
    for record in records[:100]:
        grey, mask = pixels(record.image).mean(2), pixels(record.mask)
        near = cv2.dilate(mask, np.ones((15, 15))) - cv2.dilate(mask, np.ones((7, 7)))
        contrast.append(grey[near > 0].mean() - grey[mask > 0].mean())
    assert min(contrast) > 0 and np.median(contrast) > 35


def test_views_of_a_lesion_differ_in_place_and_light(records):
    first, second = next((a, b) for a, b in zip(records, records[1:], strict=False) if a.lesion_id == b.lesion_id)
    one, other = pixels(first.mask) > 0, pixels(second.mask) > 0
    assert (one & other).sum() / (one | other).sum() < 0.9
    assert first.image.read() != second.image.read()


def lesion_features(record) -> np.ndarray:
    """Colour statistics and shape inside the mask."""
    colours = cv2.cvtColor(pixels(record.image), cv2.COLOR_RGB2LAB).astype(float)
    mask = pixels(record.mask) > 0
    inside, smooth = colours[mask], cv2.blur(colours, (9, 9))[mask]
    y, x = np.nonzero(mask)
    centred = np.stack([x - x.mean(), y - y.mean()], 1)
    spread, axes = np.linalg.eigh(np.cov(centred.T))
    turned = centred @ axes
    plan, _, _ = np.histogram2d(*turned.T, bins=24, range=[[-90, 90]] * 2)
    asymmetry = [np.abs(plan - plan[::-1]).sum(), np.abs(plan - plan[:, ::-1]).sum()] / plan.sum()
    outlines = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    outline = max(outlines, key=cv2.contourArea)
    compactness = cv2.arcLength(outline, closed=True) ** 2 / mask.sum()
    solidity = mask.sum() / cv2.contourArea(cv2.convexHull(outline))
    tilt = [abs(np.corrcoef(inside[:, 0], axis)[0, 1]) for axis in turned.T]
    shape = [*asymmetry, compactness, solidity, *tilt, spread[1] / spread[0]]
    return np.array([*inside.mean(0), *inside.std(0), *smooth.std(0), *np.percentile(inside, (10, 90), 0).flat, *shape])


def grouped_auc(features, labels, lesions) -> float:
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    scores = cross_val_predict(model, features, labels, groups=lesions, cv=GroupKFold(5), method="predict_proba")
    return float(roc_auc_score(labels, np.asarray(scores)[:, 1]))


def test_difficulty(records):
    labels, lesions = np.array([r.malignant for r in records]), np.array([r.lesion_id for r in records])
    features = np.array([lesion_features(record) for record in records])
    assert 0.82 < grouped_auc(features, labels, lesions) < 0.96
    beside = []
    for record in records:
        mask = pixels(record.mask) > 0
        beside.append([*pixels(record.image)[~mask].mean(0), mask.mean()])
    assert grouped_auc(np.array(beside), labels, lesions) < 0.65
    names = np.unique(lesions)
    shuffled = np.random.default_rng(0).permutation([labels[lesions == name][0] for name in names])
    drawn_anew = shuffled[np.searchsorted(names, lesions)]
    assert 0.35 < grouped_auc(features, drawn_anew, lesions) < 0.65
