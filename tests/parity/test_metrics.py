"""Our metrics against torchmetrics', where the definitions agree."""

import numpy as np
import pytest

from segfusion_jax.evaluation import calibration, classification, weighted

pytestmark = pytest.mark.parity


def simulate(seed: int, n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities, which float32 holds exactly: torchmetrics computes in it."""
    generator = np.random.default_rng(seed)
    labels = generator.random(n) < 0.3
    probabilities = 1 / (1 + np.exp(1 - generator.normal(size=n) - 1.5 * labels))
    return labels, np.round(probabilities * 256) / 256


def measured(metric, probabilities: np.ndarray, labels: np.ndarray):
    import torch

    return metric(torch.tensor(probabilities, dtype=torch.float32), torch.tensor(labels, dtype=torch.int64))


@pytest.mark.parametrize("seed", range(3))
def test_areas(seed):
    from torchmetrics.classification import BinaryAUROC, BinaryAveragePrecision

    labels, probabilities = simulate(seed)
    found = classification.metrics(labels, probabilities, 0.5)
    assert found["roc_auc"] == pytest.approx(measured(BinaryAUROC(), probabilities, labels).item(), abs=1e-6)
    assert found["pr_auc"] == pytest.approx(measured(BinaryAveragePrecision(), probabilities, labels).item(), abs=1e-6)


@pytest.mark.parametrize("min_sensitivity", [0.5, 0.8])
def test_partial_area(min_sensitivity):
    from torchmetrics.classification import BinaryAUROC

    labels, probabilities = simulate(3)
    max_fpr = 1 - min_sensitivity
    corrected = measured(BinaryAUROC(max_fpr=max_fpr), 1 - probabilities, ~labels).item()  # McClish's, 0.5 to 1
    expected = max_fpr**2 / 2 + (2 * corrected - 1) * (max_fpr - max_fpr**2 / 2)
    assert classification.partial_auc(labels, probabilities, min_sensitivity) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("level", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("seed", range(3))
def test_specificity_at_sensitivity_and_the_reverse(seed, level):
    from torchmetrics.classification import BinarySensitivityAtSpecificity, BinarySpecificityAtSensitivity

    labels, probabilities = simulate(seed)
    threshold = classification.threshold_for_sensitivity(labels, probabilities, level)
    expected, _ = measured(BinarySpecificityAtSensitivity(min_sensitivity=level), probabilities, labels)
    found = classification.operating_point(labels, probabilities, threshold)["specificity"]
    assert found == pytest.approx(expected.item(), abs=1e-6)
    threshold = classification.threshold_for_specificity(labels, probabilities, level)
    expected, _ = measured(BinarySensitivityAtSpecificity(min_specificity=level), probabilities, labels)
    found = classification.operating_point(labels, probabilities, threshold)["sensitivity"]
    assert found == pytest.approx(expected.item(), abs=1e-6)


def test_calibration_error_where_equal_widths_are_equal_masses():
    from torchmetrics.classification import MulticlassCalibrationError

    # torchmetrics bins by width, of the probability of the class that is named: both are the same for probabilities
    # of 'malignant' above 1/2 that are spread evenly over bins of equal width
    generator = np.random.default_rng(5)
    probabilities = 0.5 + (np.arange(320) + 0.5) / 640
    labels = generator.random(320) < probabilities**2
    both = np.stack([1 - probabilities, probabilities], axis=1)
    expected = measured(MulticlassCalibrationError(2, n_bins=20, norm="l1"), both, labels).item()
    found = calibration.expected_calibration_error(labels, probabilities, bins=10)
    assert found == pytest.approx(expected, abs=1e-6)


def test_classes():
    from torchmetrics.classification import MulticlassAccuracy, MulticlassAUROC, MulticlassConfusionMatrix

    generator = np.random.default_rng(6)
    targets = generator.integers(0, 5, 500)
    probabilities = generator.dirichlet(np.ones(5), 500) + 0.3 * np.eye(5)[targets]
    probabilities = (probabilities / probabilities.sum(axis=1, keepdims=True)).astype(np.float32)
    found = classification.multiclass_metrics(targets, probabilities)
    for name, metric in (
        ("macro_roc_auc", MulticlassAUROC(5)),
        ("balanced_accuracy", MulticlassAccuracy(5, average="macro")),
        ("accuracy", MulticlassAccuracy(5, average="micro")),
    ):
        assert found[name] == pytest.approx(measured(metric, probabilities, targets).item(), abs=1e-6)
    counts = classification.confusion_matrix(targets, probabilities.argmax(axis=1), 5)
    np.testing.assert_array_equal(counts, measured(MulticlassConfusionMatrix(5), probabilities, targets).numpy())


def test_drawn_metrics_are_those_of_the_drawn_images():
    from torchmetrics.classification import BinaryAUROC, BinaryMatthewsCorrCoef

    labels, probabilities = simulate(7)
    drawn = np.random.default_rng(8).integers(0, 4, labels.size)
    statistics = weighted.classification_statistics(
        labels, probabilities, 0.5 + 1 / 512
    )  # torchmetrics calls above 1/2
    for name, metric in (("roc_auc", BinaryAUROC()), ("mcc", BinaryMatthewsCorrCoef())):
        expected = measured(metric, probabilities.repeat(drawn), labels.repeat(drawn)).item()
        assert statistics[name](drawn[None].astype(float)).item() == pytest.approx(expected, abs=1e-5)
