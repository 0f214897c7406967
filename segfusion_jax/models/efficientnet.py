"""EfficientNet (Tan and Le, arXiv 1905.11946), as TensorFlow defines it: 'SAME' padding, batch-norm epsilon 1e-3."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from segfusion_jax.models.layers import BatchNorm, Conv, DepthwiseConv, drop_path, dropout, fan_out_normal


class Stage(NamedTuple):
    """Blocks of one shape; the first of them has the stride."""

    expansion: int
    size: int
    stride: int
    filters: int
    blocks: int


B0_STAGES = (
    Stage(1, 3, 1, 16, 1),
    Stage(6, 3, 2, 24, 2),
    Stage(6, 5, 2, 40, 2),
    Stage(6, 3, 2, 80, 3),
    Stage(6, 5, 1, 112, 3),
    Stage(6, 5, 2, 192, 4),
    Stage(6, 3, 1, 320, 1),
)
STEM_FILTERS = 32
HEAD_FILTERS = 1280


def round_filters(filters: int, width: float) -> int:
    """`filters` x `width`, to the nearest multiple of 8 that is not more than 10 % below."""
    scaled = filters * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


class ConvNorm(nnx.Module):
    """Convolution without bias, then batch norm."""

    def __init__(self, conv: Conv | DepthwiseConv, filters: int, *, axis_name: str | None):
        self.conv = conv
        self.norm = BatchNorm(filters, epsilon=1e-3, axis_name=axis_name)

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[batch, height, width, channels] -> [batch, new height, new width, filters]."""
        return self.norm(self.conv(x), train=train)


class SqueezeExcite(nnx.Module):
    """Scales channels by what their means over the image say (arXiv 1709.01507)."""

    def __init__(self, channels: int, reduced: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.reduce = Conv(channels, reduced, 1, use_bias=True, init=fan_out_normal, dtype=dtype, rngs=rngs)
        self.expand = Conv(reduced, channels, 1, use_bias=True, init=fan_out_normal, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, height, width, channels] -> the same."""
        means = x.mean((1, 2), keepdims=True)
        return x * nnx.sigmoid(self.expand(nnx.silu(self.reduce(means))))


class MBConv(nnx.Module):
    """Inverted residual block: expand, depthwise, squeeze-and-excite, project (arXiv 1801.04381)."""

    def __init__(
        self,
        channels: int,
        filters: int,
        stage: Stage,
        *,
        stride: int,
        drop_path: float,
        axis_name: str | None,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        inner = channels * stage.expansion

        def pointwise(n, m):
            return ConvNorm(Conv(n, m, 1, init=fan_out_normal, dtype=dtype, rngs=rngs), m, axis_name=axis_name)

        spatial = DepthwiseConv(inner, stage.size, stride=stride, dtype=dtype, rngs=rngs)
        self.expand = pointwise(channels, inner) if stage.expansion > 1 else None
        self.depthwise = ConvNorm(spatial, inner, axis_name=axis_name)
        self.excite = SqueezeExcite(inner, max(1, channels // 4), dtype=dtype, rngs=rngs)
        self.project = pointwise(inner, filters)
        self.residual = stride == 1 and channels == filters
        self.drop_path = drop_path

    def __call__(self, x: jax.Array, *, train: bool, key: jax.Array | None) -> jax.Array:
        """[batch, height, width, channels] -> [batch, ceil(height / stride), ceil(width / stride), filters]."""
        y = x if self.expand is None else nnx.silu(self.expand(x, train=train))
        y = nnx.silu(self.depthwise(y, train=train))
        y = self.project(self.excite(y), train=train)
        return x + drop_path(y, self.drop_path, key=key) if self.residual else y


class EfficientNet(nnx.Module):
    """Image to `num_classes` logits. At width and depth 1 it is B0: 4,007,548 parameters before the last layer."""

    def __init__(
        self,
        *,
        num_classes: int = 1,
        width: float = 1.0,
        depth: float = 1.0,
        channels: int = 3,
        dropout: float = 0.2,
        drop_path: float = 0.2,
        axis_name: str | None = None,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        plan = [
            (stage, stage.stride if i == 0 else 1)
            for stage in B0_STAGES
            for i in range(math.ceil(stage.blocks * depth))
        ]
        common: dict[str, Any] = dict(axis_name=axis_name, dtype=dtype, rngs=rngs)
        filters = round_filters(STEM_FILTERS, width)
        stem = Conv(channels, filters, 3, stride=2, init=fan_out_normal, dtype=dtype, rngs=rngs)
        self.stem = ConvNorm(stem, filters, axis_name=axis_name)
        self.blocks = nnx.List([])
        for index, (stage, stride) in enumerate(plan):
            rate = drop_path * index / len(plan)
            new_filters = round_filters(stage.filters, width)
            self.blocks.append(MBConv(filters, new_filters, stage, stride=stride, drop_path=rate, **common))
            filters = new_filters
        features = round_filters(HEAD_FILTERS, max(1.0, width))
        top = Conv(filters, features, 1, init=fan_out_normal, dtype=dtype, rngs=rngs)
        self.top = ConvNorm(top, features, axis_name=axis_name)
        self.head = nnx.Linear(features, num_classes, rngs=rngs)
        self.dropout = dropout

    def __call__(self, x: jax.Array, *, train: bool, key: jax.Array | None = None) -> jax.Array:
        """Computes logits.

        Args:
          x: [batch, height, width, channels], normalised as the weights expect.
          train: whether batch norm uses, and updates, the statistics of this batch.
          key: of dropout and stochastic depth; None for neither.

        Returns:
          [batch, num_classes] float32 logits.
        """
        body, head = jax.random.split(key) if key is not None else (None, None)
        return self.classify(self.features(x, train=train, key=body), key=head)

    def features(self, x: jax.Array, *, train: bool, key: jax.Array | None = None) -> jax.Array:
        """What the last layer reads: [batch, height, width, channels] -> [batch, features] float32."""
        keys = jax.random.split(key, len(self.blocks)) if key is not None else [None] * len(self.blocks)
        x = nnx.silu(self.stem(x, train=train))
        for block, block_key in zip(self.blocks, keys, strict=True):
            x = block(x, train=train, key=block_key)
        return nnx.silu(self.top(x, train=train)).mean((1, 2), dtype=jnp.float32)

    def classify(self, features: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """The last layer: [batch, features] -> [batch, num_classes] logits."""
        return self.head(dropout(features, self.dropout, key=key))
