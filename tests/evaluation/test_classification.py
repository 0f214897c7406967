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
        "partial_auc": 0.2 * 3 / 5,  # above a sensitivity of 0.8 all lies at the specificity of finding the third
        "balanced_accuracy": (2 / 3 + 4 / 5) / 2,
        "sensitivity": 2 / 3,
        "specificity": 4 / 5,
        "brier": (0.01 + 0.25 + 0.49 + 0.49 + 0.16 + 0.04 + 0.01) / 8,
        "log_loss": -np.log([0.9, 0.5, 0.3, 0.3, 0.6, 0.8, 0.9, 1.0]).mean(),
        "ece": (0.1 + 0.5 + 0.7 + 0.7 + 0.4 + 0.2 + 0.1 + 0.0) / 8,  # 15 bins: each image is alone
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


def isic_2024_partial_auc(labels: np.ndarray, probabilities: np.ndarray, min_sensitivity: float) -> float:
    """The challenge's definition, with McClish's correction taken back: scikit-learn's value is 0.5 to 1."""
    max_fpr = 1 - min_sensitivity
    corrected = sk_metrics.roc_auc_score(1 - labels, -probabilities, max_fpr=max_fpr)
    chance = max_fpr**2 / 2
    return chance + (2 * corrected - 1) * (max_fpr - chance)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("min_sensitivity", [0.0, 0.5, 0.8, 0.95])
def test_partial_auc_is_that_of_flipped_labels_without_mcclish(seed, min_sensitivity):
    labels, probabilities = simulate(seed)
    expected = isic_2024_partial_auc(labels, probabilities, min_sensitivity)
    assert classification.partial_auc(labels, probabilities, min_sensitivity) == pytest.approx(expected)


def test_partial_auc_of_the_best_the_worst_and_of_chance():
    labels = np.array([0, 0, 1, 1])
    assert classification.partial_auc(labels, np.array([0.1, 0.2, 0.8, 0.9])) == pytest.approx(0.2)
    assert classification.partial_auc(labels, np.array([0.9, 0.8, 0.2, 0.1])) == 0.0
    assert classification.partial_auc(labels, np.full(4, 0.5)) == pytest.approx(0.02)
    with pytest.raises(ValueError, match="min_sensitivity = 1"):
        classification.partial_auc(labels, np.full(4, 0.5), 1.0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("level", [0.05, 0.5, 0.8, 0.9, 0.95, 1.0])
def test_thresholds_reach_their_level_and_the_next_ones_do_not(seed, level):
    labels, probabilities = simulate(seed)
    scores = np.unique(probabilities)
    cuts = [0.0, *(scores[1:] + scores[:-1]) / 2, (scores[-1] + 1) / 2]  # all there are
    reached = [classification.operating_point(labels, probabilities, cut) for cut in cuts]
    sensitive = [cut for cut, point in zip(cuts, reached, strict=True) if point["sensitivity"] >= level]
    specific = [cut for cut, point in zip(cuts, reached, strict=True) if point["specificity"] >= level]
    assert classification.threshold_for_sensitivity(labels, probabilities, level) == pytest.approx(max(sensitive))
    assert classification.threshold_for_specificity(labels, probabilities, level) == pytest.approx(min(specific))


def test_a_level_that_is_met_exactly_is_met():
    # 19 of 20, 9 of 10: shares that floating point must not turn away
    for found, count, level in ((19, 20, 0.95), (9, 10, 0.9), (4, 5, 0.8)):
        positive = np.linspace(0.5, 0.6, count)
        labels, probabilities = np.repeat([1, 0], count), np.append(positive, positive - 0.3)
        threshold = classification.threshold_for_sensitivity(labels, probabilities, level)
        assert (probabilities[:count] >= threshold).sum() == found
        threshold = classification.threshold_for_specificity(labels, probabilities, level)
        assert (probabilities[count:] < threshold).sum() == found


def test_thresholds_at_the_edges():
    labels, probabilities = np.array([1, 0, 1, 0]), np.array([0.2, 0.4, 0.6, 0.8])
    assert classification.threshold_for_sensitivity(labels, probabilities, 1.0) == 0.0
    assert classification.threshold_for_specificity(labels, probabilities, 1.0) == pytest.approx(0.9)
    sure = classification.threshold_for_specificity(labels, np.array([0.2, 0.4, 0.6, 1.0]), 1.0)
    assert sure == np.nextafter(1, 2)
    assert classification.operating_point(labels, np.array([0.2, 0.4, 0.6, 1.0]), sure)["specificity"] == 1.0
    for level in (0.0, 1.1, float("nan")):
        with pytest.raises(ValueError, match="level = "):
            classification.threshold_for_sensitivity(labels, probabilities, level)
        with pytest.raises(ValueError, match="level = "):
            classification.threshold_for_specificity(labels, probabilities, level)


def test_hand_worked_operating_point():
    labels = np.array([1, 1, 1, 0, 0, 0, 0, 0])
    probabilities = np.array([0.9, 0.5, 0.3, 0.7, 0.4, 0.2, 0.1, 0.0])
    assert classification.operating_point(labels, probabilities, 0.5) == pytest.approx(
        {"sensitivity": 2 / 3, "specificity": 4 / 5, "ppv": 2 / 3, "npv": 4 / 5}
    )
    everything = classification.operating_point(labels, probabilities, 0.0)
    assert everything == pytest.approx({"sensitivity": 1.0, "specificity": 0.0, "ppv": 3 / 8, "npv": 0.0})
    nothing = classification.operating_point(labels, probabilities, 1.5)
    assert nothing == pytest.approx({"sensitivity": 0.0, "specificity": 1.0, "ppv": 0.0, "npv": 5 / 8})
    with pytest.raises(ValueError, match="threshold = -1"):
        classification.operating_point(labels, probabilities, -1.0)


def test_predictive_values_at_another_prevalence():
    # a test of 90 % and 80 % in 1000 people: 18 of 20 found, 196 of 980 alarmed
    ppv, npv = classification.predictive_values(0.9, 0.8, 0.02)
    assert (ppv, npv) == pytest.approx((18 / (18 + 196), 784 / (784 + 2)))
    labels, probabilities = simulate(1)
    point = classification.operating_point(labels, probabilities, 0.4)
    same = classification.predictive_values(point["sensitivity"], point["specificity"], labels.mean())
    assert same == pytest.approx((point["ppv"], point["npv"]))
    assert classification.predictive_values(0.0, 1.0, 0.3) == pytest.approx((0.0, 0.7))
    with pytest.raises(ValueError, match="prevalence = 2"):
        classification.predictive_values(0.9, 0.8, 2)


@pytest.mark.parametrize("absent", [None, 2])
def test_multiclass_metrics_are_scikit_learns(absent):
    generator = np.random.default_rng(6)
    targets = generator.choice([number for number in range(5) if number != absent], 400)
    probabilities = generator.dirichlet(np.ones(5), 400) + np.eye(5)[targets] * 0.3
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    found = classification.multiclass_metrics(targets, probabilities)
    present = np.unique(targets)
    areas = [sk_metrics.roc_auc_score(targets == number, probabilities[:, number]) for number in present]
    recalls = sk_metrics.recall_score(targets, probabilities.argmax(1), labels=present, average=None)
    assert found["macro_roc_auc"] == pytest.approx(np.mean(areas))
    if absent is None:
        whole = sk_metrics.roc_auc_score(targets, probabilities, multi_class="ovr", average="macro")
        assert found["macro_roc_auc"] == pytest.approx(whole)
    assert found["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    assert found["accuracy"] == pytest.approx(np.mean(probabilities.argmax(1) == targets))
    assert found["n"] == 400


def test_confusion_matrix_counts_classes_that_are_absent_too():
    counts = classification.confusion_matrix(np.array([0, 0, 2, 2]), np.array([0, 1, 2, 0]), 4)
    np.testing.assert_array_equal(counts, [[1, 1, 0, 0], [0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]])


@pytest.mark.parametrize(
    ("targets", "probabilities", "message"),
    [
        ([0, 3], [[0.5, 0.5]] * 2, "class 3: must be from 0 to 1"),
        ([0, 1, 1], [[0.5, 0.5]] * 2, "equally many"),
        ([0, 1], [[0.5, 0.9]] * 2, "sum to 1.4"),
        ([0, 1], [[-0.5, 1.5]] * 2, "probabilities hold -0.5"),
        ([1, 1], [[0.5, 0.5]] * 2, "all 2 images are of class 1"),
        ([0.0, 1.0], [[0.5, 0.5]] * 2, "float64 array"),
        ([0, 1], [0.5, 0.5], "at least 2 classes"),
    ],
)
def test_classes_that_cannot_be_scored_are_refused(targets, probabilities, message):
    with pytest.raises(ValueError, match=message):
        classification.multiclass_metrics(np.array(targets), np.array(probabilities))


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([0, 0], [0.1, 0.2], "0 of 2 images are malignant"),
        ([1, 1], [0.1, 0.2], "2 of 2 images are malignant"),
        ([], [], "of 0 images"),
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
