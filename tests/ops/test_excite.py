"""Squeeze-and-excite against its formula in float64, whose gradients autodiff makes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segfusion_jax.ops.excite import squeeze_excite
from tests.ops import reference


def gate(params, means):
    reduce, expand, bias = params
    return jax.nn.sigmoid(jax.nn.silu(means @ reduce) @ expand + bias)


def formula(x, *params):
    return x * gate(params, x.mean((1, 2)))[:, None, None]


def arguments(shape, dtype=np.float32):
    channels = shape[-1]
    return reference.draw(0, shape, shape, (channels, 4), (4, channels), (channels,), dtype=dtype)


def excite(x, *params):
    return squeeze_excite(x, params, gate)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1), (2, 3, 5, 3), (3, 7, 1, 8), (2, 7, 7, 33), (1, 5, 4, 70), (9, 2, 2, 24), (2, 60, 50, 16)]
)
def test_value_and_gradients(route, shape):
    gradient, *arrays = arguments(shape)
    expected = reference.in_float64(formula, gradient, *arrays)
    reference.assert_close(reference.value_and_gradients(excite, gradient, *arrays), expected)
    reference.assert_close(excite(*arrays), expected[0])  # not compiled


def test_bfloat16():
    gradient, *arrays = arguments((2, 5, 7, 6), jnp.bfloat16)
    actual = reference.value_and_gradients(excite, gradient, *arrays)
    assert {array.dtype for array in jax.tree.leaves(actual)} == {jnp.dtype(jnp.bfloat16)}
    reference.assert_close(actual, reference.in_float64(formula, gradient, *arrays), 3e-2)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_stay_in_view(route, value):
    _, x, *params = arguments((3, 4, 5, 17))
    x[1, 2, 3, 16] = value
    y = np.asarray(excite(x, *params))
    assert not np.isfinite(y[1, 2, 3, 16])
    assert np.isfinite(y[0]).all() and np.isfinite(y[2]).all()


def test_of_no_images_nothing_is_made(route):
    _, x, *params = arguments((0, 4, 5, 3))
    assert excite(x, *params).shape == x.shape


def test_scales_of_another_shape_are_refused(route):
    with pytest.raises(ValueError, match=r"scales of shape \(2, 1\): must be \(2, 3\)"):
        squeeze_excite(jnp.zeros((2, 4, 4, 3)), (), lambda _, means: means[:, :1])


def test_the_image_is_read_once_for_its_means(kernels):
    x, scale = jnp.ones((2, 4, 6, 8)), jnp.ones(8)
    loss = jax.grad(lambda x: squeeze_excite(x, scale, lambda scale, means: jnp.tanh(scale * means)).sum())
    text = jax.jit(loss).lower(x).as_text()
    assert text.count("@segfusion_image_sums(") == 2  # and once with the gradient
