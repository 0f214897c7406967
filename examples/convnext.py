"""A small ConvNeXt (Liu et al., arXiv 2201.03545) as `classifier.backbone`: "examples.convnext:small"."""

import jax
import jax.numpy as jnp
from flax import nnx


class Block(nnx.Module):
    """A depthwise convolution of 7x7, then two layers at each place, beside the identity."""

    def __init__(self, channels: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.spatial = nnx.Conv(channels, channels, (7, 7), feature_group_count=channels, dtype=dtype, rngs=rngs)
        self.norm = nnx.LayerNorm(channels, dtype=dtype, rngs=rngs)
        self.wide = nnx.Linear(channels, 4 * channels, dtype=dtype, rngs=rngs)
        self.narrow = nnx.Linear(4 * channels, channels, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, rows, columns, channels] to the same shape."""
        return x + self.narrow(nnx.gelu(self.wide(self.norm(self.spatial(x)))))


class ConvNeXt(nnx.Module):
    """Patches of 4x4 pixels, then stages of blocks; each stage but the first halves height and width."""

    def __init__(self, widths: tuple[int, ...], *, channels, num_classes, dropout, dtype, rngs):
        self.patches = nnx.Conv(channels, widths[0], (4, 4), strides=4, dtype=dtype, rngs=rngs)
        self.halvings = nnx.List(
            [
                nnx.Conv(before, after, (2, 2), strides=2, dtype=dtype, rngs=rngs)
                for before, after in zip(widths, widths[1:], strict=False)
            ]
        )
        self.blocks = nnx.List([Block(width, dtype=dtype, rngs=rngs) for width in widths])
        self.norm = nnx.LayerNorm(widths[-1], rngs=rngs)
        self.head = nnx.Linear(widths[-1], num_classes, rngs=rngs)
        self.dropout = dropout

    def __call__(self, x, *, train, key=None):
        """Maps images to logits."""
        return self.classify(self.features(x, train=train), key=key)

    def features(self, x, *, train, key=None):
        """Maps images to what the last layer reads."""
        return self.pool(self.maps(x, train=train, key=key))

    def maps(self, x, *, train, key=None):
        """Maps images to the last feature maps."""
        return self._stages(x, len(self.blocks))

    def pool(self, maps):
        """Averages the maps."""
        return self.norm(maps.mean((1, 2), dtype=jnp.float32))

    def classify(self, features, *, key=None):
        """Applies the last layer."""
        if key is not None:
            kept = jax.random.bernoulli(key, 1 - self.dropout, features.shape)
            features = jnp.where(kept, features / (1 - self.dropout), 0)
        return self.head(features)

    def middle_features(self, x):
        """Averages the maps of the stage before the last."""
        return self._stages(x, len(self.blocks) - 1).mean((1, 2), dtype=jnp.float32)

    def _stages(self, x, number: int):
        x = self.patches(x)
        for stage in range(number):
            x = self.blocks[stage](x if not stage else self.halvings[stage - 1](x))
        return x


def small(*, num_classes, channels, dropout, drop_path, axis_name, remat, dtype, rngs) -> ConvNeXt:
    """Makes a network of 0.2 million parameters; it drops no paths, and has no batch norm to synchronise."""
    del drop_path, axis_name, remat
    return ConvNeXt((24, 48, 96), channels=channels, num_classes=num_classes, dropout=dropout, dtype=dtype, rngs=rngs)
