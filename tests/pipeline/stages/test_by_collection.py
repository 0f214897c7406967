"""Sections of each collection, against those of its images alone."""

import dataclasses

import numpy as np
import pytest
from sklearn import metrics as sk_metrics

from segfusion_jax.pipeline.stages import by_collection
from tests.pipeline.stages.test_predicted import labelled

POINTS = {"own": 0.5, "sensitive": 0.2}


def several(sources: list[str], targets: list[int], seed: int = 0):
    """Returns held-out images of collections with drawn probabilities."""
    images = labelled(targets, np.random.default_rng(seed).dirichlet(np.ones(4), len(targets)))
    rows = tuple(dataclasses.replace(row, source=source) for row, source in zip(images.rows, sources, strict=True))
    return dataclasses.replace(images, rows=rows)


def test_each_collection_is_measured_on_its_own_images():
    images = several(["a"] * 20 + ["b"] * 10, [0, 2] * 15)
    novelties = np.array([0.5] * 20 + [0.5, 1.5] * 5)
    found = by_collection.by_collection(images, novelties, [], POINTS, resamples=20)
    assert list(found) == ["a", "b"]
    labels, malignancy = images.labels[20:], images.malignancy[20:]
    assert found["b"]["classification"]["roc_auc"]["value"] == sk_metrics.roc_auc_score(labels, malignancy)
    for section, threshold in (("classification", 0.5), ("sensitive", 0.2)):
        reached = (malignancy[labels] >= threshold).mean()
        assert found["b"][section]["sensitivity"]["value"] == pytest.approx(reached)
    assert [found[name]["novelty"]["flagged"]["value"] for name in "ab"] == [0, 0.5]
    assert "segmentation" not in found["a"]


def test_what_labels_do_not_say_is_left_out():
    """The images of the second collection are only told not to be melanoma (label 6), which judges nothing."""
    images = several(["a"] * 4 + ["b"] * 2, [0, 2, 0, 2, 6, 6])
    found = by_collection.by_collection(images, np.zeros(6), [], POINTS, resamples=5)
    names = "classification sensitive diagnosis diagnosis_equal_shares confusion melanoma novelty"
    assert set(found["a"]) == set(names.split())
    assert set(found["b"]) == {"novelty"}


def test_one_collection_alone_has_no_sections():
    assert by_collection.by_collection(several(["a"] * 4, [0, 2, 0, 2]), np.zeros(4), [], POINTS, resamples=5) == {}
