"""Examples: images with their masks, decoded, framed and resized; and batches of all of them, each once."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from segfusion_jax.bridge import masked
from segfusion_jax.bridge.modes import MODES
from segfusion_jax.bridge.resize import resize
from segfusion_jax.config import Bridge, Input
from segfusion_jax.input import decode
from segfusion_jax.runtime.threads import work_ahead

if TYPE_CHECKING:  # they take a second to import, which who predicts need not wait for
    from segfusion_jax.datasets.prepared import Prepared
    from segfusion_jax.datasets.table import Row
    from segfusion_jax.input.mask_store import MaskStore

Batch = dict[str, Any]
"""`image` uint8 [B, H, W, 3], `mask` uint8 [B, H, W, 1], `label` int32 [B], `weight` float32 [B] (0 for padding)."""


class Source(Protocol):
    """Examples that can be read in any order, and what each of them is."""

    @property
    def rows(self) -> Sequence[Any]:
        """What each example is, in the order of the examples."""
        ...

    def __getitem__(self, index: int) -> Batch:
        """Returns an example: a batch without its first axis."""
        ...


@dataclasses.dataclass(frozen=True)
class Examples:
    """Decoded, framed and resized examples in the order of `rows`; a source that Grain indexes.

    Attributes:
      records: prepared records, which hold the images and the annotated masks.
      rows: the images, one an example.
      image_size: (height, width) in pixels.
      masks: store of the masks to take; None = the annotated ones, empty where there are none.
      bridge: its `frame` is applied before resizing; None = no framing.
      scaled_decoding: whether a large JPEG is decoded at a fraction of its size, where the whole of it is shown: for
        training, since it is faster, but some values are a grey level or two off those of the image decoded in full.
    """

    records: "Prepared"
    rows: "Sequence[Row]"
    image_size: tuple[int, int]
    masks: "MaskStore | None" = None
    bridge: Bridge | None = None
    scaled_decoding: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Batch:
        row = self.rows[index]
        whole = self.bridge is None or not MODES[self.bridge.mode].crops
        size = self.image_size if self.scaled_decoding and whole else None
        image, mask = decode.read(self.records, row, size, annotated=self.masks is None)
        if self.masks is not None:
            mask = decode.decode_mask(self.masks.read(row.image_id))
        elif mask is None:
            mask = np.zeros(self.image_size, np.uint8)
        if self.bridge is not None:
            image, mask = masked.frame(image, mask, self.bridge)
        return {
            "image": resize(image, self.image_size),
            "mask": resize(mask, self.image_size)[..., None],
            "label": np.int32(row.target),
            "weight": np.float32(1),
        }


def empty_batch(batch_size: int, image_size: tuple[int, int]) -> Batch:
    """Returns a batch of weight 1, its images, masks and labels not set."""
    shape = (batch_size, *image_size)
    return {
        "image": np.empty((*shape, 3), np.uint8),
        "mask": np.empty((*shape, 1), np.uint8),
        "label": np.empty(batch_size, np.int32),
        "weight": np.ones(batch_size, np.float32),
    }


def evaluation_batches(
    source: Source, batch_size: int, config: Input, *, process: int = 0, num_processes: int = 1
) -> Iterator[Batch]:
    """Yields this process's share of all examples, once and in order; the last batch is filled up with weight 0."""
    number = len(source.rows)

    def example(index: int) -> Batch:
        return source[index] if index < number else source[0] | {"weight": np.float32(0)}

    places = range(process, -(-number // batch_size) * batch_size, num_processes)
    examples = work_ahead(example, places, threads=config.num_threads, ahead=4 * config.num_threads)
    while some := list(itertools.islice(examples, batch_size // num_processes)):
        yield {name: np.stack([one[name] for one in some]) for name in some[0]}
