"""EfficientNet (Tan and Le, arXiv 1905.11946)."""

import math
from typing import Any, NamedTuple

from flax import nnx

from segfusion_jax.models.inverted_residual import Block, ImageClassifier, Plan, round_filters
from segfusion_jax.models.layers import conventions_of


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
TOP_FILTERS = 1280


class Variant(NamedTuple):
    """How a variant differs from B0.

    Attributes:
      width: multiplies channels.
      depth: multiplies the numbers of blocks.
      resolution: pixels a side of the images that it was published for.
      dropout: rate before the last layer that it was trained with.
    """

    width: float
    depth: float
    resolution: int
    dropout: float


VARIANTS = {
    "efficientnet_b0": Variant(1.0, 1.0, 224, 0.2),
    "efficientnet_b1": Variant(1.0, 1.1, 240, 0.2),
    "efficientnet_b2": Variant(1.1, 1.2, 260, 0.3),
    "efficientnet_b3": Variant(1.2, 1.4, 300, 0.3),
    "efficientnet_b4": Variant(1.4, 1.8, 380, 0.4),
    "efficientnet_b5": Variant(1.6, 2.2, 456, 0.4),
    "efficientnet_b6": Variant(1.8, 2.6, 528, 0.5),
    "efficientnet_b7": Variant(2.0, 3.1, 600, 0.5),
}


def plan(variant: str, *, width: float = 1.0, depth: float = 1.0) -> Plan:
    """Returns the network called `variant`, with `width` times its channels and `depth` times its numbers of blocks.

    Channels are rounded to multiples of 8, numbers of blocks up; the top is never narrower than B0's.
    """
    width, depth = width * VARIANTS[variant].width, depth * VARIANTS[variant].depth
    blocks, filters = [], round_filters(STEM_FILTERS * width)
    stem = filters
    for stage in B0_STAGES:
        for index in range(math.ceil(stage.blocks * depth)):
            stride = stage.stride if index == 0 else 1
            squeezed = max(1, filters // 4)
            new_filters = round_filters(stage.filters * width)
            blocks.append(Block(filters * stage.expansion, stage.size, stride, squeezed, new_filters, nnx.silu))
            filters = new_filters
    top = round_filters(TOP_FILTERS * max(1.0, width))
    return Plan(stem, tuple(blocks), top, 0, nnx.silu, nnx.silu, nnx.sigmoid)


class EfficientNet(ImageClassifier):
    """EfficientNet: image to logits. B0 has 4,007,548 parameters before the last layer.

    >>> from flax import nnx
    >>> import jax.numpy as jnp
    >>> network = EfficientNet("efficientnet_b0", width=0.25, depth=0.25, num_classes=7, rngs=nnx.Rngs(0))
    >>> network(jnp.zeros((2, 32, 32, 3)), train=False).shape
    (2, 7)

    Args:
      variant: a key of `VARIANTS`, "efficientnet_b0" to "efficientnet_b7".
      width: multiplies the variant's channels.
      depth: multiplies the variant's numbers of blocks.
      dropout: rate before the last layer; None for the variant's.
      drop_path: stochastic depth.
      conventions: conventions of the weights that it is to compute like: "tensorflow", "timm" or "torchvision".
      family: the old name of `conventions`, which still works in this version.
      **options: `num_classes` and `rngs`, and what else `ImageClassifier` takes.
    """

    def __init__(
        self,
        variant: str = "efficientnet_b0",
        *,
        width: float = 1.0,
        depth: float = 1.0,
        dropout: float | None = None,
        drop_path: float = 0.2,
        conventions: str = "tensorflow",
        family: str = "",
        **options: Any,
    ):
        super().__init__(
            plan(variant, width=width, depth=depth),
            dropout=VARIANTS[variant].dropout if dropout is None else dropout,
            drop_path=drop_path,
            conventions=conventions_of(variant, conventions, family=family),
            **options,
        )
