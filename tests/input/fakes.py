"""Records and masks that are made on demand; they can be sent to other processes."""

import collections
import dataclasses
import io
from typing import NamedTuple

import numpy as np
from PIL import Image

from segfusion_jax.input.examples import Examples

SIZE = (16, 24)


class Row(NamedTuple):
    position: int
    image_id: str
    target: int
    copy: int = 0


@dataclasses.dataclass
class Records:
    """At each position an image that tells which it is: 10 x (position, position + 1, position + 2) everywhere.

    Attributes:
      annotated: whether there are masks; they are `mask(position)`.
      reads: how often each position was read.
    """

    annotated: bool = True
    reads: collections.Counter = dataclasses.field(default_factory=collections.Counter)

    def read(self, position: int) -> tuple[bytes, bytes]:
        self.reads[position] += 1
        image = np.full((*SIZE, 3), 10 * (position + np.arange(3)), np.uint8)
        return png(image), png(mask(position)) if self.annotated else b""


class Masks:
    """Masks of the bridge: all of the value 100 + the number in the image's id."""

    def read(self, image_id: str) -> bytes:
        return png(np.full((8, 12), 100 + int(image_id.removeprefix("id")), np.uint8))


def mask(position: int) -> np.ndarray:
    """A box of 255 that begins at column `position`."""
    made = np.zeros(SIZE, np.uint8)
    made[4:12, position : position + 6] = 255
    return made


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def examples(count: int, **options) -> Examples:
    """`count` examples; the ids do not follow the positions."""
    rows = [Row(position, f"id{count - position}", position % 2) for position in range(count)]
    return Examples(**dict(records=Records(), rows=rows, image_size=SIZE) | options)


def image_ids(batch: dict[str, np.ndarray], count: int) -> list[str]:
    """The ids of the images of `examples(count)` that are in a batch, read from their colours."""
    return [f"id{count - value // 10}" for value in batch["image"][:, 0, 0, 0]]
