"""Intervals of scores on few images, against what they promise: how often they hold the truth."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from segfusion_jax.evaluation.small_samples import mean_interval, roc_auc_interval


@pytest.mark.parametrize(("positives", "negatives", "shift"), [(8, 12, 1.0), (8, 12, 2.5), (40, 60, 1.5)])
def test_the_interval_of_an_area_holds_the_truth_nineteen_times_in_twenty(positives, negatives, shift):
    rng, truth = np.random.default_rng(0), stats.norm.cdf(shift / 2**0.5)
    labels = np.repeat([1, 0], [positives, negatives])
    held = 0
    for _ in range(400):
        value = metrics.roc_auc_score(labels, rng.normal(shift * labels, 1))
        low, high = roc_auc_interval(value, positives, negatives)
        assert 0 <= low <= value <= high <= 1
        held += low <= truth <= high
    assert 0.92 <= held / 400 <= 1.0


def test_a_perfect_score_on_few_images_is_not_sure_and_on_more_it_is_surer():
    few, more = roc_auc_interval(1.0, 8, 8)[0], roc_auc_interval(1.0, 80, 80)[0]
    assert 0.6 < few < 0.85 < 0.95 < more < 1.0
    assert roc_auc_interval(0.0, 8, 8) == pytest.approx((0.0, 1 - few), abs=1e-6)  # the same, mirrored


def test_the_interval_of_a_mean_is_the_normal_one():
    values = np.random.default_rng(1).uniform(0.3, 0.9, 50)
    expected = stats.norm.interval(0.95, values.mean(), stats.sem(values))
    assert mean_interval(values.tolist()) == pytest.approx(expected, abs=1e-5)
    assert mean_interval([0.7]) == (0.0, 1.0)
