import time

import numpy as np
import pytest

from segfusion_jax.evaluation import bootstrap, weighted
from tests.evaluation import delong


def simulate(seed: int, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.random(n) < 0.3
    return labels, 1 / (1 + np.exp(1 - generator.normal(size=n) - 1.5 * labels))


def test_interval_of_a_mean_is_the_analytic_one():
    values = np.random.default_rng(0).normal(size=400)
    low, high, undefined = bootstrap.interval(weighted.mean(values), np.arange(400), resamples=4000)
    half = 1.96 * values.std() / np.sqrt(400)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)
    assert undefined == 0


def test_interval_of_an_area_is_delongs():
    labels, probabilities = simulate(1, 600)
    low, high, _ = bootstrap.interval(weighted.roc_auc(labels, probabilities), np.arange(600))
    expected = delong.interval(labels, probabilities)
    width = expected[1] - expected[0]
    assert (low, high) == pytest.approx(expected, abs=0.08 * width)


def test_interval_of_a_difference_of_areas_is_delongs():
    labels, a = simulate(2, 600)
    b = np.random.default_rng(3).normal(a, 0.15).clip(0, 1)
    paired = bootstrap.difference(weighted.roc_auc(labels, a), weighted.roc_auc(labels, b))
    low, high, _ = bootstrap.interval(paired, np.arange(600))
    expected = delong.compare(labels, a, b)
    assert (low, high) == pytest.approx(expected[1:3], abs=0.08 * (expected.high - expected.low))


def test_groups_are_drawn_whole():
    # 40 groups of 10 equal images hold no more information than 40 images
    values = np.random.default_rng(1).normal(size=40)
    whole = bootstrap.interval(weighted.mean(values.repeat(10)), np.arange(40).repeat(10))
    assert whole == pytest.approx(bootstrap.interval(weighted.mean(values), np.arange(40)))


def test_coverage_under_grouping():
    generator = np.random.default_rng(2)
    covered = []
    for seed in range(300):
        groups = np.arange(60).repeat(4)
        values = generator.normal(size=60)[groups] + generator.normal(size=240)
        low, high, _ = bootstrap.interval(weighted.mean(values), groups, resamples=400, seed=seed)
        covered.append(low <= 0 <= high)
    assert 0.9 <= np.mean(covered) <= 0.98  # images in place of groups would cover about 70 %


def test_the_same_seed_draws_the_same():
    statistic, groups = weighted.mean(np.arange(30.0)), [f"lesion {i // 2}" for i in range(30)]
    assert bootstrap.interval(statistic, groups, seed=3) == bootstrap.interval(statistic, groups, seed=3)
    assert bootstrap.interval(statistic, groups, seed=3) != bootstrap.interval(statistic, groups, seed=4)


def test_neither_memory_nor_company_changes_the_draws(monkeypatch):
    labels, probabilities = simulate(0)
    statistics = weighted.classification_statistics(labels, probabilities, 0.4)
    groups = np.arange(200) // 3
    together = bootstrap.intervals(statistics, groups, resamples=500)
    monkeypatch.setattr(bootstrap, "CHUNK", 7 * 200)  # seven rows at once, and three at last
    assert bootstrap.interval(statistics["mcc"], groups, resamples=500) == pytest.approx(together["mcc"])
    shapes = [weights.shape for weights in bootstrap.draws(groups, 500, 0)]
    assert set(shapes) == {(7, 200), (3, 200)} and sum(rows for rows, _ in shapes) == 500


def test_resamples_of_one_class_are_left_out_and_counted():
    labels, probabilities = np.array([1, 0, 0, 0]), np.array([0.9, 0.1, 0.2, 0.3])
    low, high, undefined = bootstrap.interval(weighted.roc_auc(labels, probabilities), np.arange(4))
    assert (low, high) == (1.0, 1.0)
    assert undefined == pytest.approx(2000 * (0.75**4 + 0.25**4), abs=90)


def test_undefined_in_every_resample_is_no_interval():
    statistic = weighted.roc_auc(np.zeros(5), np.linspace(0, 1, 5))
    low, high, undefined = bootstrap.interval(statistic, np.arange(5), resamples=100)
    assert np.isnan([low, high]).all() and undefined == 100


def test_entries_hold_what_is_known():
    labels, probabilities = np.array([1, 0, 0, 0]), np.array([0.3, 0.1, 0.2, 0.4])
    statistics = {
        "roc_auc": weighted.roc_auc(labels, probabilities),
        "accuracy": weighted.mean(labels == 0),
        "sensitivity": weighted.mean(np.array([1, np.nan, np.nan, np.nan])),
        "missing": weighted.mean(np.full(4, np.nan)),
    }
    values = {"roc_auc": 2 / 3, "accuracy": 0.75, "sensitivity": 1.0, "missing": np.nan, "n": 4}
    section = bootstrap.entries(values, statistics, list("abcd"), resamples=300, seed=5)
    found = bootstrap.intervals(statistics, list("abcd"), resamples=300, seed=5)
    area, accuracy = found["roc_auc"], found["accuracy"]
    assert area.undefined > 0 and accuracy.undefined == 0
    assert section == {
        "roc_auc": {"value": 2 / 3, "low": area.low, "high": area.high, "undefined": area.undefined},
        "accuracy": {"value": 0.75, "low": accuracy.low, "high": accuracy.high},
        "sensitivity": {"value": 1.0, "undefined": found["sensitivity"].undefined},  # 1 in every resample
        "n": {"value": 4.0},
    }
    one_group = bootstrap.entries(values, statistics, ["a"] * 4)
    assert one_group == {name: {"value": value} for name, value in values.items() if name != "missing"}
    with pytest.raises(ValueError, match=r"statistics \['dice'\]"):
        bootstrap.entries(values, {"dice": statistics["accuracy"]}, list("abcd"))


def test_bad_arguments_are_refused():
    statistic = weighted.mean(np.ones(3))
    with pytest.raises(ValueError, match="1 distinct name"):
        bootstrap.interval(statistic, ["a", "a", "a"])
    with pytest.raises(ValueError, match="resamples = 0"):
        bootstrap.interval(statistic, ["a", "b", "c"], resamples=0)
    with pytest.raises(ValueError):
        bootstrap.interval(statistic, ["a", "b", "c", "d"])


def test_two_thousand_resamples_of_all_metrics_take_a_second():
    labels, probabilities = simulate(0, n=1500)
    statistics = weighted.classification_statistics(labels, probabilities, 0.4)
    start = time.perf_counter()
    bootstrap.intervals(statistics, np.arange(1500) // 2)
    assert time.perf_counter() - start < 5  # 0.25 s on a free core


def test_an_average_over_draws_is_that_of_each_draws_own_images():
    rng = np.random.default_rng(3)
    values = [rng.normal(size=5), rng.normal(size=9)]
    statistic = bootstrap.average([weighted.mean(part) for part in values], [5, 9])
    np.testing.assert_allclose(statistic(np.ones((1, 14))), [np.mean([part.mean() for part in values])])
    weights = rng.integers(0, 3, size=(20, 14)).astype(float)
    expected = [np.average(part, weights=w, axis=0) for part, w in zip(values, np.split(weights[0], [5]), strict=True)]
    assert statistic(weights)[0] == pytest.approx(np.mean(expected))
