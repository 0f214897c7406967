"""U-Nets (Ronneberger et al., arXiv 1505.04597): the SegFusion paper's, and one whose encoder is pretrained.

Both halve odd sides upwards on the way down and cut the doubled ones back to size on the way up: any image size works.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from segfusion_jax.models import layers
from segfusion_jax.models.inverted_residual import Encoder, Plan
from segfusion_jax.ops.dropout import concatenate_dropout, dropout
from segfusion_jax.ops.resampling import max_pool_2x2, upsample_2x

NUM_LEVELS = 4


class DoubleConv(nnx.Module):
    """Twice: 3x3 convolution, batch norm, ReLU."""

    def __init__(self, channels: int, filters: int, *, axis_name: str | None, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.conv1 = layers.Conv(channels, filters, 3, use_bias=True, dtype=dtype, rngs=rngs)
        self.norm1 = layers.BatchNorm(filters, epsilon=1e-3, axis_name=axis_name)
        self.conv2 = layers.Conv(filters, filters, 3, use_bias=True, dtype=dtype, rngs=rngs)
        self.norm2 = layers.BatchNorm(filters, epsilon=1e-3, axis_name=axis_name)

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps [batch, height, width, channels] to [batch, height, width, filters]."""
        x = layers.normalized(self.conv1, self.norm1, x, train=train, activation=nnx.relu)
        return layers.normalized(self.conv2, self.norm2, x, train=train, activation=nnx.relu)


class UNet(nnx.Module):
    """The SegFusion paper's U-Net (arXiv 2408.00772): image to one logit a pixel.

    >>> from flax import nnx
    >>> import jax.numpy as jnp
    >>> network = UNet(filters=4, rngs=nnx.Rngs(0))
    >>> network(jnp.zeros((2, 48, 64, 3)), train=False).shape
    (2, 48, 64, 1)

    Four levels down (double convolution, 2x2 max-pool, dropout), a double convolution at the bottom, four levels up
    (transposed convolution, concatenation with the level's output on the way down, dropout, double convolution), and a
    1x1 convolution. Filters double at each level. With 16 filters it has 2,164,593 parameters and statistics, as Keras
    counts them.

    Args:
      filters: filters at the image's own size.
      dropout: rate of the dropout.
      channels: channels of the image.
      axis_name: axis of devices over which batch norm is synchronised; None for each device's own.
      remat: training keeps what each level makes and computes what is inside it again for the gradients: less memory,
        the same numbers.
      dtype: dtype of the computation.
      rngs: keys that initial weights are drawn from.
    """

    def __init__(
        self,
        *,
        filters: int = 16,
        dropout: float = 0.1,
        channels: int = 3,
        axis_name: str | None = None,
        remat: bool = False,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        widths = [filters * 2**level for level in range(NUM_LEVELS + 1)]
        common: dict[str, Any] = dict(axis_name=axis_name, dtype=dtype, rngs=rngs)
        self.down = nnx.List(
            [DoubleConv(c, f, **common) for c, f in zip([channels, *widths], widths[:-1], strict=False)]
        )
        self.bottom = DoubleConv(widths[-2], widths[-1], **common)
        self.upsample = nnx.List([layers.TransposedConv(2 * f, f, dtype=dtype, rngs=rngs) for f in widths[-2::-1]])
        self.up = nnx.List([DoubleConv(2 * f, f, **common) for f in widths[-2::-1]])
        self.head = layers.Conv(filters, 1, 1, use_bias=True, dtype=dtype, rngs=rngs)
        self.dropout = dropout
        self.remat = remat

    def __call__(self, x: jax.Array, *, train: bool, key: jax.Array | None = None) -> jax.Array:
        """Computes logits.

        Args:
          x: [batch, height, width, channels].
          train: whether batch norm uses, and updates, the statistics of this batch.
          key: random key of the dropout; None for none.

        Returns:
          [batch, height, width, 1] float32 logits of 'lesion'.
        """
        keys = iter(jax.random.split(key, 2 * NUM_LEVELS) if key is not None else [None] * 2 * NUM_LEVELS)

        def convolve(block, x):
            return block(x, train=train)

        def go_up(modules, x, skip, key):
            upsample, block = modules
            x = concatenate_dropout([_cut(upsample(x), skip), skip], self.dropout, key=key)
            return block(x, train=train)

        if self.remat and train:
            convolve, go_up = layers.rematerialized(convolve), layers.rematerialized(go_up)
        skips = []
        for block in self.down:
            skips.append(convolve(block, x))
            x = dropout(max_pool_2x2(skips[-1]), self.dropout, key=next(keys))
        x = convolve(self.bottom, x)
        for upsample, block, skip in zip(self.upsample, self.up, reversed(skips), strict=True):
            x = go_up((upsample, block), x, skip, next(keys))
        return self.head(x).astype(jnp.float32)


class EncoderUNet(nnx.Module):
    """Image to one logit a pixel: the encoder is EfficientNet's or MobileNetV3's, which can be pretrained.

    Of the encoder all is taken that comes before the fifth halving, so that the U-Net is as deep as the paper's: the
    blocks after that hold most of the parameters and the coarsest maps. The decoder starts from the encoder's last map.
    At each level it repeats pixels to twice the size, concatenates what the encoder had at that size (nothing, at the
    image's own), drops out and convolves twice.

    Args:
      plan: table of the encoder's blocks, all of them.
      filters: filters of the decoder at the image's own size; doubled at each of the three levels below.
      dropout: rate, after each concatenation.
      channels: channels of the image.
      conventions: conventions of the weights that the encoder is to compute like.
      axis_name: axis of devices over which batch norm is synchronised; None for each device's own.
      remat: training computes what is inside each block again for the gradients, as in `Encoder`.
      dtype: dtype of the computation.
      rngs: keys that initial weights are drawn from.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        filters: int = 16,
        dropout: float = 0.1,
        channels: int = 3,
        conventions: layers.Conventions = layers.TENSORFLOW,
        axis_name: str | None = None,
        remat: bool = False,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        common: dict[str, Any] = dict(axis_name=axis_name, dtype=dtype, rngs=rngs)
        self.conventions = conventions.name
        # what enters a block of stride 2 is the last of its size; the stem halves too
        strided = [number for number, block in enumerate(plan.blocks) if block.stride == 2]
        *skips, end = [*strided, len(plan.blocks)][:NUM_LEVELS]
        self.skips = tuple(skips)
        plan = plan._replace(blocks=plan.blocks[:end])
        self.encoder = Encoder(plan, channels=channels, drop_path=0.0, conventions=conventions, remat=remat, **common)
        outputs = [plan.stem, *(block.filters for block in plan.blocks)]
        new_channels = [outputs[number] for number in reversed(self.skips)] + [0]
        widths = [filters * 2**level for level in reversed(range(len(new_channels)))]
        below = [outputs[-1], *widths]
        self.up = nnx.List(
            [DoubleConv(b + c, f, **common) for b, c, f in zip(below, new_channels, widths, strict=False)]
        )
        self.head = layers.Conv(filters, 1, 1, use_bias=True, dtype=dtype, rngs=rngs)
        self.dropout = dropout
        self.remat = remat

    def __call__(self, x: jax.Array, *, train: bool, key: jax.Array | None = None) -> jax.Array:
        """Computes logits.

        Args:
          x: [batch, height, width, channels], normalised as the encoder's weights expect.
          train: whether batch norm uses, and updates, the statistics of this batch.
          key: random key of the dropout; None for none.

        Returns:
          [batch, height, width, 1] float32 logits of 'lesion'.
        """
        keys = jax.random.split(key, len(self.up)) if key is not None else [None] * len(self.up)
        outputs = self.encoder.outputs(x, train=train)
        image, y = x, outputs[-1]
        skips = [outputs[number] for number in reversed(self.skips)]

        def go_up(block, y, skip, key):
            y = _cut(upsample_2x(y), image if skip is None else skip)
            parts = [y] if skip is None else [y, skip]
            return block(concatenate_dropout(parts, self.dropout, key=key), train=train)

        if self.remat and train:
            go_up = layers.rematerialized(go_up)
        for block, skip, block_key in zip(self.up, [*skips, None], keys, strict=True):
            y = go_up(block, y, skip, block_key)
        return self.head(y).astype(jnp.float32)


def _cut(x, like):
    """Cuts the last row and column, which are one too many where half an odd size was doubled."""
    rows = lax.slice_in_dim(x, 0, like.shape[1], axis=1)
    return lax.slice_in_dim(rows, 0, like.shape[2], axis=2)
