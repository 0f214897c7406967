"""Dropout: its rate and scale, that its bits are random, and that its gradient meets the same ones."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segfusion_jax.ops import native
from segfusion_jax.ops.dropout import concatenate_dropout, dropout
from tests.ops import reference


def kept(shape, rate, seed):
    return np.asarray(dropout(jnp.ones(shape), rate, key=jax.random.key(seed))) != 0


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.5, 0.9])
def test_values_are_dropped_at_the_rate_and_the_others_scaled(route, rate):
    output = np.asarray(dropout(jnp.full((100, 20, 25), 2.0), rate, key=jax.random.key(0)))
    assert set(np.unique(output)) == {np.float32(0), np.float32(2 * np.float32(1 / (1 - rate)))}
    deviation = np.sqrt(rate * (1 - rate) / output.size)
    assert (output == 0).mean() == pytest.approx(rate, abs=4.5 * deviation)
    assert output.mean() == pytest.approx(2, abs=9 * deviation / (1 - rate))


def correlation(a, b):
    """In standard errors."""
    return np.corrcoef(a.ravel(), b.ravel())[0, 1] * np.sqrt(a.size)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_bits_are_not_correlated(route, rate):
    shape = (16, 32, 32, 40)
    mask, other, next_key = (kept(shape, rate, seed) for seed in (0, 7, 1))
    assert abs(correlation(mask, other)) < 4.5 and abs(correlation(mask, next_key)) < 4.5
    for axis in range(4):
        for shift in (1, 2, 8):
            assert abs(correlation(mask, np.roll(mask, shift, axis))) < 4.5
    for axes in [(0, 1, 2), (1, 2, 3), (0, 1, 3)]:  # the rates of channels, images and columns
        count = np.prod([shape[axis] for axis in axes])
        scores = (mask.mean(axes) - (1 - rate)) / np.sqrt(rate * (1 - rate) / count)
        assert np.abs(scores).max() < 4.5
        assert 0.5 < scores.std() < 1.5


def test_keys_decide(route):
    x = jnp.ones((4, 5, 6))
    drawn = [np.asarray(dropout(x, 0.5, key=jax.random.key(seed))) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).mean() > 0.3


def test_nearly_all_may_be_dropped(route):
    assert not dropout(jnp.ones((8, 8)), 1 - 2**-40, key=jax.random.key(0)).any()


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_rates_that_are_none_are_refused(rate):
    with pytest.raises(ValueError, match=f"rate = {rate}: must be at least 0"):
        dropout(jnp.ones((2, 3)), rate, key=jax.random.key(0))


@pytest.mark.parametrize(
    "others", [[jnp.ones((2, 4, 3))], [jnp.ones((2, 3, 3), jnp.bfloat16)], 2 * [jnp.ones((2, 3, 3))]]
)
def test_parts_that_do_not_fit_together_are_refused(others):
    for key in (None, jax.random.key(0)):
        with pytest.raises(ValueError, match=r"parts = float32\(2, 3, 5\), .*must be one or two arrays"):
            concatenate_dropout([jnp.ones((2, 3, 5)), *others], 0.5, key=key)


@pytest.mark.parametrize("widths", [(1,), (7,), (64,), (3, 5), (16, 33), (40, 1)])
@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_kernels_drop_the_same_bits_as_jax(kernels, monkeypatch, widths, rate):
    parts = reference.draw(0, *((2, 7, 9, width) for width in widths))
    (gradient,) = reference.draw(1, (2, 7, 9, sum(widths)))

    def both():
        call = functools.partial(concatenate_dropout, rate=rate, key=jax.random.key(3))
        return reference.value_and_gradients(lambda *parts: call(parts), gradient, *parts)

    own = both()
    monkeypatch.setattr(native, "available", lambda: False)
    jax.tree.map(np.testing.assert_array_equal, own, both())


def test_parts_are_put_together_and_then_dropped(route):
    a, b = reference.draw(0, (2, 3, 4, 5), (2, 3, 4, 20))
    key = jax.random.key(0)
    whole = np.concatenate([a, b], -1)
    np.testing.assert_array_equal(concatenate_dropout([a, b], 0.4, key=key), dropout(whole, 0.4, key=key))
    for without in ({"rate": 0.0, "key": key}, {"rate": 0.4, "key": None}):
        np.testing.assert_array_equal(concatenate_dropout([a, b], **without), whole)


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
def test_the_gradient_is_dropped_where_the_value_was(route, dtype):
    a, b = reference.draw(0, (2, 3, 4, 5), (2, 3, 4, 20), dtype=dtype)
    (gradient,) = reference.draw(1, (2, 3, 4, 25), dtype=dtype)

    def call(a, b):
        return concatenate_dropout([a, b], 0.5, key=jax.random.key(0))

    y, (da, db) = reference.value_and_gradients(call, gradient, a, b)
    assert y.dtype == da.dtype == db.dtype == dtype
    wanted = np.where(np.asarray(y) != 0, gradient.astype(np.float32) * 2, 0)
    np.testing.assert_array_equal(np.concatenate([da, db], -1).astype(np.float32), wanted)


def test_without_key_or_rate_nothing_happens():
    x = jnp.arange(6.0).reshape(2, 3)
    assert dropout(x, 0.5, key=None) is x
    assert dropout(x, 0.0, key=jax.random.key(0)) is x


def test_nan_that_is_kept_stays_nan(route):
    y = np.asarray(dropout(jnp.full((1000,), jnp.nan), 0.5, key=jax.random.key(0)))
    assert 0.4 < np.isnan(y).mean() < 0.6
    assert not y[~np.isnan(y)].any()


def test_of_no_images_nothing_is_made(route):
    x = jnp.zeros((0, 4, 5, 3))
    assert concatenate_dropout([x, x], 0.5, key=jax.random.key(0)).shape == (0, 4, 5, 6)
