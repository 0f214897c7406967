"""Predictions on images that no classifier was trained on, and the calibration fitted to them."""

import dataclasses
from unittest import mock

import numpy as np
import pytest

from segfusion_jax.input.mask_store import MaskStore
from segfusion_jax.stages import predicted
from segfusion_jax.stages.workdir import load_classes, load_prepared
from segfusion_jax.studies.variants import changed
from tests import tiny


@pytest.fixture(scope="module")
def validated(finished):
    """`validated(config)`: what `predict_validation` makes of classifiers whose logits are 10 x member + noise."""
    prepared, masks = load_prepared(tiny.BASE, finished), MaskStore(finished / "masks")
    rng = np.random.default_rng(0)
    classifiers = mock.Mock(classes=load_classes(tiny.BASE, finished))

    def predict(source, members):
        (member,) = members
        return ((row, np.array([10 * member + rng.normal()])) for row in source.rows)

    classifiers.predict = predict
    return lambda config: predicted.predict_validation(config, prepared, masks, classifiers)


def test_one_classifier_predicts_the_validation_split(validated):
    found = validated(tiny.BASE)
    assert {row.split for row in found.rows} == {"validation"} and (np.abs(found.logits) < 5).all()


def test_each_member_of_an_ensemble_predicts_the_fold_that_it_is_not_trained_on(validated):
    found = validated(changed(tiny.BASE, "classifier", fold_ensemble=True))
    assert {row.split for row in found.rows} == {"train", "validation"}
    assert [row.fold for row in found.rows] == np.round(found.logits[:, 0] / 10).astype(int).tolist()


@pytest.mark.parametrize(
    "balance",
    [
        {"class_weights": "balanced"},
        {"training": dataclasses.replace(tiny.BASE.classifier.training, sampling="balanced")},
    ],
)
def test_balanced_classes_are_taken_back(validated, finished, balance):
    labels = [row["target"] == "1" for row in tiny.table(finished / "splits/splits.csv") if row["split"] == "train"]
    share = np.mean(labels)
    found = validated(changed(tiny.BASE, "classifier", **balance))
    assert found.calibration.shift == pytest.approx((np.log(share / (1 - share)),))
    assert validated(tiny.BASE).calibration.shift == (0.0,) and found.prevalence == pytest.approx(share)
    logits = found.logits[:, 0] / found.calibration.temperature + found.calibration.shift[0]
    np.testing.assert_allclose(found.malignancy, 1 / (1 + np.exp(-logits)))
    np.testing.assert_allclose(found.uncalibrated, 1 / (1 + np.exp(-found.logits[:, 0])))
