"""Layers against hand-worked values, SciPy and expectations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import signal

from segfusion_jax.models.efficientnet import EfficientNet
from segfusion_jax.models.layers import (
    BatchNorm,
    Conv,
    DepthwiseConv,
    Linear,
    TransposedConv,
    drop_path,
    normalized,
    zero_padding,
)
from segfusion_jax.ops.normalization import identity
from tests.models import reference
from tests.models.filled import filled


@pytest.mark.parametrize(
    ("side", "size", "stride", "expected"),
    [
        (5, 3, 1, (1, 1)),
        (6, 3, 2, (0, 1)),  # even: the odd zero comes after
        (7, 3, 2, (1, 1)),
        (8, 5, 2, (1, 2)),
        (9, 5, 2, (2, 2)),
        (1, 3, 2, (1, 1)),
        (4, 1, 2, (0, 0)),  # a kernel smaller than its stride needs no zeros
    ],
)
def test_same_padding_by_tensorflows_rule(side, size, stride, expected):
    assert zero_padding("same", (2, side, 11, 3), size, stride)[0] == expected
    assert zero_padding("same", (2, 11, side, 3), size, stride)[1] == expected


@pytest.mark.parametrize(("side", "size", "stride"), [(6, 3, 2), (7, 3, 2), (8, 5, 2), (9, 5, 1), (4, 1, 1)])
def test_symmetric_padding_makes_as_many_pixels_as_tensorflows(side, size, stride):
    before, after = zero_padding("symmetric", (1, side, side, 1), size, stride)[0]
    assert before == after == (size - 1) // 2
    assert (side + before + after - size) // stride + 1 == -(-side // stride)


@pytest.mark.parametrize("make", [Conv, DepthwiseConv], ids=["Conv", "DepthwiseConv"])
def test_symmetric_padding_moves_the_windows_of_a_stride_by_one_pixel(make):
    channels = (1, 1) if make is Conv else (1,)
    same, symmetric = (
        filled(lambda padding=padding: make(*channels, 3, stride=2, padding=padding, rngs=nnx.Rngs(0)))
        for padding in ("same", "symmetric")
    )
    x = np.random.default_rng(1).normal(size=(1, 8, 8, 1)).astype(np.float32)
    moved = np.pad(x, ((0, 0), (1, 0), (1, 0), (0, 0)))[:, :8, :8]
    output = symmetric.apply(symmetric.params, {}, x)[0]
    expected = same.apply(same.params, {}, moved)[0]
    np.testing.assert_allclose(output[:, :-1, :-1], expected[:, :-1, :-1], rtol=1e-5, atol=1e-6)
    assert np.abs(output - same.apply(same.params, {}, x)[0]).max() > 0.1


def test_linear():
    layer = filled(lambda: Linear(3, 2, rngs=nnx.Rngs(0)))
    x = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    output, _ = layer.apply(layer.params, {}, jnp.asarray(x, jnp.bfloat16))
    assert output.dtype == jnp.float32
    expected = np.asarray(jnp.asarray(x, jnp.bfloat16), np.float32) @ layer.params["kernel"] + layer.params["bias"]
    np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-6)


def test_conv_is_scipys_correlation():
    layer = filled(lambda: Conv(3, 2, 3, use_bias=True, rngs=nnx.Rngs(0)))
    x = np.random.default_rng(1).normal(size=(1, 5, 6, 3)).astype(np.float32)
    kernel, bias = layer.params["kernel"], layer.params["bias"]
    # SciPy correlates three axes at once; of the third only the place where all channels meet is taken
    expected = np.stack([signal.correlate(x[0], kernel[..., f], "same")[..., 1] for f in range(2)], -1) + bias
    np.testing.assert_allclose(layer.apply(layer.params, {}, x)[0][0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "stride", "shape"),
    [(3, 2, (7, 8)), (1, 1, (4, 5))],
)
def test_strided_and_pointwise_conv(size, stride, shape):
    layer = filled(lambda: Conv(3, 4, size, stride=stride, rngs=nnx.Rngs(0)))
    assert set(layer.params) == {"kernel"}
    x = np.random.default_rng(1).normal(size=(2, *shape, 3)).astype(np.float32)
    output, _ = layer.apply(layer.params, {}, x)
    expected = reference.same_convolution(x, layer.params["kernel"], stride)
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)


def test_a_strided_pointwise_conv_is_refused():
    layer = filled(lambda: Conv(3, 4, 1, stride=2, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match="its size must be 3, or 1 with stride 1"):
        layer.apply(layer.params, {}, np.zeros((2, 4, 5, 3), np.float32))


@pytest.mark.parametrize(("size", "stride"), [(3, 2), (5, 1)])
def test_depthwise_conv(size, stride):
    layer = filled(lambda: DepthwiseConv(3, size, stride=stride, rngs=nnx.Rngs(0)))
    x = np.random.default_rng(1).normal(size=(2, 6, 7, 3)).astype(np.float32)
    output, _ = jax.jit(layer.apply)(layer.params, {}, x)
    expected = reference.same_convolution(x, layer.params["kernel"], stride, depthwise=True)
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)


def test_transposed_conv():
    layer = filled(lambda: TransposedConv(3, 2, rngs=nnx.Rngs(0)))
    x = np.random.default_rng(1).normal(size=(2, 3, 4, 3)).astype(np.float32)
    expected = reference.transposed_convolution(x, layer.params["kernel"]) + layer.params["bias"]
    np.testing.assert_allclose(layer.apply(layer.params, {}, x)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Conv(2, 3, 3, use_bias=True, dtype=jnp.bfloat16, rngs=nnx.Rngs(0)),
        lambda: DepthwiseConv(2, 3, stride=1, dtype=jnp.bfloat16, rngs=nnx.Rngs(0)),
        lambda: TransposedConv(2, 3, dtype=jnp.bfloat16, rngs=nnx.Rngs(0)),
    ],
    ids=["Conv", "DepthwiseConv", "TransposedConv"],
)
def test_parameters_are_float32_and_computation_is_in_dtype(make):
    layer = filled(make)
    assert {leaf.dtype for leaf in jax.tree.leaves(layer.params)} == {np.dtype(np.float32)}
    output, _ = jax.eval_shape(layer.apply, layer.params, {}, jnp.zeros((1, 4, 4, 2), jnp.float32))
    assert output.dtype == jnp.bfloat16


def test_initial_kernels_have_the_papers_deviations():
    # He et al., arXiv 1502.01852: 2 / fan-in; EfficientNet's own: 2 / fan-out, of which a depthwise kernel has size²
    conv, spatial = Conv(8, 64, 3, rngs=nnx.Rngs(0)), DepthwiseConv(512, 3, stride=1, rngs=nnx.Rngs(1))
    assert float(conv.kernel[...].std()) == pytest.approx((2 / (9 * 8)) ** 0.5, rel=0.05)
    assert float(spatial.kernel[...].std()) == pytest.approx((2 / 9) ** 0.5, rel=0.05)


class TestBatchNorm:
    X = np.array([[1.0, -2.0], [3.0, -2.0], [5.0, -2.0], [7.0, 6.0]], np.float32)
    MEAN, VAR = np.array([4.0, 0.0]), np.array([5.0, 12.0])  # of the columns of X, by hand

    def layer(self, **options):
        return filled(lambda: BatchNorm(2, epsilon=1e-3, momentum=0.8, **options))

    def test_training_normalises_by_the_batch_and_moves_the_running_statistics(self):
        layer = self.layer()
        output, moved = layer.apply(layer.params, layer.batch_stats, self.X.reshape(2, 2, 1, 2), train=True)
        expected = reference.batch_norm(self.X, **layer.params, mean=self.MEAN, var=self.VAR)
        np.testing.assert_allclose(np.reshape(output, (4, 2)), expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(moved["mean"], 0.8 * layer.batch_stats["mean"] + 0.2 * self.MEAN, rtol=1e-6)
        np.testing.assert_allclose(moved["var"], 0.8 * layer.batch_stats["var"] + 0.2 * self.VAR, rtol=1e-6)

    def test_evaluation_uses_the_running_statistics_and_leaves_them(self):
        layer = self.layer()
        output, after = layer.apply(layer.params, layer.batch_stats, self.X, train=False)
        expected = reference.batch_norm(self.X, **layer.params, **layer.batch_stats)
        np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-5)
        jax.tree.map(np.testing.assert_array_equal, after, layer.batch_stats)

    def test_statistics_over_an_axis_are_those_of_the_whole_batch(self):
        alone, spread = self.layer(), self.layer(axis_name="data")
        whole, moved = alone.apply(alone.params, alone.batch_stats, self.X, train=True)

        def share(x):
            return spread.apply(spread.params, spread.batch_stats, x, train=True)

        halves, moved_halves = jax.vmap(share, axis_name="data")(self.X.reshape(2, 2, 2))
        np.testing.assert_allclose(halves.reshape(4, 2), whole, rtol=1e-5, atol=1e-5)
        for name in ("mean", "var"):
            np.testing.assert_allclose(moved_halves[name], np.stack(2 * [moved[name]]), rtol=1e-6)

    def test_gradient_goes_through_the_batch_statistics(self):
        # adding a constant to a channel changes nothing, so that the gradients of a channel add up to zero
        layer = self.layer()
        weights = np.arange(8, dtype=np.float32).reshape(4, 2)

        def loss(x):
            return (weights * layer.apply(layer.params, layer.batch_stats, x, train=True)[0]).sum()

        gradient = jax.grad(loss)(self.X)
        np.testing.assert_allclose(gradient.sum(0), 0, atol=1e-5)
        assert np.abs(gradient).max() > 0.01

    def test_a_bfloat16_input_keeps_float32_statistics(self):
        # two neighbours among bfloat16 numbers: their mean is none, and their squares' difference is lost
        layer = filled(lambda: BatchNorm(1, epsilon=1e-3, momentum=0.0))
        x = jnp.array([[1.0], [1.0 + 2**-7]], jnp.bfloat16)
        output, moved = layer.apply(layer.params, layer.batch_stats, x, train=True)
        assert output.dtype == jnp.bfloat16
        assert moved["mean"].dtype == moved["var"].dtype == np.float32
        assert moved["mean"].item() == 1.0 + 2**-8
        assert moved["var"].item() == pytest.approx(2**-16, abs=2e-7)


class ConvThenNorm(nnx.Module):
    def __init__(self, conv: Conv | DepthwiseConv, filters: int, activation):
        self.conv, self.norm, self.activation = conv, BatchNorm(filters, epsilon=1e-3), activation

    def __call__(self, x, *, train):
        return normalized(self.conv, self.norm, x, train=train, activation=self.activation)


class TestNormalized:
    CONVS = {
        "3x3 with bias": lambda: Conv(3, 4, 3, use_bias=True, rngs=nnx.Rngs(0)),
        "1x1": lambda: Conv(3, 4, 1, rngs=nnx.Rngs(0)),
        "depthwise": lambda: DepthwiseConv(4, 5, stride=2, padding="symmetric", rngs=nnx.Rngs(0)),
    }

    def parts(self, name, activation):
        """The module, its two parts on their own, and an input."""
        whole = filled(lambda: ConvThenNorm(self.CONVS[name](), 4, activation))
        conv, norm = filled(self.CONVS[name]), filled(lambda: BatchNorm(4, epsilon=1e-3))
        channels = 4 if name == "depthwise" else 3
        x = np.random.default_rng(1).normal(size=(2, 6, 7, channels)).astype(np.float32) + 0.5

        def apart(params, x, train):
            y, _ = conv.apply(params["conv"], {}, x)
            y, stats = norm.apply(params["norm"], whole.batch_stats["norm"], y, train=train)
            return activation(y), stats

        return whole, apart, x

    @pytest.mark.parametrize("train", [False, True])
    @pytest.mark.parametrize("activation", [identity, nnx.relu, jnp.tanh])
    @pytest.mark.parametrize("name", CONVS)
    def test_it_is_what_its_parts_are_one_after_the_other(self, name, activation, train):
        whole, apart, x = self.parts(name, activation)
        weights = np.random.default_rng(2).normal(size=apart(whole.params, x, train)[0].shape).astype(np.float32)

        def loss(params, x, function):
            y, stats = function(params, x)
            return jnp.vdot(weights, y), (y, stats)

        def together(params, x):
            y, stats = whole.apply(params, whole.batch_stats, x, train=train)
            return y, stats["norm"]

        evaluate = jax.grad(loss, (0, 1), has_aux=True)
        gradients, outputs = evaluate(whole.params, x, together)
        expected_gradients, expected = evaluate(whole.params, x, lambda params, x: apart(params, x, train))
        for own, wanted in [(outputs, expected), (gradients, expected_gradients)]:
            jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), own, wanted)

    def test_a_bias_before_a_norm_gets_no_gradient_in_training_but_moves_the_running_mean(self):
        whole, _, x = self.parts("3x3 with bias", nnx.relu)

        def loss(params):
            y, stats = whole.apply(params, whole.batch_stats, x, train=True)
            return (y**2).sum(), stats

        gradient, stats = jax.grad(loss, has_aux=True)(whole.params)
        assert not np.any(gradient["conv"]["bias"])
        raised = jax.tree.map(np.copy, whole.params)
        raised["conv"]["bias"] += 10
        moved = loss(raised)[1]
        np.testing.assert_allclose(moved["norm"]["mean"] - stats["norm"]["mean"], 1, rtol=1e-4)
        np.testing.assert_allclose(moved["norm"]["var"], stats["norm"]["var"], rtol=1e-6)


class TestDropPath:
    def test_it_drops_whole_examples(self):
        output = np.asarray(drop_path(jnp.full((4000, 2, 2, 1), 2.0), 0.3, key=jax.random.key(0)))
        assert (output == output[:, :1, :1]).all()
        assert (output[:, 0, 0] == 0).mean() == pytest.approx(0.3, abs=0.035)
        assert output.mean() == pytest.approx(2, abs=0.1)

    def test_without_key_or_rate_nothing_happens(self):
        x = jnp.arange(6.0).reshape(2, 3)
        assert drop_path(x, 0.5, key=None) is x
        assert drop_path(x, 0.0, key=jax.random.key(0)) is x


def test_conventions_may_still_be_called_family():
    with pytest.warns(FutureWarning, match="family is called conventions now"):
        network = EfficientNet(width=0.25, depth=0.25, num_classes=1, family="timm", rngs=nnx.Rngs(0))
    assert network.conventions == "timm"
