"""Operations and their gradients written out in NumPy, in float64, and how near to them an operation must come."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import expit

from segfusion_jax.ops.normalization import identity

ACTIVATIONS = {
    identity: (lambda z: z, np.ones_like),
    jax.nn.relu: (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(z.dtype)),
    jax.nn.silu: (lambda z: z * expit(z), lambda z: expit(z) * (1 + z * expit(-z))),
    jax.nn.hard_swish: (
        lambda z: z * np.clip(z + 3, 0, 6) / 6,
        lambda z: np.where(np.abs(z) < 3, (2 * z + 3) / 6, (z > 0).astype(z.dtype)),
    ),
    jnp.tanh: (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
}
"""Value and derivative. For the last there is no kernel."""

NAMES = ["identity", "relu", "silu", "hard_swish", "tanh"]


def draw(seed: int, *shapes: tuple[int, ...], dtype=np.float32) -> list[np.ndarray]:
    """Normal numbers."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32).astype(dtype) for shape in shapes]


def windows(x, size, stride, padding):
    """[batch, new height, new width, channels, size, size]."""
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), *padding, (0, 0)))
    return np.lib.stride_tricks.sliding_window_view(padded, (size, size), (1, 2))[:, ::stride, ::stride]


def conv(x, kernel, stride, padding):
    """With a kernel of three axes, of each channel on its own."""
    terms = "nhwcij,ijc->nhwc" if kernel.ndim == 3 else "nhwcij,ijcf->nhwf"
    return np.einsum(terms, windows(x, len(kernel), stride, padding), np.asarray(kernel, np.float64), optimize=True)


def conv_gradients(x, kernel, stride, padding, gradient):
    """Returns the gradients of x and of the kernel: every product of the sum goes back where it came from."""
    kernel, gradient = np.asarray(kernel, np.float64), np.asarray(gradient, np.float64)
    size, alone = len(kernel), kernel.ndim == 3
    terms = "nhwcij,nhwc->ijc" if alone else "nhwcij,nhwf->ijcf"
    dkernel = np.einsum(terms, windows(x, size, stride, padding), gradient, optimize=True)
    (top, bottom), (left, right) = padding
    dpadded = np.zeros((x.shape[0], x.shape[1] + top + bottom, x.shape[2] + left + right, x.shape[3]))
    rows, columns = gradient.shape[1:3]
    for i, j in np.ndindex(size, size):
        place = np.s_[:, i : i + (rows - 1) * stride + 1 : stride, j : j + (columns - 1) * stride + 1 : stride]
        dpadded[place] += gradient * kernel[i, j] if alone else gradient @ kernel[i, j].T
    return dpadded[:, top : top + x.shape[1], left : left + x.shape[2]], dkernel


def moments(x):
    """Sums of x and of its square over all axes but the last."""
    axes = tuple(range(x.ndim - 1))
    return x.sum(axes), (x**2).sum(axes)


def value_and_gradients(function, cotangents, *arrays):
    """The value of the function, compiled, and what `jax.vjp` makes of the cotangents of its value."""

    @jax.jit
    def evaluate(cotangents, *arrays):
        value, vjp = jax.vjp(function, *arrays)
        return value, vjp(cotangents)

    return evaluate(cotangents, *arrays)


def in_float64(function, cotangents, *arrays):
    """`value_and_gradients` of a formula in jax.numpy, in float64."""
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda array: jnp.asarray(array, jnp.float64), (cotangents, *arrays))
        return jax.tree.map(np.asarray, value_and_gradients(function, *wide))


def assert_close(actual, expected, tolerance=1e-5):
    """No value is off by more than `tolerance` times the largest that is expected, in each of a tree's arrays."""
    for own, wanted in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        own, wanted = np.asarray(own, np.float64), np.asarray(wanted, np.float64)
        assert own.shape == wanted.shape
        np.testing.assert_allclose(own, wanted, rtol=0, atol=tolerance * np.abs(wanted).max(initial=1e-30))


def check_moments(operation, x, kernel, stride, padding, tolerance=1e-5):
    """Checks value, moments and gradients of a convolution `(x, kernel, stride, padding) -> (y, moments)`."""
    expected = conv(x, kernel, stride, padding)
    (gradient,) = draw(1, expected.shape, dtype=x.dtype)
    cotangents = gradient, 2 * (np.ones(expected.shape[-1], np.float32),)  # no gradient goes through the moments

    def call(x, kernel):
        return operation(x, kernel, stride, padding)

    (y, sums), gradients = value_and_gradients(call, cotangents, x, kernel)
    assert y.dtype == x.dtype and {array.dtype for array in sums} == {np.dtype(np.float32)}
    assert_close(y, expected, tolerance)
    assert_close(sums[0], expected.sum((0, 1, 2)), tolerance * np.sqrt(expected[..., 0].size))
    assert_close(sums[1], (expected**2).sum((0, 1, 2)), tolerance)
    assert_close(gradients, conv_gradients(x, kernel, stride, padding, gradient), tolerance)


def check_activation(operation, x, kernel, bias, stride, padding, activation):
    """Checks value and gradients of a convolution `(x, kernel, bias, stride, padding, activation) -> y`."""
    before = conv(x, kernel, stride, padding) + bias
    (gradient,) = draw(1, before.shape)
    value, slope = ACTIVATIONS[activation]
    inner = gradient * slope(before)
    expected = value(before), (*conv_gradients(x, kernel, stride, padding, inner), inner.sum((0, 1, 2)))

    def call(x, kernel, bias):
        return operation(x, kernel, bias, stride, padding, activation)

    assert_close(value_and_gradients(call, gradient, x, kernel, bias), expected)
