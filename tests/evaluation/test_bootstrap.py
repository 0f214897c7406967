import logging
import time

import numpy as np
import pytest
from sklearn import metrics as sk_metrics

from segfusion_jax.evaluation import bootstrap, classification, segmentation


def simulate(seed: int, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.random(n) < 0.3
    probabilities = np.round(1 / (1 + np.exp(1 - generator.normal(size=n) - 1.5 * labels)), 2)
    return labels, probabilities


def test_interval_of_a_mean_is_the_analytic_one():
    values = np.random.default_rng(0).normal(size=400)
    low, high = bootstrap.interval(bootstrap.mean(values), np.arange(400), resamples=4000)
    half = 1.96 * values.std() / np.sqrt(400)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_groups_are_drawn_whole():
    # 40 groups of 10 equal images hold no more information than 40 images
    values = np.random.default_rng(1).normal(size=40)
    whole = bootstrap.interval(bootstrap.mean(values.repeat(10)), np.arange(40).repeat(10))
    assert whole == pytest.approx(bootstrap.interval(bootstrap.mean(values), np.arange(40)))


def test_coverage_under_grouping():
    generator = np.random.default_rng(2)
    covered = []
    for seed in range(150):
        groups = np.arange(60).repeat(4)
        values = generator.normal(size=60)[groups] + generator.normal(size=240)
        low, high = bootstrap.interval(bootstrap.mean(values), groups, resamples=200, seed=seed)
        covered.append(low <= 0 <= high)
    assert 0.88 <= np.mean(covered) <= 0.99  # images in place of groups would cover about 70 %


def test_the_same_seed_draws_the_same():
    statistic, groups = bootstrap.mean(np.arange(30.0)), [f"lesion {i // 2}" for i in range(30)]
    assert bootstrap.interval(statistic, groups, seed=3) == bootstrap.interval(statistic, groups, seed=3)
    assert bootstrap.interval(statistic, groups, seed=3) != bootstrap.interval(statistic, groups, seed=4)


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_macro_recall_is_scikit_learns_balanced_accuracy():
    generator = np.random.default_rng(4)
    targets, decisions = generator.choice([0, 1, 3, 4], 300), generator.integers(0, 5, 300)
    recall = bootstrap.macro_recall(targets, decisions)
    for weights in (np.ones(300), generator.integers(0, 3, 300).astype(float), np.where(targets == 3, 0.0, 2.0)):
        drawn = weights.astype(int)  # as often as it was drawn
        expected = sk_metrics.balanced_accuracy_score(targets.repeat(drawn), decisions.repeat(drawn))
        assert recall(weights) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_unit_weights_give_the_metrics_themselves(seed):
    labels, probabilities = simulate(seed)
    probabilities[:2] = 0.0, 1.0  # where the log loss needs clipping
    threshold = classification.choose_threshold(labels, probabilities)
    statistics = bootstrap.classification_statistics(labels, probabilities, threshold)
    expected = classification.metrics(labels, probabilities, threshold)
    del expected["threshold"], expected["n"]
    assert {name: statistic(np.ones(200)) for name, statistic in statistics.items()} == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_weights_are_repetitions(seed):
    labels, probabilities = simulate(seed)
    weights = np.random.default_rng(seed).integers(0, 4, size=200)
    statistics = bootstrap.classification_statistics(labels, probabilities, 0.4)
    expected = classification.metrics(labels.repeat(weights), probabilities.repeat(weights), 0.4)
    for name, statistic in statistics.items():
        assert statistic(weights.astype(float)) == pytest.approx(expected[name]), name
    auc = sk_metrics.roc_auc_score(labels, probabilities, sample_weight=weights)
    assert statistics["roc_auc"](weights.astype(float)) == pytest.approx(auc)


def test_segmentation_statistics_are_those_of_the_summary():
    generator = np.random.default_rng(5)
    per_image = [segmentation.overlap(*(generator.random((2, 6, 6)) < 0.8)) for _ in range(9)]
    expected = segmentation.summarise(per_image)
    assert 0 < expected["failure_rate"] < 1
    del expected["n"]
    statistics = bootstrap.segmentation_statistics(per_image)
    assert {name: statistic(np.ones(9)) for name, statistic in statistics.items()} == pytest.approx(expected)


def test_resamples_of_one_class_are_skipped_and_counted(caplog):
    labels, probabilities = np.array([1, 0, 0, 0]), np.array([0.9, 0.1, 0.2, 0.3])
    with caplog.at_level(logging.WARNING, logger="absl"):
        assert bootstrap.interval(bootstrap.roc_auc(labels, probabilities), np.arange(4)) == (1.0, 1.0)
    (record,) = caplog.records
    skipped = int(record.getMessage().split()[0])
    assert skipped == pytest.approx(1000 * (0.75**4 + 0.25**4), abs=60)


def test_only_means_are_defined_for_one_class():
    labels, probabilities = simulate(0)
    statistics = bootstrap.classification_statistics(labels, probabilities, 0.4)
    for weights in (labels.astype(float), (~labels).astype(float)):
        defined = {name for name, statistic in statistics.items() if not np.isnan(statistic(weights))}
        assert defined == {"accuracy", "brier", "log_loss", "prevalence"}


def test_undefined_in_every_resample_is_an_error():
    with pytest.raises(ValueError, match="undefined in all 10 resamples of 3 groups"):
        bootstrap.interval(lambda weights: float("nan"), [1, 2, 3], resamples=10)


def test_bad_arguments_are_refused():
    labels, probabilities = simulate(0)
    with pytest.raises(ValueError, match="1 distinct name"):
        bootstrap.interval(bootstrap.mean(np.ones(3)), ["a", "a", "a"])
    with pytest.raises(ValueError, match="resamples = 0"):
        bootstrap.interval(bootstrap.mean(np.ones(3)), ["a", "b", "c"], resamples=0)
    for statistic in bootstrap.classification_statistics(labels, probabilities, 0.5).values():
        with pytest.raises(ValueError):
            bootstrap.interval(statistic, range(len(labels) + 1))


def test_a_thousand_resamples_of_all_metrics_take_seconds():
    labels, probabilities = simulate(0, n=1500)
    start = time.perf_counter()
    for statistic in bootstrap.classification_statistics(labels, probabilities, 0.4).values():
        bootstrap.interval(statistic, np.arange(1500) // 2)
    assert time.perf_counter() - start < 10
