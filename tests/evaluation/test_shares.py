"""Shares of classes where labels are coarse, against their likelihood and a model that sees nothing."""

import numpy as np
import pytest
from scipy import optimize, special

from segfusion_jax.evaluation import calibration, shares

POSSIBLE = np.array(
    [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 1, 1, 0], [0, 1, 1, 1], [1, 1, 0, 0]], bool
)
TARGETS = np.repeat(np.arange(7), [40, 10, 30, 5, 25, 60, 9])


def fitted(weights):
    """Shares of the classes with the largest weighted likelihood, found by a general optimiser."""
    inside = POSSIBLE[TARGETS]

    def loss(free):
        return -(weights * special.logsumexp(special.log_softmax([*free, 0.0]), b=inside, axis=1)).sum()

    return special.softmax([*optimize.minimize(loss, np.zeros(3), tol=1e-10).x, 0.0])


def test_counts_of_classes_alone_are_numbers_to_the_last_digit():
    targets = np.repeat([0, 1, 2], [7, 1, 4403])
    assert shares.class_counts(targets, np.eye(4, dtype=bool)).tolist() == [7, 1, 4403, 0]


def test_coarse_labels_are_shared_out_as_the_classes_are():
    """By hand: of classes 1 and 2, 3 to 1, two more images are 1.5 and 0.5."""
    possible = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1]], bool)
    found = shares.class_counts(np.array([0, 0, 1, 1, 1, 2, 3, 3]), possible)
    np.testing.assert_allclose(found, [2, 4.5, 1.5], rtol=1e-6)


def test_counts_are_the_most_likely_ones():
    found = shares.class_counts(TARGETS, POSSIBLE)
    assert found.sum() == pytest.approx(len(TARGETS))
    np.testing.assert_allclose(found / found.sum(), fitted(np.ones(len(TARGETS))), atol=1e-5)


def test_with_balancing_weights_a_model_that_sees_nothing_learns_equal_shares():
    counts = shares.class_counts(TARGETS, POSSIBLE)
    weights = shares.balancing(counts, POSSIBLE)
    np.testing.assert_allclose(fitted(weights[TARGETS]), 0.25, atol=1e-5)
    plain = shares.balancing(np.array([3.0, 1.0, 2.0]), np.eye(3, dtype=bool))
    assert plain.tolist() == [6 / 9, 6 / 3, 6 / 6]


def test_temperature_of_coarse_labels():
    """Logits are twice too certain, labels drawn from what is true, half of them told as one of two classes only."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20000, 4))
    drawn = (special.softmax(logits, axis=1).cumsum(axis=1) < rng.random((20000, 1))).sum(axis=1)
    coarse = (rng.random(20000) < 0.5) & np.isin(drawn, (1, 2))
    targets = np.where(coarse, 4, drawn)
    assert calibration.fit_temperature(targets, 2 * logits, possible=POSSIBLE) == pytest.approx(2, rel=0.05)
    with pytest.raises(ValueError, match="class 7: must be from 0 to 6"):
        calibration.fit_temperature(np.full(20000, 7), logits, possible=POSSIBLE)


def test_temperature_of_labels_that_are_all_met_stays_one():
    logits = np.array([[0.0, 3.0, 1.0, 0.0], [5.0, 0.0, 1.0, 0.0]])
    assert calibration.fit_temperature(np.array([4, 0]), logits, possible=POSSIBLE) == 1.0
