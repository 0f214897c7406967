"""Value and gradients against `lax` convolutions, on small whole numbers: sums of them are exact in every dtype."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from segfusion_jax.ops.depthwise import depthwise_conv

CASES = [
    # height, width, size, stride, padding
    (6, 7, 3, 1, ((1, 1), (1, 1))),
    (7, 6, 3, 2, ((1, 1), (0, 1))),
    (9, 5, 5, 1, ((2, 2), (2, 2))),
    (8, 7, 5, 2, ((1, 2), (2, 2))),
    (5, 8, 3, 2, ((0, 0), (2, 0))),  # the last column of the input is never read
    (1, 1, 5, 2, ((2, 2), (2, 2))),
]


@pytest.fixture(params=["cpu", "elsewhere"])
def platform(request, monkeypatch):
    """Runs a test on the CPU's own code and then, on the CPU too, on the code of every other platform."""
    if request.param == "elsewhere":
        monkeypatch.setattr(lax, "platform_dependent", lambda *args, default, **platforms: default(*args))


def whole_numbers(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-2, 3, shape).astype(np.float32)


def reference(x, kernel, stride, padding):
    """One dense convolution a channel; autodiff makes its gradients."""
    channels = [
        lax.conv_general_dilated(
            x[..., c : c + 1],
            kernel[:, :, None, c : c + 1],
            (stride, stride),
            padding,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        for c in range(x.shape[-1])
    ]
    return jnp.concatenate(channels, axis=-1)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(("height", "width", "size", "stride", "padding"), CASES)
def test_value_and_gradients(platform, height, width, size, stride, padding, dtype):
    x, kernel = whole_numbers(0, 2, height, width, 2), whole_numbers(1, size, size, 2)
    shape = jax.eval_shape(lambda x, kernel: reference(x, kernel, stride, padding), x, kernel).shape
    gradient = whole_numbers(2, *shape)

    @functools.partial(jax.jit, static_argnums=0)
    def evaluate(conv, x, kernel, gradient):
        value, vjp = jax.vjp(lambda x, kernel: conv(x, kernel, stride, padding), x, kernel)
        return value, *vjp(gradient)

    expected = evaluate(reference, x, kernel, gradient)
    actual = evaluate(depthwise_conv, *(jnp.asarray(a, dtype) for a in (x, kernel, gradient)))
    for own, wanted in zip(actual, expected, strict=True):
        assert own.dtype == dtype
        np.testing.assert_array_equal(own, wanted.astype(dtype))


def test_directional_derivative(platform):
    rng = np.random.default_rng(0)
    x, kernel, dx, dkernel = (rng.normal(size=s).astype(np.float32) for s in 2 * [(2, 5, 6, 2), (3, 3, 2)])
    weights = rng.normal(size=(2, 3, 3, 2)).astype(np.float32)

    @jax.jit
    def loss(x, kernel):
        return jnp.vdot(weights, depthwise_conv(x, kernel, 2, ((1, 1), (0, 1))))

    # the loss is linear in each argument, so that a central difference has no error of truncation
    to_x, to_kernel = jax.jit(jax.grad(loss, (0, 1)))(x, kernel)
    assert np.vdot(to_x, dx) == pytest.approx(float(loss(x + dx, kernel) - loss(x - dx, kernel)) / 2, rel=1e-4)
    difference = float(loss(x, kernel + dkernel) - loss(x, kernel - dkernel)) / 2
    assert np.vdot(to_kernel, dkernel) == pytest.approx(difference, rel=1e-4)


def test_bfloat16_kernel_gradient_is_summed_in_float32():
    # 1024 ones: a bfloat16 sum stops growing at 256
    x, kernel = jnp.ones((1, 32, 32, 1), jnp.bfloat16), jnp.ones((1, 1, 1), jnp.bfloat16)
    gradient = jax.grad(lambda k: depthwise_conv(x, k, 1, ((0, 0), (0, 0))).astype(jnp.float32).sum())(kernel)
    assert gradient.item() == 1024


@pytest.mark.parametrize(("platform", "convolves"), [("cpu", False), ("cuda", True), ("tpu", True)])
def test_only_the_cpu_shifts(platform, convolves):
    step = jax.jit(jax.grad(lambda x, kernel: depthwise_conv(x, kernel, 1, ((1, 1), (1, 1))).sum(), (0, 1)))
    lowered = step.trace(jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2))).lower(lowering_platforms=(platform,))
    assert ("stablehlo.convolution" in lowered.as_text()) == convolves
