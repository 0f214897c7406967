"""Which example comes when: how often each, and never one that must not."""

import math

import numpy as np
import pytest
from scipy import stats

from segfusion_jax.input import sampling


def first(order, count: int) -> list[int]:
    return order(np.arange(count)).tolist()


def test_shuffled_passes_have_every_example_once():
    passes = np.reshape(first(sampling.shuffled(9, seed=1), 90), (10, 9))
    np.testing.assert_array_equal(np.sort(passes, 1), np.tile(np.arange(9), (10, 1)))
    assert len({order.tobytes() for order in passes}) == 10


def test_any_place_of_any_pass():
    order = sampling.shuffled(7, seed=3)
    whole = order(np.arange(70))
    places = np.array([0, 69, 13, 14, 6, 7])
    np.testing.assert_array_equal(order(places), whole[places])
    far = order(10**12 + np.arange(14))
    assert sorted(far[(-(10**12)) % 7 :][:7].tolist()) == list(range(7))


def test_weights_are_proportions():
    weights = [1.0, 0.0, 2.0, 5.0]
    counts = np.bincount(first(sampling.weighted(weights, seed=1), 4000), minlength=4)
    assert counts[1] == 0
    assert stats.chisquare(counts[[0, 2, 3]], [500, 1000, 2500]).pvalue > 1e-3


def test_draws_are_independent_of_those_before():
    drawn = np.array(first(sampling.weighted([1.0] * 4, seed=2), 4001))
    table = np.zeros((4, 4))
    np.add.at(table, (drawn[:-1], drawn[1:]), 1)
    assert stats.chi2_contingency(table).pvalue > 1e-3


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_only_proportions_of_weights_count(scale):
    plain = first(sampling.weighted([1.0, 3.0, 0.5], seed=4), 200)
    assert first(sampling.weighted([scale, 3 * scale, 0.5 * scale], seed=4), 200) == plain


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_only_example_with_a_weight_is_the_only_one_drawn(place):
    weights = [0.0, 0.0, 0.0]
    weights[place] = 0.3
    assert set(first(sampling.weighted(weights, seed=0), 300)) == {place}


def test_the_same_seed_gives_the_same_order_at_any_place():
    order = first(sampling.weighted([1.0, 2.0, 3.0], seed=5), 50)
    anywhere = sampling.weighted([1.0, 2.0, 3.0], seed=5)(np.array([49, 7, 0]))
    assert anywhere.tolist() == [order[49], order[7], order[0]]
    assert first(sampling.weighted([1.0, 2.0, 3.0], seed=6), 50) != order


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, -0.5], r"weights\[1\] = -0.5: must be finite and not negative"),
        ([math.nan, 1.0], r"weights\[0\] = nan: must be finite"),
        ([1.0, math.inf], r"weights\[1\] = inf: must be finite"),
        ([0.0, 0.0, 0.0], "all 3 weights are 0"),
    ],
)
def test_bad_weights_are_named(weights, message):
    with pytest.raises(ValueError, match=message):
        sampling.weighted(weights, seed=0)


def test_class_balanced_weights_by_hand():
    np.testing.assert_allclose(sampling.class_balanced([0, 1, 0, 0, 1]), [1 / 3, 1 / 2, 1 / 3, 1 / 3, 1 / 2])


def test_classes_are_drawn_equally_often_and_examples_of_a_class_too():
    labels = np.array([1] * 3 + [0] * 57)
    drawn = first(sampling.weighted(sampling.class_balanced(labels), seed=3), 3000)
    assert stats.binomtest(int(labels[drawn].sum()), 3000).pvalue > 1e-3
    assert stats.chisquare(np.bincount(drawn, minlength=60)[labels == 1]).pvalue > 1e-3
