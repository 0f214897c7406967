"""What the classifiers say of images, as probabilities."""

import numpy as np
import pytest

from segfusion_jax.evaluation.calibration import Calibration
from segfusion_jax.pipeline.stages.predicted import Predicted
from segfusion_jax.serving.ensembles import Classes


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
