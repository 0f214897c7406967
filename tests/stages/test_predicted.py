"""Probabilities as they are calibrated, and as they would be if all classes were equally frequent."""

import numpy as np
import pytest

from segfusion_jax.ensembles import Classes
from segfusion_jax.evaluation.calibration import Calibration
from segfusion_jax.stages.predicted import Predicted


def predicted(logits, names, positive, shares) -> Predicted:
    num_logits = len(logits[0])
    calibration = Calibration(1.0, (0.0,) * num_logits)
    return Predicted((), np.array(logits), calibration, Classes(names, positive, num_logits), shares)


def test_equal_classes_divide_by_the_shares_in_training():
    test = predicted([[0.0], [np.log(9.0)]], ("benign", "malignant"), (False, True), (0.9, 0.1))
    np.testing.assert_allclose(test.of_classes, [[0.5, 0.5], [0.1, 0.9]])
    np.testing.assert_allclose(test.of_equal_classes, [[0.1, 0.9], [1 / 82, 81 / 82]])  # odds times 9
    assert test.prevalence == pytest.approx(0.1)


def test_a_class_that_was_not_trained_on_is_never_named():
    shares, positive = (0.75, 0.25, 0.0), (False, True, True)
    test = predicted([np.log([0.5, 0.3, 0.2])], ("nevus", "melanoma", "other"), positive, shares)
    odds = np.array([0.5 / 0.75, 0.3 / 0.25, 0.0])
    np.testing.assert_allclose(test.of_equal_classes, [odds / odds.sum()])
    assert test.prevalence == pytest.approx(0.25)
