"""Layers that the models share.

Kernels are [height, width, in, out] ('HWIO'); images are [batch, height, width, channels]. Parameters and batch-norm
statistics are float32; a layer computes in its `dtype`.
"""

import warnings
from collections.abc import Callable
from typing import Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from segfusion_jax.models.initializers import fan_out_normal, he_normal, lecun_normal
from segfusion_jax.ops.conv import conv, conv_moments, transposed_conv_3x3
from segfusion_jax.ops.depthwise import depthwise_conv, depthwise_moments
from segfusion_jax.ops.normalization import (
    MOMENTS,
    Activation,
    Moments,
    batch_norm,
    channel_moments,
    identity,
    scale_shift,
)
from segfusion_jax.ops.window import Padding


class Conventions(NamedTuple):
    """In what the frameworks differ that published networks were trained in.

    Attributes:
      name: "tensorflow", "timm" or "torchvision".
      padding: "same", TensorFlow's, which puts the odd zero of a stride of 2 after the image; "symmetric", PyTorch's,
        as many zeros before as after.
      epsilon: what batch norm adds to the variance.
    """

    name: str
    padding: Literal["same", "symmetric"]
    epsilon: float


TENSORFLOW = Conventions("tensorflow", "same", 1e-3)
TIMM = Conventions("timm", "symmetric", 1e-5)
TORCHVISION = Conventions("torchvision", "symmetric", 1e-5)


def conventions_of(network: str, name: str, *, family: str = "") -> Conventions:
    """Returns what the network `network`, "efficientnet_b0" or another, follows by the conventions called `name`.

    Torchvision trained MobileNetV3 and EfficientNet-B5 to B7 with the epsilon of the originals. A `family`, as version
    0.1 called the conventions, takes the place of `name` and is warned of.

    Raises:
      ValueError: the name is not known.
    """
    if family:
        warnings.warn("family is called conventions now: the next version does not know it", FutureWarning, 3)
        name = family
    known = {conventions.name: conventions for conventions in (TENSORFLOW, TIMM, TORCHVISION)}
    if name not in known:
        raise ValueError(f"conventions = {name!r}: must be one of {', '.join(known)}")
    originals = ("mobilenet_v3", "efficientnet_b5", "efficientnet_b6", "efficientnet_b7")
    if name == "torchvision" and network.startswith(originals):
        return TORCHVISION._replace(epsilon=TENSORFLOW.epsilon)
    return known[name]


def zero_padding(padding: str, shape: tuple[int, ...], size: int, stride: int) -> Padding:
    """Zeros around the height and width in `shape` [batch, height, width, channels] for a kernel of an odd size.

    With "same" and "symmetric" alike the output has ceil(side / stride) pixels a side.
    """

    def pad(length: int) -> tuple[int, int]:
        if padding == "symmetric":
            return size // 2, size // 2
        total = max((-(-length // stride) - 1) * stride + size - length, 0)
        return total // 2, total - total // 2

    return pad(shape[1]), pad(shape[2])


class Conv(nnx.Module):
    """Convolution of size 3, or of size 1 and stride 1: a matrix product, which is what it costs."""

    def __init__(
        self,
        channels: int,
        filters: int,
        size: int,
        *,
        stride: int = 1,
        padding: str = "same",
        use_bias: bool = False,
        init: Callable = he_normal,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.kernel = nnx.Param(init(rngs, (size, size, channels, filters)))
        self.bias = nnx.Param(jnp.zeros((filters,), jnp.float32)) if use_bias else None
        self.stride = stride
        self.padding = padding
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, height, width, channels] to [batch, ceil(height / stride), ceil(width / stride), filters]."""
        bias = jnp.zeros(self.kernel.shape[-1:], jnp.float32) if self.bias is None else self.bias[...]
        return self.scaled(x, jnp.ones_like(bias), jnp.zeros_like(bias))

    def scaled(self, x: jax.Array, scale: jax.Array, shift: jax.Array, activation: Activation = identity) -> jax.Array:
        """Computes activation(conv(x) * scale + shift), scale and shift [filters], which become part of the kernel."""
        kernel, bias = self.kernel[...] * scale, shift if self.bias is None else self.bias[...] * scale + shift
        x, kernel, bias = x.astype(self.dtype), kernel.astype(self.dtype), bias.astype(self.dtype)
        return conv(x, kernel, bias, self.stride, self._padding(x), activation)

    def without_bias(self, x: jax.Array) -> tuple[jax.Array, Moments]:
        """Returns the convolution alone, and its moments."""
        x = x.astype(self.dtype)
        return conv_moments(x, self.kernel[...].astype(self.dtype), self.stride, self._padding(x))

    def _padding(self, x):
        return zero_padding(self.padding, x.shape, self.kernel.shape[0], self.stride)


class DepthwiseConv(nnx.Module):
    """One kernel [size, size, channels] a channel, no bias."""

    def __init__(
        self,
        channels: int,
        size: int,
        *,
        stride: int,
        padding: str = "same",
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.kernel = nnx.Param(fan_out_normal(rngs, (size, size, channels, 1))[..., 0])
        self.stride = stride
        self.padding = padding
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, height, width, channels] to [batch, ceil(height / stride), ceil(width / stride), channels]."""
        return self.without_bias(x)[0]

    def scaled(self, x: jax.Array, scale: jax.Array, shift: jax.Array, activation: Activation = identity) -> jax.Array:
        """Computes activation(conv(x) * scale + shift), scale and shift [channels], which become part of the kernel."""
        kernel = (self.kernel[...] * scale).astype(self.dtype)
        x, shift = x.astype(self.dtype), shift.astype(self.dtype)
        return depthwise_conv(x, kernel, shift, self.stride, self._padding(x), activation)

    def without_bias(self, x: jax.Array) -> tuple[jax.Array, Moments]:
        """Returns the convolution, and its moments."""
        x = x.astype(self.dtype)
        return depthwise_moments(x, self.kernel[...].astype(self.dtype), self.stride, self._padding(x))

    def _padding(self, x):
        return zero_padding(self.padding, x.shape, self.kernel.shape[0], self.stride)


class Linear(nnx.Module):
    """Matrix product with a bias, in float32."""

    def __init__(self, channels: int, filters: int, *, rngs: nnx.Rngs):
        self.kernel = nnx.Param(lecun_normal(rngs, (channels, filters)))
        self.bias = nnx.Param(jnp.zeros((filters,), jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [..., channels] to [..., filters]."""
        return x.astype(jnp.float32) @ self.kernel[...] + self.bias[...]


class TransposedConv(nnx.Module):
    """Doubles height and width: 3x3 transposed convolution of stride 2, with bias."""

    def __init__(self, channels: int, filters: int, *, dtype: jnp.dtype = jnp.float32, rngs: nnx.Rngs):
        self.kernel = nnx.Param(he_normal(rngs, (3, 3, channels, filters)))
        self.bias = nnx.Param(jnp.zeros((filters,), jnp.float32))
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, height, width, channels] to [batch, 2 height, 2 width, filters]."""
        kernel, bias = self.kernel[...].astype(self.dtype), self.bias[...].astype(self.dtype)
        return transposed_conv_3x3(x.astype(self.dtype), kernel, bias)


class BatchNorm(nnx.Module):
    """Batch normalisation over all axes but the last (Ioffe and Szegedy, arXiv 1502.03167).

    In training the statistics are the batch's own, over all devices of the axis `axis_name` where it is given; the
    running ones move towards them by 1 - momentum. Statistics are float32 whatever the dtype of the input.
    """

    def __init__(self, channels: int, *, epsilon: float, momentum: float = 0.9, axis_name: str | None = None):
        self.scale = nnx.Param(jnp.ones((channels,), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((channels,), jnp.float32))
        self.mean = nnx.BatchStat(jnp.zeros((channels,), jnp.float32))
        self.var = nnx.BatchStat(jnp.ones((channels,), jnp.float32))
        self.epsilon = epsilon
        self.momentum = momentum
        self.axis_name = axis_name

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Normalises [..., channels], by the batch's statistics in training and by the running ones otherwise."""
        if not train:
            return scale_shift(x, *self.running(), identity)
        return self.train(x, channel_moments(x), identity)

    def running(self) -> tuple[jax.Array, jax.Array]:
        """Returns scale and shift [channels] by the running statistics."""
        scale = self.scale[...] * lax.rsqrt(self.var[...] + self.epsilon)
        return scale, self.bias[...] - self.mean[...] * scale

    def train(self, x: jax.Array, moments: Moments, activation: Activation, offset: jax.Array | float = 0) -> jax.Array:
        """Normalises by the batch's statistics, and moves the running ones towards those of x + offset."""
        norm = x, moments, self.scale[...], self.bias[...], self.epsilon, activation, self.axis_name
        y, mean, var = cast(tuple, batch_norm(*norm))
        mean = lax.stop_gradient(mean + offset)
        self.mean.set_value(self.momentum * self.mean[...] + (1 - self.momentum) * mean)
        self.var.set_value(self.momentum * self.var[...] + (1 - self.momentum) * var)
        return y


def normalized(
    conv: Conv | DepthwiseConv, norm: BatchNorm, x: jax.Array, *, train: bool, activation: Activation = identity
) -> jax.Array:
    """Computes activation(norm(conv(x))) in fewer passes.

    In training the convolution's bias is left out, since the norm takes any constant away again: only the running mean
    hears of it. Otherwise the norm is part of the convolution's kernel.
    """
    if not train:
        return conv.scaled(x, *norm.running(), activation)
    y, moments = conv.without_bias(x)
    bias = getattr(conv, "bias", None)
    return norm.train(y, moments, activation, 0 if bias is None else bias[...])


def rematerialized(block: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Returns `block(module, *arrays)` that keeps only its arguments for the backward pass, and runs once more there.

    Of each batch norm the moments are kept too: what devices have told each other once is not sent again.
    """
    return nnx.remat(block, policy=jax.checkpoint_policies.save_only_these_names(MOMENTS))


def drop_path(x: jax.Array, rate: float, *, key: jax.Array | None) -> jax.Array:
    """Applies stochastic depth (arXiv 1603.09382): dropout of whole examples, the first axis of x."""
    if key is None or rate == 0.0:
        return x
    keep = jax.random.bernoulli(key, 1 - rate, (x.shape[0],) + (1,) * (x.ndim - 1))
    return jnp.where(keep, x / (1 - rate), 0)
