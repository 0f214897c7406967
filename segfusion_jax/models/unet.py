"""The U-Net of the SegFusion paper (arXiv 2408.00772), after Ronneberger et al. (arXiv 1505.04597)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from segfusion_jax.models.layers import BatchNorm, Conv, TransposedConv, dropout
from segfusion_jax.ops.resampling import max_pool_2x2

NUM_LEVELS = 4


class DoubleConv(nnx.Module):
    """Twice: 3x3 convolution, batch norm, ReLU."""

    def __init__(self, channels: int, filters: int, *, axis_name: str | None, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.conv1 = Conv(channels, filters, 3, use_bias=True, dtype=dtype, rngs=rngs)
        self.norm1 = BatchNorm(filters, epsilon=1e-3, axis_name=axis_name)
        self.conv2 = Conv(filters, filters, 3, use_bias=True, dtype=dtype, rngs=rngs)
        self.norm2 = BatchNorm(filters, epsilon=1e-3, axis_name=axis_name)

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[batch, height, width, channels] -> [batch, height, width, filters]."""
        x = nnx.relu(self.norm1(self.conv1(x), train=train))
        return nnx.relu(self.norm2(self.conv2(x), train=train))


class UNet(nnx.Module):
    """Image to one logit a pixel.

    Four levels down (double convolution, 2x2 max-pool, dropout), a double convolution at the bottom, four levels up
    (transposed convolution, concatenation with the level's output on the way down, dropout, double convolution), and a
    1x1 convolution. Filters double at each level. With 16 filters it has 2,164,593 parameters and statistics, as Keras
    counts them.
    """

    def __init__(
        self,
        *,
        filters: int = 16,
        dropout: float = 0.1,
        channels: int = 3,
        axis_name: str | None = None,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        widths = [filters * 2**level for level in range(NUM_LEVELS + 1)]
        common: dict[str, Any] = dict(axis_name=axis_name, dtype=dtype, rngs=rngs)
        self.down = nnx.List(
            [DoubleConv(c, f, **common) for c, f in zip([channels, *widths], widths[:-1], strict=False)]
        )
        self.bottom = DoubleConv(widths[-2], widths[-1], **common)
        self.upsample = nnx.List([TransposedConv(2 * f, f, dtype=dtype, rngs=rngs) for f in widths[-2::-1]])
        self.up = nnx.List([DoubleConv(2 * f, f, **common) for f in widths[-2::-1]])
        self.head = Conv(filters, 1, 1, use_bias=True, dtype=dtype, rngs=rngs)
        self.dropout = dropout

    def __call__(self, x: jax.Array, *, train: bool, key: jax.Array | None = None) -> jax.Array:
        """Computes logits.

        Args:
          x: [batch, height, width, channels], sides divisible by 16.
          train: whether batch norm uses, and updates, the statistics of this batch.
          key: of the dropout; None for none.

        Returns:
          [batch, height, width, 1] float32 logits of 'lesion'.
        """
        keys = iter(jax.random.split(key, 2 * NUM_LEVELS) if key is not None else [None] * 2 * NUM_LEVELS)
        skips = []
        for block in self.down:
            skips.append(block(x, train=train))
            x = dropout(max_pool_2x2(skips[-1]), self.dropout, key=next(keys))
        x = self.bottom(x, train=train)
        for upsample, block, skip in zip(self.upsample, self.up, reversed(skips), strict=True):
            x = jnp.concatenate([upsample(x), skip], axis=-1)
            x = block(dropout(x, self.dropout, key=next(keys)), train=train)
        return self.head(x).astype(jnp.float32)
