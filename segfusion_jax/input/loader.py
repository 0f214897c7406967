"""Batches for a step: Grain over prepared records. The stream is a function of the step, so it resumes anywhere."""

import collections
import contextlib
import dataclasses
import functools
import itertools
import multiprocessing
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence

import grain
import numpy as np
from absl import flags
from grain.multiprocessing import SharedMemoryArray

from segfusion_jax.config import Augmentation, Input
from segfusion_jax.input import sampling
from segfusion_jax.input.augment import draw, draw_colours, extra, recolour, warp
from segfusion_jax.input.examples import Batch, Examples, Source, empty_batch
from segfusion_jax.runtime.progress import logged

_WATCHED = 64  # arrays: of more batches than anybody keeps
STEPS_PER_BLOCK = 32
"""Steps for which an on-device stream draws at once. More save little, and progress is shown between blocks only."""


@dataclasses.dataclass(frozen=True)
class _Draw(grain.transforms.Map):
    """What a process does in a step to its share of the B examples.

    `index` int32 [share] says which they are, `matrix` float32 [share, 2, 3] and `colours` float32 [share, 3, 4] how
    they are augmented, and `seed` int64 [share] is that of somebody's own augmentation, where there is one. All is
    drawn for the whole batch, so that it is the same on any number of processes.
    """

    stream: "TrainStream"
    process: int
    num_processes: int

    def map(self, element: int) -> Batch:
        stream, share = self.stream, slice(self.process, None, self.num_processes)
        indices = stream.indices(element)
        rng = np.random.default_rng((stream.seed, 1, element))
        matrices = draw(stream.augmentation, *stream.examples.image_size, rng, len(indices))
        colours = draw_colours(stream.augmentation, rng, len(indices))
        drawn = {
            "index": indices[share].astype(np.int32),
            "matrix": matrices[share].astype(np.float32),
            "colours": colours[share].astype(np.float32),
        }
        if stream.augmentation.extra:
            drawn["seed"] = rng.integers(1 << 62, size=len(indices))[share]
        return drawn


@dataclasses.dataclass(frozen=True)
class _Read(grain.transforms.Map):
    """What `_Draw` drew, done: one example after the other, each written to its place in the batch."""

    source: Source
    image_size: tuple[int, int]
    augmentation: Augmentation

    def map(self, element: Batch) -> Batch:
        batch = empty_batch(len(element["index"]), self.image_size)
        drawn = zip(element["index"], element["matrix"], element["colours"], strict=True)
        for place, (index, matrix, colours) in enumerate(drawn):
            example = self.source[index]
            image, mask = warp(example["image"], example["mask"][..., 0], matrix)
            image = recolour(image, colours)
            if self.augmentation.extra:
                image, mask = extra(image, mask, self.augmentation, np.random.default_rng(element["seed"][place]))
            batch["image"][place], batch["mask"][place, ..., 0] = image, mask
            batch["label"][place] = example["label"]
        return batch


@dataclasses.dataclass(frozen=True)
class TrainStream:
    """The endless stream of training batches, a function of the step; each example is augmented anew.

    Attributes:
      examples: examples to draw from.
      augmentation: how far each example is moved and recoloured.
      batch_size: examples in a batch, over all processes.
      seed: seed of order and augmentation.
      on_device: whether the examples are on the devices already, so that a batch only says what to draw: in the same
        order and with the same augmentation, `index` int32 [steps, B], `matrix` float32 [steps, B, 2, 3] and `colours`
        float32 [steps, B, 3, 4] of up to STEPS_PER_BLOCK steps.
      weights: not negative, one an example, that say how often it is drawn, with replacement; None = all examples in
        turn, in each epoch in a new order.

    Raises:
      ValueError: there are no examples, or the weights are not such.
    """

    examples: Examples
    augmentation: Augmentation
    batch_size: int
    seed: int
    on_device: bool = False
    weights: Sequence[float] | np.ndarray | None = None

    def __post_init__(self):
        if not self.examples:
            raise ValueError("there are no training images")
        if self.weights is not None and len(self.weights) != len(self.examples):
            raise ValueError(f"{len(self.weights)} weights for {len(self.examples)} training images: must be one each")
        _ = self.order  # refuses bad weights

    def batches(
        self, start: int, stop: int, config: Input, *, process: int = 0, num_processes: int = 1
    ) -> Generator[Batch, None, None]:
        """Yields this process's share of the batches of steps `start` to `stop` - 1, read ahead in threads or workers.

        Whoever stops before the end calls `close()`.
        """
        drawn = _Draw(self, process, num_processes)
        if self.on_device:
            dataset = grain.MapDataset.range(start, stop).map(drawn).batch(STEPS_PER_BLOCK)
            yield from _read_ahead(dataset, _in_threads(config))
            return
        # Workers never come to an end by themselves: Grain would keep the last batch in a cycle of garbage, and two
        # threads then close its shared memory, the second perhaps a file that got the same descriptor in between.
        end = sys.maxsize if config.num_workers else stop
        dataset = (
            grain.MapDataset.range(start, end)
            .map(drawn)
            .map(_Read(self.examples, self.examples.image_size, self.augmentation))
        )
        with contextlib.closing(_read_ahead(dataset, config)) as read, _released() as watched:
            yield from map(watched, itertools.islice(read, stop - start))

    def indices(self, step: int) -> np.ndarray:
        """Returns the numbers of the examples in the batch of `step`, over all processes: [B]."""
        return self.order(np.arange(step * self.batch_size, (step + 1) * self.batch_size))

    def image_ids(self, step: int) -> list[str]:
        """Returns the ids of the images in the batch of `step`, over all processes."""
        return [self.examples.rows[index].image_id for index in self.indices(step)]

    @functools.cached_property
    def order(self) -> sampling.Order:
        """The order in which examples are drawn."""
        if self.weights is None:
            return sampling.shuffled(len(self.examples), self.seed)
        return sampling.weighted(self.weights, self.seed)


def decode_all(examples: Examples, config: Input, *, length: int = 0) -> Batch:
    """Returns all examples as one batch, followed by zeros up to `length`."""
    total = len(examples)
    batch = {name: np.zeros((max(total, length), *value.shape), value.dtype) for name, value in examples[0].items()}
    decoded = _read_ahead(grain.MapDataset.source(examples), _in_threads(config))
    for place, example in enumerate(logged(decoded, total=total, what="training images decoded")):
        for name, value in example.items():
            batch[name][place] = value
    return batch


def _in_threads(config: Input) -> Input:
    """Returns the config without worker processes, whose start costs more than a single pass over the examples."""
    return dataclasses.replace(config, num_workers=0)


@contextlib.contextmanager
def _released() -> Iterator[Callable[[Batch], Batch]]:
    """Yields a function that watches batches, of which at the end nothing is left in shared memory but what is in use.

    Whoever is stopped keeps the last batches in its traceback. Their memory would otherwise be found at the end of the
    process by Python's resource tracker, which says so.
    """
    watched: collections.deque[weakref.ref[SharedMemoryArray]] = collections.deque(maxlen=_WATCHED)

    def watch(batch: Batch) -> Batch:
        watched.extend(weakref.ref(array) for array in batch.values() if isinstance(array, SharedMemoryArray))
        return batch

    try:
        yield watch
    finally:
        for array in (reference() for reference in watched):
            if array is not None and array.shm is not None:
                array._unlink_on_del = False
                with contextlib.suppress(FileNotFoundError):
                    array.shm.unlink()  # the name; what is mapped stays until its last use


def _serve(*_: int) -> None:
    """Makes this process a worker that ends with the one it reads for, not by the signals that both get."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _read_ahead(dataset: grain.MapDataset, config: Input) -> grain.DatasetIterator[Batch]:
    if config.num_workers:
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain's workers get them, and nobody parses them in a notebook
        options = grain.MultiprocessingOptions(num_workers=config.num_workers)
        read = dataset.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2))
        return iter(read.mp_prefetch(options, worker_init_fn=_serve))
    threads = config.num_threads
    return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)))
