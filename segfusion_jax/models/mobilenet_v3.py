"""MobileNetV3 (Howard et al., arXiv 1905.02244)."""

from typing import Any, NamedTuple

from flax import nnx

from segfusion_jax.models.inverted_residual import Block, ImageClassifier, Plan, round_filters
from segfusion_jax.models.layers import conventions_of

STEM_FILTERS = 16


class Row(NamedTuple):
    """A row of the paper's tables 1 and 2."""

    size: int
    expanded: int
    filters: int
    excite: bool
    hard_swish: bool
    stride: int


class Variant(NamedTuple):
    """One of the two networks: its rows, and the features of the layer before the last."""

    rows: tuple[Row, ...]
    hidden: int


VARIANTS = {
    "mobilenet_v3_small": Variant(
        (
            Row(3, 16, 16, True, False, 2),
            Row(3, 72, 24, False, False, 2),
            Row(3, 88, 24, False, False, 1),
            Row(5, 96, 40, True, True, 2),
            Row(5, 240, 40, True, True, 1),
            Row(5, 240, 40, True, True, 1),
            Row(5, 120, 48, True, True, 1),
            Row(5, 144, 48, True, True, 1),
            Row(5, 288, 96, True, True, 2),
            Row(5, 576, 96, True, True, 1),
            Row(5, 576, 96, True, True, 1),
        ),
        1024,
    ),
    "mobilenet_v3_large": Variant(
        (
            Row(3, 16, 16, False, False, 1),
            Row(3, 64, 24, False, False, 2),
            Row(3, 72, 24, False, False, 1),
            Row(5, 72, 40, True, False, 2),
            Row(5, 120, 40, True, False, 1),
            Row(5, 120, 40, True, False, 1),
            Row(3, 240, 80, False, True, 2),
            Row(3, 200, 80, False, True, 1),
            Row(3, 184, 80, False, True, 1),
            Row(3, 184, 80, False, True, 1),
            Row(3, 480, 112, True, True, 1),
            Row(3, 672, 112, True, True, 1),
            Row(5, 672, 160, True, True, 2),
            Row(5, 960, 160, True, True, 1),
            Row(5, 960, 160, True, True, 1),
        ),
        1280,
    ),
}


def plan(variant: str, *, width: float = 1.0) -> Plan:
    """Returns the network called `variant`, with `width` times its channels; the hidden layer is never narrower."""
    rows, hidden = VARIANTS[variant]
    blocks = []
    for row in rows:
        expanded = round_filters(row.expanded * width)
        squeezed = round_filters(expanded / 4) if row.excite else 0
        activation = nnx.hard_swish if row.hard_swish else nnx.relu
        blocks.append(Block(expanded, row.size, row.stride, squeezed, round_filters(row.filters * width), activation))
    top = round_filters(6 * blocks[-1].filters)
    hidden = round_filters(hidden * max(1.0, width))
    stem = round_filters(STEM_FILTERS * width)
    return Plan(stem, tuple(blocks), top, hidden, nnx.hard_swish, nnx.relu, nnx.hard_sigmoid)


class MobileNetV3(ImageClassifier):
    """Image to logits. Small has 2,542,856 parameters with 1,000 classes, Large 5,483,032.

    Args:
      variant: "mobilenet_v3_small" or "mobilenet_v3_large".
      width: multiplies the channels.
      dropout: rate before the last layer.
      drop_path: stochastic depth.
      conventions: conventions of the weights that it is to compute like: "tensorflow", "timm" or "torchvision".
      family: the old name of `conventions`, which still works in this version.
      **options: `num_classes` and `rngs`, and what else `ImageClassifier` takes.
    """

    def __init__(
        self,
        variant: str,
        *,
        width: float = 1.0,
        dropout: float = 0.2,
        drop_path: float = 0.0,
        conventions: str = "tensorflow",
        family: str = "",
        **options: Any,
    ):
        super().__init__(
            plan(variant, width=width),
            dropout=dropout,
            drop_path=drop_path,
            conventions=conventions_of(variant, conventions, family=family),
            **options,
        )
