"""Shards of the record store: made on all cores, and kept when they are whole."""

import collections
import dataclasses
import io
import logging
import os
import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from tensorflow_datasets.core import file_adapters, writer

from segfusion_jax import config
from segfusion_jax.datasets import images
from segfusion_jax.datasets.record import Problem, Record
from segfusion_jax.runtime import progress
from segfusion_jax.runtime.threads import work_ahead

_log = logging.getLogger(__name__)

TEXTS = (
    *("image_id", "lesion_id", "patient_id", "diagnosis", "sex", "site"),
    *("skin_tone", "confirmation", "origin", "partition", "source"),
)
"""Fields of a record that are stored as they are."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_ADAPTER = file_adapters.ArrayRecordFileAdapter


@dataclasses.dataclass(frozen=True)
class Shard:
    """Makes the examples of one shard. Can be sent to another process.

    Attributes:
      records: images of the shard.
      data: how they are stored.
      finished: the file of this shard, if an earlier attempt left it.
      first: images in the shards before.
      total: images in all shards.
    """

    records: tuple[Record, ...]
    data: config.Data
    finished: pathlib.Path
    first: int
    total: int

    def __call__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yields the place and the example of each image that can be used; warns of each of the others."""
        if self.finished.exists():  # KeepingWriter takes the file; TFDS only counts
            yield from ((place, {}) for place in range(_ADAPTER.num_examples(self.finished)))
            return
        stored = in_threads(self.store, self.records)
        logged = progress.logged(stored, total=self.total, what="preparing", first=self.first)
        profiles: collections.Counter[str] = collections.Counter()
        for place, (record, result) in enumerate(zip(self.records, logged, strict=True)):
            if isinstance(result, Problem):
                _log.warning("%s: %s", result.image_id, result.what)
            else:
                profiles.update([result.profile] if result.profile else [])
                yield self.first + place, _example(record, result)
        images.tell_profiles(profiles)

    def store(self, record: Record) -> images.Stored | Problem:
        """Makes what is kept of an image."""
        return images.store(record, self.data)


class KeepingWriter(writer.ExampleWriter):
    """Writes shards, and keeps those that are whole for another attempt: TFDS itself starts anew.

    Args:
      file_format: the file format that TFDS writes.
      finished: for each shard's file name, the file that keeps it.
    """

    def __init__(self, file_format: Any, finished: Mapping[str, pathlib.Path]):
        super().__init__(file_format)
        self._finished = finished

    def write(self, path: Any, examples: Iterable[Any]) -> None:
        """Writes a shard, or takes the one that an earlier attempt wrote.

        Raises:
          OSError: it cannot be written.
        """
        finished = self._finished[pathlib.Path(path).name]
        if finished.exists():
            _link(finished, pathlib.Path(path))
            return
        try:
            super().write(path, examples)
        except RuntimeError as error:  # what ArrayRecord makes of a full disk
            raise OSError(f"{path} cannot be written: {error}") from error
        finished.parent.mkdir(parents=True, exist_ok=True)
        _link(pathlib.Path(path), finished)


def in_threads(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """Yields `function` of every item, in order, on all processor cores; few results a core wait in memory."""
    allowed = getattr(os, "sched_getaffinity", None)  # not on macOS
    threads = len(allowed(0)) if allowed else os.cpu_count() or 1
    return work_ahead(function, items, threads=threads, ahead=4 * threads)


def _example(record: Record, stored: images.Stored) -> dict[str, Any]:
    facts = {name: getattr(record, name) for name in (*TEXTS, "malignant", "age")}
    names = ("width", "height", "file_bytes", "sha256", "perceptual_hash", "cut_hashes")
    measures = {name: getattr(stored, name) for name in names}
    image = io.BytesIO(stored.image)  # an array would need TensorFlow
    return {"image": image, "mask": stored.mask, **facts, **measures}


def _link(source: pathlib.Path, target: pathlib.Path) -> None:
    """Gives a file a second name, whole or not at all; makes a copy where the file system knows no links."""
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        os.link(source, part)
    except OSError:
        shutil.copyfile(source, part)
    part.replace(target)
