"""Batches for a step: Grain over prepared records. The stream is a function of the step, so it resumes anywhere."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import grain
import numpy as np

from segfusion_jax import bridge as bridging
from segfusion_jax.config import Augmentation, Bridge, Input
from segfusion_jax.datasets.prepared import Prepared
from segfusion_jax.datasets.progress import logged
from segfusion_jax.datasets.table import Row
from segfusion_jax.input import decode
from segfusion_jax.input.augment import augment, draw
from segfusion_jax.input.mask_store import MaskStore

Batch = dict[str, Any]
"""`image` uint8 [B, H, W, 3], `mask` uint8 [B, H, W, 1], `label` int32 [B], `weight` float32 [B] (0 for padding)."""


STEPS_PER_BLOCK = 32
"""Steps for which a resident stream draws at once. More save little, and progress is shown between blocks only."""


class Source(Protocol):
    """Examples that can be read in any order, and what each of them is."""

    @property
    def rows(self) -> Sequence[Any]:
        """One an example."""
        ...

    def __getitem__(self, index: int) -> Batch:
        """An example: a batch without its first axis."""
        ...


@dataclasses.dataclass(frozen=True)
class Examples:
    """Decoded, framed and resized examples in the order of `rows`; a source that Grain indexes.

    Attributes:
      records: of the images and the annotated masks.
      rows: the images, one an example.
      image_size: (height, width) in pixels.
      masks: whose masks to take; None = the annotated ones, empty where there are none.
      bridge: its `frame` is applied before resizing; None = no framing.
    """

    records: Prepared
    rows: Sequence[Row]
    image_size: tuple[int, int]
    masks: MaskStore | None = None
    bridge: Bridge | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Batch:
        row = self.rows[index]
        encoded_image, encoded_mask = self.records.read(row.position)
        if self.masks is not None:
            encoded_mask = self.masks.read(row.image_id)
        cut = self.bridge is not None and self.bridge.mode in ("crop", "crop_dilate")
        image = decode.decode_image(encoded_image, None if cut else self.image_size)
        mask = decode.decode_mask(encoded_mask) if encoded_mask else np.zeros(self.image_size, np.uint8)
        if self.bridge is not None:
            image, mask = bridging.frame(image, mask, self.bridge)
        return {
            "image": decode.resize(image, self.image_size),
            "mask": decode.resize(mask, self.image_size)[..., None],
            "label": np.int32(row.malignant),
            "weight": np.float32(1),
        }


@dataclasses.dataclass(frozen=True)
class _Augment(grain.transforms.RandomMap):
    augmentation: Augmentation

    def random_map(self, element: Batch, rng: np.random.Generator) -> Batch:
        image, mask = augment(element["image"], element["mask"][..., 0], self.augmentation, rng)
        return element | {"image": image, "mask": mask[..., None]}


@dataclasses.dataclass(frozen=True)
class _Draw(grain.transforms.RandomMap):
    """What `_Augment` draws for the same element, not done to it: [2, 3] float32."""

    augmentation: Augmentation
    image_size: tuple[int, int]

    def random_map(self, element: int, rng: np.random.Generator) -> Batch:
        matrix = draw(self.augmentation, *self.image_size, rng)
        return {"index": np.int32(element), "matrix": matrix.astype(np.float32)}


@dataclasses.dataclass(frozen=True)
class _Padded:
    """Examples, followed by copies of the first of weight 0 up to `length`."""

    source: Source
    length: int

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Batch:
        if index < len(self.source.rows):
            return self.source[index]
        return self.source[0] | {"weight": np.float32(0)}


@dataclasses.dataclass(frozen=True)
class TrainStream:
    """The endless stream of training batches: each epoch in a new order, each example augmented anew.

    Attributes:
      examples: what to draw from.
      augmentation: of each example.
      batch_size: over all processes.
      seed: of order and augmentation.
      resident: whether the examples are on the devices already, so that a batch only says what to draw: in the same
        order and with the same geometry, `index` int32 [steps, B] and `matrix` float32 [steps, B, 2, 3] of up to
        STEPS_PER_BLOCK steps.
    """

    examples: Examples
    augmentation: Augmentation
    batch_size: int
    seed: int
    resident: bool = False

    def __post_init__(self):
        if not self.examples:
            raise ValueError("there are no training images")

    def batches(
        self, start: int, stop: int, config: Input, *, process: int = 0, num_processes: int = 1
    ) -> Iterator[Batch]:
        """This process's share of the batches of the steps from `start` to `stop`, read ahead in threads or workers."""
        if self.resident:
            drawn = grain.MapDataset.range(len(self.examples))
            transform = _Draw(self.augmentation, self.examples.image_size)
        else:
            drawn, transform = grain.MapDataset.source(self.examples), _Augment(self.augmentation)
        dataset = drawn.seed(self.seed).shuffle().repeat().random_map(transform)
        share = self.batch_size // num_processes
        # The stream has no end and no remainder; where Grain keeps one, batches of 1 make more than len() can count.
        dataset = dataset[process::num_processes].batch(share, drop_remainder=True)[start:stop]
        return _read_ahead(dataset.batch(STEPS_PER_BLOCK) if self.resident else dataset, config)

    def image_ids(self, step: int) -> list[str]:
        """Of the images in the batch of `step`."""
        order = grain.MapDataset.range(len(self.examples)).seed(self.seed).shuffle().repeat()
        places = range(step * self.batch_size, (step + 1) * self.batch_size)
        return [self.examples.rows[row].image_id for row in (order[place] for place in places) if row is not None]


def decode_all(examples: Examples, config: Input, *, length: int = 0) -> Batch:
    """All examples as one batch, followed by zeros up to `length`."""
    total = len(examples)
    batch = {name: np.zeros((max(total, length), *value.shape), value.dtype) for name, value in examples[0].items()}
    decoded = _read_ahead(grain.MapDataset.source(examples), _in_threads(config))
    for place, example in enumerate(logged(decoded, total=total, what="training images decoded")):
        for name, value in example.items():
            batch[name][place] = value
    return batch


def evaluation_batches(
    source: Source, batch_size: int, config: Input, *, process: int = 0, num_processes: int = 1
) -> Iterator[Batch]:
    """This process's share of all examples, once and in order; the last batch is filled up with weight 0."""
    length = -(-len(source.rows) // batch_size) * batch_size
    dataset = grain.MapDataset.source(_Padded(source, length))[process::num_processes]
    return _read_ahead(dataset.batch(batch_size // num_processes), _in_threads(config))


def _in_threads(config: Input) -> Input:
    """For a single pass over the examples: starting worker processes costs more."""
    return dataclasses.replace(config, num_workers=0)


def _read_ahead(dataset: grain.MapDataset, config: Input) -> Iterator[Batch]:
    if config.num_workers:
        options = grain.MultiprocessingOptions(num_workers=config.num_workers)
        return iter(
            dataset.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)).mp_prefetch(options)
        )
    threads = config.num_threads
    return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)))
