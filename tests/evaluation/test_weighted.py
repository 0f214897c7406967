import numpy as np
import pytest
from sklearn import metrics as sk_metrics

from segfusion_jax.evaluation import classification, segmentation, weighted


def simulate(seed: int, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes with many tied scores, and one 0 and one 1."""
    generator = np.random.default_rng(seed)
    labels = generator.random(n) < 0.3
    probabilities = np.round(1 / (1 + np.exp(1 - generator.normal(size=n) - 1.5 * labels)), 2)
    probabilities[:2] = 0.0, 1.0  # where the log loss needs clipping
    return labels, probabilities


def weightings(seed: int, n: int) -> np.ndarray:
    """All once, and five of whole numbers, as a resample of groups gives them."""
    return np.vstack([np.ones(n), np.random.default_rng(seed).integers(0, 4, size=(5, n))])


@pytest.mark.parametrize("seed", range(3))
def test_weights_are_repetitions(seed):
    labels, probabilities = simulate(seed)
    weights = weightings(seed, labels.size)
    statistics = weighted.classification_statistics(labels, probabilities, 0.4)
    statistics |= weighted.operating_statistics(labels, probabilities, 0.4)
    found = {name: statistic(weights) for name, statistic in statistics.items()}
    for row, drawn in enumerate(weights.astype(int)):
        repeated = labels.repeat(drawn), probabilities.repeat(drawn)
        expected = classification.metrics(*repeated, 0.4) | classification.operating_point(*repeated, 0.4)
        del expected["ece"], expected["threshold"], expected["n"]
        assert {name: values[row] for name, values in found.items()} == pytest.approx(expected)


@pytest.mark.parametrize("min_sensitivity", [0.0, 0.5, 0.95])
def test_partial_auc_from_other_sensitivities(min_sensitivity):
    labels, probabilities = simulate(3)
    weights = weightings(3, labels.size)
    found = weighted.partial_auc(labels, probabilities, min_sensitivity)(weights)
    for value, drawn in zip(found, weights.astype(int), strict=True):
        expected = classification.partial_auc(labels.repeat(drawn), probabilities.repeat(drawn), min_sensitivity)
        assert value == pytest.approx(expected)
    with pytest.raises(ValueError, match="min_sensitivity = 1"):
        weighted.partial_auc(labels, probabilities, 1)


@pytest.mark.parametrize("decimals", [1, 9])
def test_areas_are_scikit_learns_with_sample_weights(decimals):
    labels, probabilities = simulate(1)
    probabilities = np.round(probabilities + np.linspace(0, 1e-3, labels.size), decimals).clip(0, 1)
    weights = np.random.default_rng(0).random((4, labels.size))  # not whole numbers
    roc = weighted.roc_auc(labels, probabilities)(weights)
    precision = weighted.average_precision(labels, probabilities)(weights)
    for row, of_images in enumerate(weights):
        assert roc[row] == pytest.approx(sk_metrics.roc_auc_score(labels, probabilities, sample_weight=of_images))
        expected = sk_metrics.average_precision_score(labels, probabilities, sample_weight=of_images)
        assert precision[row] == pytest.approx(expected)


def test_multiclass_weights_are_repetitions():
    generator = np.random.default_rng(4)
    targets = generator.choice([0, 1, 3, 4], 300)
    probabilities = (
        generator.dirichlet(np.ones(5), 300).round(2) * 0.5 + np.eye(5)[generator.permutation(targets)] * 0.5
    )
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    weights = np.vstack([weightings(4, 300), np.where(targets == 3, 0, 2)])  # in the last, class 3 is not drawn
    found = {
        name: statistic(weights) for name, statistic in weighted.multiclass_statistics(targets, probabilities).items()
    }
    for row, drawn in enumerate(weights.astype(int)):
        expected = classification.multiclass_metrics(targets.repeat(drawn), probabilities.repeat(drawn, axis=0))
        del expected["n"]
        assert {name: values[row] for name, values in found.items()} == pytest.approx(expected)


def test_what_one_class_alone_defines():
    labels, probabilities = simulate(0)
    statistics = weighted.classification_statistics(labels, probabilities, 0.4)
    statistics |= weighted.operating_statistics(labels, probabilities, 0.4)
    found = {name: statistic(np.stack([labels, ~labels]).astype(float)) for name, statistic in statistics.items()}
    always = {"accuracy", "brier", "log_loss", "prevalence"}
    assert {name for name, values in found.items() if not np.isnan(values[0])} == always | {"sensitivity", "recall"}
    assert {name for name, values in found.items() if not np.isnan(values[1])} == always | {"specificity"}
    assert found["sensitivity"][0] == np.mean(probabilities[labels] >= 0.4)


def test_one_drawn_class_defines_no_macro_mean():
    targets, probabilities = np.array([0, 0, 1, 2]), np.full((4, 3), 1 / 3)
    statistics = weighted.multiclass_statistics(targets, probabilities)
    found = {name: statistic(np.array([[1.0, 2, 0, 0]])).item() for name, statistic in statistics.items()}
    assert found == pytest.approx({"balanced_accuracy": np.nan, "macro_roc_auc": np.nan, "accuracy": 1.0}, nan_ok=True)


def test_nothing_called_is_no_division_by_zero(recwarn):
    labels, probabilities = np.array([0, 1, 1]), np.array([0.1, 0.2, 0.3])
    statistics = weighted.operating_statistics(labels, probabilities, 0.9)
    statistics |= weighted.classification_statistics(labels, probabilities, 0.9)
    for weights in (np.ones((1, 3)), np.zeros((1, 3)), np.array([[1.0, 0, 0]])):
        for statistic in statistics.values():
            statistic(weights)
    assert statistics["ppv"](np.ones((1, 3))).item() == statistics["mcc"](np.ones((1, 3))).item() == 0.0
    assert not recwarn.list


def test_images_without_a_value_do_not_count():
    statistic = weighted.mean(np.array([1.0, np.nan, 4.0]))
    np.testing.assert_array_equal(statistic(np.array([[1.0, 5, 2], [0, 1, 0]])), [3.0, np.nan])


def test_segmentation_statistics_are_those_of_the_summary():
    generator = np.random.default_rng(5)
    per_image = [segmentation.score(*(generator.random((2, 6, 6)) < 0.8)) for _ in range(8)]
    per_image.append(segmentation.score(np.zeros((2, 2), bool), np.ones((2, 2), bool)))
    expected = segmentation.summarise(per_image) | {"zero_rate": 1 / 9}
    assert 1 / 9 < expected["failure_rate"] < 1
    del expected["n"]
    statistics = weighted.segmentation_statistics(per_image)
    assert {name: statistic(np.ones((1, 9))).item() for name, statistic in statistics.items()} == pytest.approx(
        expected
    )


def test_weights_of_other_images_are_refused():
    labels, probabilities = simulate(0)
    for n in (labels.size - 1, labels.size + 1):
        for statistic in weighted.classification_statistics(labels, probabilities, 0.5).values():
            with pytest.raises(ValueError):
                statistic(np.ones((2, n)))
