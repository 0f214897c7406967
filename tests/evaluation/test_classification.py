import numpy as np
import pytest
from sklearn import metrics as sk_metrics

from segfusion_jax.evaluation import classification


def simulate(seed: int, n: int = 300, decimals: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes with many tied scores."""
    generator = np.random.default_rng(seed)
    labels = (generator.random(n) < 0.3).astype(np.int32)
    return labels, np.round(1 / (1 + np.exp(1 - generator.normal(size=n) - 1.5 * labels)), decimals)


def test_threshold_lies_half_way_between_the_scores_it_separates():
    assert classification.choose_threshold(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.6, 0.9])) == pytest.approx(0.4)


def test_of_equally_good_thresholds_the_most_sensitive_is_taken():
    labels, probabilities = np.array([0, 1, 0, 1]), np.array([0.1, 0.3, 0.5, 0.7])
    assert classification.choose_threshold(labels, probabilities) == pytest.approx(0.2)


@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_has_a_larger_balanced_accuracy(seed):
    labels, probabilities = simulate(seed)
    chosen = classification.choose_threshold(labels, probabilities)
    scores = [sk_metrics.balanced_accuracy_score(labels, probabilities >= t) for t in np.linspace(0, 1, 1001)]
    assert sk_metrics.balanced_accuracy_score(labels, probabilities >= chosen) == pytest.approx(max(scores))


@pytest.mark.parametrize("probabilities", [[0.9, 0.8, 0.2, 0.1], [0.5] * 4])
def test_without_a_useful_threshold_everything_is_malignant(probabilities):
    assert classification.choose_threshold(np.array([0, 0, 1, 1]), np.array(probabilities)) == 0.0


def test_threshold_separates_neighbouring_floats():
    low = 0.5
    probabilities = np.array([low, np.nextafter(low, 1)])
    threshold = classification.choose_threshold(np.array([0, 1]), probabilities)
    np.testing.assert_array_equal(probabilities >= threshold, [False, True])


def test_hand_worked_metrics():
    # at 0.5: 2 true positives, 1 false positive, 1 false negative, 4 true negatives
    labels = np.array([1, 1, 1, 0, 0, 0, 0, 0])
    probabilities = np.array([0.9, 0.5, 0.3, 0.7, 0.4, 0.2, 0.1, 0.0])
    metrics = classification.metrics(labels, probabilities, 0.5)
    expected = {
        "accuracy": 6 / 8,
        "precision": 2 / 3,
        "recall": 2 / 3,
        "f1": 2 / 3,
        "mcc": (2 * 4 - 1 * 1) / 15,
        "roc_auc": 12 / 15,  # pairs in the right order
        "pr_auc": (1 / 1 + 2 / 3 + 3 / 5) / 3,
        "balanced_accuracy": (2 / 3 + 4 / 5) / 2,
        "sensitivity": 2 / 3,
        "specificity": 4 / 5,
        "brier": (0.01 + 0.25 + 0.49 + 0.49 + 0.16 + 0.04 + 0.01) / 8,
        "log_loss": -np.log([0.9, 0.5, 0.3, 0.3, 0.6, 0.8, 0.9, 1.0]).mean(),
        "prevalence": 3 / 8,
        "threshold": 0.5,
        "n": 8,
    }
    assert metrics == pytest.approx(expected)
    assert all(type(value) is float for value in metrics.values())


def test_nothing_called_malignant_has_zero_precision_and_no_warning(recwarn):
    metrics = classification.metrics(np.array([0, 1]), np.array([0.2, 0.3]), 0.9)
    assert metrics["precision"] == metrics["sensitivity"] == metrics["f1"] == metrics["mcc"] == 0.0
    assert not recwarn.list


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([0, 0], [0.1, 0.2], "0 of 2 images are malignant"),
        ([1, 1], [0.1, 0.2], "2 of 2 images are malignant"),
        ([], [], "0 of 0 images"),
        ([0, 1, -1], [0.1, 0.2, 0.3], "labels hold .*-1"),
        ([0, 1], [0.1, np.nan], "probabilities hold nan"),
        ([0, 1], [0.1, 1.5], "probabilities hold 1.5"),
        ([0, 1], [0.1, 0.2, 0.3], "of one shape"),
        ([[0, 1]], [[0.1, 0.2]], "of one shape"),
    ],
)
def test_what_cannot_be_scored_is_refused(labels, probabilities, message):
    with pytest.raises(ValueError, match=message):
        classification.choose_threshold(np.array(labels), np.array(probabilities))
    with pytest.raises(ValueError, match=message):
        classification.metrics(np.array(labels), np.array(probabilities), 0.5)


def test_a_threshold_that_is_no_probability_is_refused():
    with pytest.raises(ValueError, match="threshold = 2"):
        classification.metrics(np.array([0, 1]), np.array([0.1, 0.9]), 2.0)
