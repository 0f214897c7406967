"""The boundary between modules and plain dicts."""

import jax
import numpy as np
import pytest
from flax import nnx

from segfusion_jax.models.functional import functional
from segfusion_jax.models.layers import BatchNorm
from segfusion_jax.models.unet import DoubleConv


class Doubled(nnx.Module):
    """Two parameters in a list, one batch norm, two methods."""

    def __init__(self):
        self.factors = nnx.List([nnx.Param(np.float32([2.0])), nnx.Param(np.float32([10.0]))])
        self.norm = BatchNorm(1, epsilon=0.0, momentum=0.5)

    def __call__(self, x, *, train):
        return self.norm(x * self.factors[0][...], train=train)

    def second(self, x):
        return x * self.factors[1][...]


@pytest.fixture
def doubled():
    return functional(Doubled())


def test_variables_are_plain_dicts_of_arrays(doubled):
    assert type(doubled.params) is dict
    assert set(doubled.params) == {"factors", "norm"}
    assert set(doubled.params["norm"]) == {"scale", "bias"}
    assert set(doubled.batch_stats) == {"norm"}
    assert set(doubled.batch_stats["norm"]) == {"mean", "var"}
    leaves = jax.tree.leaves((doubled.params, doubled.batch_stats))
    assert len(leaves) == 6
    assert all(isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves)


def test_apply_uses_the_arrays_it_is_given(doubled):
    params = doubled.params | {"factors": {0: np.float32([3.0]), 1: np.float32([10.0])}}
    output, _ = doubled.apply(params, doubled.batch_stats, np.float32([[1.0]]), train=False)
    assert output.item() == 3


@pytest.mark.parametrize("kind", [np.asarray, jax.numpy.asarray])
def test_apply_returns_new_statistics_and_changes_nothing_it_was_given(doubled, kind):
    variables = jax.tree.map(kind, (doubled.params, doubled.batch_stats))
    before = jax.tree.map(np.array, variables)
    x = np.float32([[1.0], [3.0]])
    _, first = doubled.apply(*variables, x, train=True)
    _, again = doubled.apply(*variables, x, train=True)
    assert first["norm"]["mean"].item() == again["norm"]["mean"].item() == 2  # half of 0 and half of the mean of 2, 6
    jax.tree.map(np.testing.assert_array_equal, variables, before)


def test_apply_calls_the_method_that_is_named(doubled):
    output, stats = doubled.apply(doubled.params, doubled.batch_stats, np.float32([[4.0]]), method="second")
    assert output.item() == 40
    jax.tree.map(np.testing.assert_array_equal, stats, doubled.batch_stats)


def test_apply_can_be_compiled_and_differentiated_more_than_once():
    block = functional(DoubleConv(1, 1, axis_name=None, dtype=np.float32, rngs=nnx.Rngs(0)))
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 1)).astype(np.float32)

    @jax.jit
    def step(params, batch_stats):
        def loss(params):
            output, stats = block.apply(params, batch_stats, x, train=True)
            return (output**2).sum(), stats

        gradients, stats = jax.grad(loss, has_aux=True)(params)
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, gradients), stats

    once = step(block.params, block.batch_stats)
    twice = step(*once)
    assert jax.tree.structure(twice) == jax.tree.structure((block.params, block.batch_stats))
    assert not np.array_equal(once[0]["conv1"]["kernel"], twice[0]["conv1"]["kernel"])
    assert not np.array_equal(once[1]["norm1"]["mean"], twice[1]["norm1"]["mean"])
