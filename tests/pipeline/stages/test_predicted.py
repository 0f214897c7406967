"""What the classifiers say of images, as probabilities."""

import dataclasses

import numpy as np
import pytest

from segfusion_jax.evaluation.calibration import Calibration
from segfusion_jax.pipeline.stages import metrics
from segfusion_jax.pipeline.stages.predicted import Predicted
from segfusion_jax.serving.ensembles import Classes
from tests.datasets.rows import row


def predicted(logits, names, positive, shares) -> Predicted:
    num_logits = len(logits[0])
    calibration = Calibration(1.0, (0.0,) * num_logits)
    return Predicted((), np.array(logits), calibration, Classes(names, positive, num_logits), shares)


def test_prevalence_is_the_share_of_all_malignant_classes():
    two = predicted([[0.0], [np.log(9.0)]], ("benign", "malignant"), (False, True), (0.9, 0.1))
    np.testing.assert_allclose(two.of_classes, [[0.5, 0.5], [0.1, 0.9]])
    assert two.prevalence == pytest.approx(0.1)
    names, positive = ("nevus", "melanoma", "other"), (False, True, True)
    three = predicted([np.log([0.5, 0.3, 0.2])], names, positive, (0.7, 0.2, 0.1))
    np.testing.assert_allclose(three.malignancy, [0.5])
    assert three.prevalence == pytest.approx(0.3)


COARSE = {"malignant": ("melanoma",), "benign": ("nevus", "dermatofibroma"), "no melanoma": ("carcinoma", "nevus")}
CLASSES = Classes(("melanoma", "carcinoma", "nevus", "dermatofibroma"), (True, True, False, False), 4, COARSE)


def labelled(targets, probabilities) -> Predicted:
    rows = tuple(row(number, target=target) for number, target in enumerate(targets))
    calibration = Calibration(1.0, (0.0,) * 4)
    return Predicted(rows, np.log(probabilities), calibration, CLASSES, (0.25,) * 4)


def test_images_are_judged_by_what_their_label_says():
    """By hand; the labels are melanoma, nevus, and the three coarse ones."""
    images = labelled([0, 2, 4, 5, 6], np.full((5, 4), 0.25))
    assert [one.image_id for one in images.judged.rows] == ["I0000", "I0001", "I0002", "I0003"]
    assert images.judged.labels.tolist() == [True, False, True, False]
    with pytest.raises(ValueError, match="1 of 5 labels do not say whether a lesion is malignant"):
        _ = images.labels
    assert images.diagnosed.targets.tolist() == [0, 2]
    melanomas, labels = images.against_all("melanoma")
    assert [one.target for one in melanomas.rows] == [0, 2, 5, 6]  # 'malignant' does not say melanoma
    assert labels.tolist() == [True, False, False, False]


def test_metrics_of_images_of_all_grains():
    probabilities = np.array(
        [
            [0.7, 0.1, 0.1, 0.1],  # melanoma
            [0.2, 0.1, 0.6, 0.1],  # nevus
            [0.1, 0.2, 0.1, 0.6],  # nevus, called dermatofibroma
            [0.3, 0.5, 0.1, 0.1],  # malignant
            [0.4, 0.2, 0.2, 0.2],  # benign, more probably malignant than the last but for nothing
            [0.8, 0.1, 0.05, 0.05],  # no melanoma, more probably one than the melanoma
        ]
    )
    images = labelled([0, 2, 2, 4, 5, 6], probabilities)
    found = metrics.of_decisions(images, images, 0.5, resamples=50)
    assert {name: found[name]["n"]["value"] for name in ("classification", "diagnosis", "melanoma")} == {
        "classification": 5,
        "diagnosis": 3,
        "melanoma": 5,
    }
    assert found["classification"]["roc_auc"]["value"] == 1.0  # .8 and .8 above .6, .3 and .3
    assert found["diagnosis"]["balanced_accuracy"]["value"] == pytest.approx((1 + 1 / 2) / 2)
    assert found["melanoma"]["roc_auc"]["value"] == pytest.approx(3 / 4)  # .7 above .2, .1 and .4, not above .8
    assert found["calibration"]["fitted_on"] == 6


def test_an_operating_point_holds_in_each_collection_that_has_enough_images(monkeypatch):
    """By hand: one collection is told apart with ease, one is not, and one has too few images to have a say."""
    monkeypatch.setattr(metrics, "FEWEST", 2)
    easy, hard, few = ([0.9] * 8, [0.1] * 8), ([0.6, 0.3], [0.5, 0.25]), ([0.22], [0.7])
    malignancy, targets, sources = [], [], []
    for source, (malignant, benign) in {"easy": easy, "hard": hard, "few": few}.items():
        malignancy += [*malignant, *benign]
        targets += [0] * len(malignant) + [2] * len(benign)
        sources += [source] * len(malignant + benign)
    images = labelled(targets, np.array([[p, 0.0, 1 - p, 0.0] for p in malignancy]) + 1e-9)
    rows = tuple(dataclasses.replace(row, source=source) for row, source in zip(images.rows, sources, strict=True))
    found = metrics.of_decisions(dataclasses.replace(images, rows=rows), images, 0.5, resamples=10)
    points = {(point["aim"], point["level"]): point["threshold"] for point in found["operating_points"]}
    # nine of all eleven would do from 0.55 on, but that is only one of the two hard ones
    assert points["sensitivity", 0.8] == pytest.approx((0.25 + 0.3) / 2)
    # nine of all eleven lie below 0.275, but again only one of the two hard ones
    assert points["specificity", 0.8] == pytest.approx((0.5 + 0.6) / 2)
