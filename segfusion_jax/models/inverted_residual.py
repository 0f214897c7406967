"""Networks of inverted residual blocks (Sandler et al., arXiv 1801.04381): what EfficientNet and MobileNetV3 share.

Such a network is a `Plan`, a table of its blocks; `Encoder` builds its stem and blocks, `ImageClassifier` all of it.
"""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import nnx

from segfusion_jax.models.initializers import fan_out_normal
from segfusion_jax.models.layers import (
    BatchNorm,
    Conv,
    Conventions,
    DepthwiseConv,
    Linear,
    drop_path,
    normalized,
    rematerialized,
)
from segfusion_jax.ops.dropout import dropout
from segfusion_jax.ops.excite import squeeze_excite
from segfusion_jax.ops.normalization import Activation, identity


class Block(NamedTuple):
    """One inverted residual block.

    Attributes:
      expanded: channels inside; the same as come in for none of the expansion.
      size: side of the depthwise kernel, in pixels.
      stride: stride of the depthwise convolution.
      squeezed: channels in the middle of squeeze-and-excite; 0 for none of it.
      filters: channels that come out.
      activation: activation after expansion and depthwise convolution.
    """

    expanded: int
    size: int
    stride: int
    squeezed: int
    filters: int
    activation: Activation


class Plan(NamedTuple):
    """One network.

    Attributes:
      stem: channels of the first convolution, 3x3 of stride 2.
      blocks: inverted residual blocks, in their order.
      top: channels of the last convolution, 1x1.
      hidden: features of the layer between pooling and the last layer; 0 for none.
      activation: activation of stem, top and hidden layer.
      squeeze: activation inside squeeze-and-excite.
      gate: activation that makes what squeeze-and-excite multiplies by, in [0, 1].
    """

    stem: int
    blocks: tuple[Block, ...]
    top: int
    hidden: int
    activation: Activation
    squeeze: Activation
    gate: Activation


def round_filters(filters: float) -> int:
    """Returns the nearest multiple of 8, at least 8, that is not more than 10 % below `filters`."""
    rounded = max(8, int(filters + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * filters else rounded


class ConvNorm(nnx.Module):
    """Convolution without bias, then batch norm and an activation."""

    def __init__(
        self,
        conv: Conv | DepthwiseConv,
        filters: int,
        *,
        activation: Activation = identity,
        epsilon: float,
        axis_name: str | None,
    ):
        self.conv = conv
        self.norm = BatchNorm(filters, epsilon=epsilon, axis_name=axis_name)
        self.activation = activation

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps [batch, height, width, channels] to [batch, new height, new width, filters]."""
        return normalized(self.conv, self.norm, x, train=train, activation=self.activation)


class SqueezeExcite(nnx.Module):
    """Scales channels by what their means over the image say (arXiv 1709.01507)."""

    def __init__(self, channels: int, squeezed: int, plan: Plan, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.reduce = Conv(channels, squeezed, 1, use_bias=True, init=fan_out_normal, dtype=dtype, rngs=rngs)
        self.expand = Conv(squeezed, channels, 1, use_bias=True, init=fan_out_normal, dtype=dtype, rngs=rngs)
        self.squeeze = plan.squeeze
        self.gate = plan.gate

    def __call__(self, x: jax.Array) -> jax.Array:
        """Scales [batch, height, width, channels]; the shape stays."""
        convs = self.reduce, self.expand
        params = [(conv.kernel[...][0, 0], cast(nnx.Param, conv.bias)[...]) for conv in convs]
        params = jax.tree.map(lambda array: array.astype(x.dtype), params)
        return squeeze_excite(x, params, self._gate)

    def _gate(self, params, means):
        (reduce, reduce_bias), (expand, expand_bias) = params
        return self.gate(self.squeeze(means @ reduce + reduce_bias) @ expand + expand_bias)


class InvertedResidual(nnx.Module):
    """Expand, depthwise convolution, squeeze-and-excite, project; added to the input where the shape stays."""

    def __init__(
        self,
        channels: int,
        block: Block,
        plan: Plan,
        *,
        drop_path: float,
        conventions: Conventions,
        axis_name: str | None,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        inner = block.expanded

        common: dict[str, Any] = dict(epsilon=conventions.epsilon, axis_name=axis_name)

        def pointwise(n, m, activation=identity):
            conv = Conv(n, m, 1, init=fan_out_normal, dtype=dtype, rngs=rngs)
            return ConvNorm(conv, m, activation=activation, **common)

        spatial = DepthwiseConv(
            inner, block.size, stride=block.stride, padding=conventions.padding, dtype=dtype, rngs=rngs
        )
        self.expand = pointwise(channels, inner, block.activation) if inner != channels else None
        self.depthwise = ConvNorm(spatial, inner, activation=block.activation, **common)
        self.excite = SqueezeExcite(inner, block.squeezed, plan, dtype=dtype, rngs=rngs) if block.squeezed else None
        self.project = pointwise(inner, block.filters)
        self.residual = block.stride == 1 and channels == block.filters
        self.drop_path = drop_path

    def __call__(self, x: jax.Array, *, train: bool, key: jax.Array | None) -> jax.Array:
        """Maps [batch, height, width, channels] to [batch, ceil(height / stride), ceil(width / stride), filters]."""
        y = x if self.expand is None else self.expand(x, train=train)
        y = self.depthwise(y, train=train)
        y = y if self.excite is None else self.excite(y)
        y = self.project(y, train=train)
        return x + drop_path(y, self.drop_path, key=key) if self.residual else y


class Encoder(nnx.Module):
    """The stem and the blocks of a plan: image to feature maps.

    Args:
      plan: table of the network's blocks.
      channels: channels of the image.
      drop_path: block i of n is dropped with probability drop_path x i / n, from i = 0.
      conventions: conventions of the weights that it is to compute like.
      axis_name: axis of devices over which batch norm is synchronised; None for each device's own.
      remat: training keeps what each block makes and computes what is inside it again for the gradients: less memory,
        the same numbers.
      dtype: dtype of the computation.
      rngs: keys that initial weights are drawn from.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        channels: int = 3,
        drop_path: float,
        conventions: Conventions,
        axis_name: str | None = None,
        remat: bool = False,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        common: dict[str, Any] = dict(conventions=conventions, axis_name=axis_name, dtype=dtype, rngs=rngs)
        stem = Conv(
            channels, plan.stem, 3, stride=2, padding=conventions.padding, init=fan_out_normal, dtype=dtype, rngs=rngs
        )
        self.stem = ConvNorm(
            stem, plan.stem, activation=plan.activation, epsilon=conventions.epsilon, axis_name=axis_name
        )
        self.blocks = nnx.List([])
        filters = plan.stem
        for index, block in enumerate(plan.blocks):
            rate = drop_path * index / len(plan.blocks)
            self.blocks.append(InvertedResidual(filters, block, plan, drop_path=rate, **common))
            filters = block.filters
        self.activation = plan.activation
        self.conventions = conventions.name
        self.remat = remat

    def outputs(self, x: jax.Array, *, train: bool, key: jax.Array | None = None) -> list[jax.Array]:
        """Returns what the stem and each block make of x [batch, height, width, channels]."""
        keys = jax.random.split(key, len(self.blocks)) if key is not None else [None] * len(self.blocks)

        def run(block, x, key):
            return block(x, train=train, key=key)

        if self.remat and train:
            run = rematerialized(run)
        outputs = [self.stem(x, train=train)]
        for block, block_key in zip(self.blocks, keys, strict=True):
            outputs.append(run(block, outputs[-1], block_key))
        return outputs


class ImageClassifier(Encoder):
    """Image to `num_classes` logits.

    Args:
      plan: table of the network's blocks.
      num_classes: number of logits.
      dropout: rate before the last layer.
      conventions, axis_name, dtype, rngs, **options: arguments of `Encoder`.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        num_classes: int = 1,
        dropout: float,
        conventions: Conventions,
        axis_name: str | None = None,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
        **options,
    ):
        super().__init__(plan, conventions=conventions, axis_name=axis_name, dtype=dtype, rngs=rngs, **options)
        top = Conv(plan.blocks[-1].filters, plan.top, 1, init=fan_out_normal, dtype=dtype, rngs=rngs)
        self.top = ConvNorm(top, plan.top, activation=plan.activation, epsilon=conventions.epsilon, axis_name=axis_name)
        self.hidden = Linear(plan.top, plan.hidden, rngs=rngs) if plan.hidden else None
        self.head = Linear(plan.hidden or plan.top, num_classes, rngs=rngs)
        self.dropout = dropout
        # what enters the last block of stride 2 is the last of twice the final size
        self.middle = max((number for number, block in enumerate(plan.blocks) if block.stride == 2), default=0)

    def __call__(self, x: jax.Array, *, train: bool, key: jax.Array | None = None) -> jax.Array:
        """Computes logits.

        Args:
          x: [batch, height, width, channels], normalised as the weights expect.
          train: whether batch norm uses, and updates, the statistics of this batch.
          key: random key of dropout and stochastic depth; None for neither.

        Returns:
          [batch, num_classes] float32 logits.
        """
        body, head = jax.random.split(key) if key is not None else (None, None)
        return self.classify(self.features(x, train=train, key=body), key=head)

    def features(self, x: jax.Array, *, train: bool, key: jax.Array | None = None) -> jax.Array:
        """Maps [batch, height, width, channels] to what the last layer reads, [batch, features] float32."""
        return self.pool(self.maps(x, train=train, key=key))

    def maps(self, x: jax.Array, *, train: bool, key: jax.Array | None = None) -> jax.Array:
        """Maps [batch, height, width, channels] to the top convolution's [batch, height / 32, width / 32, top]."""
        return self.top(self.outputs(x, train=train, key=key)[-1], train=train)

    def middle_features(self, x: jax.Array) -> jax.Array:
        """Returns the means of the maps before the last halving, 1/16 of the image's height and width, for prediction.

        They tell what an image looks like better than what the last layer reads, which says what class it is of.

        Args:
          x: [batch, height, width, channels], as in `__call__`.

        Returns:
          [batch, filters] float32.
        """
        return self.outputs(x, train=False)[self.middle].mean((1, 2), dtype=jnp.float32)

    def pool(self, maps: jax.Array) -> jax.Array:
        """Pools maps [batch, height, width, top] to features [batch, features] float32."""
        pooled = maps.mean((1, 2), dtype=jnp.float32)
        return pooled if self.hidden is None else self.activation(self.hidden(pooled))

    def classify(self, features: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """Applies the last layer: features [batch, features] to logits [batch, num_classes]."""
        return self.head(dropout(features, self.dropout, key=key))
