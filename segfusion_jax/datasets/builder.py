"""The collections as TensorFlow Datasets, which need TensorFlow neither to be prepared nor to be read.

    builder = Builder(config.Data(collection="ham10000", root="~/HAM10000"), data_dir="~/records")
    builder.download_and_prepare()
    source = builder.as_data_source("images")

There is one split, "images" (TFDS reserves "all"): who trains on what is decided outside the records, by `splits`.
Records are in the order of their image ids, and are those of all images that can be used. `mask` is the encoded PNG as
a string, empty without annotation, which an image feature cannot be. Preparing on Apache Beam is TFDS's own: with the
extra [beam], `download_and_prepare(download_config=tfds.download.DownloadConfig(beam_runner=..., beam_options=...))`
prepares each shard on a worker.
"""

import contextlib
import functools
import hashlib
import itertools
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.writer import ExampleWriter

from segfusion_jax import config
from segfusion_jax.datasets.joining import FORMAT, Collection, UnusableImages, collect, publishers, titles
from segfusion_jax.datasets.record import Problem, Record
from segfusion_jax.datasets.shards import TEXTS, KeepingWriter, Shard, in_threads

SPLIT = "images"
SHARD_IMAGES = 512
"""Images in a shard: what is done again after an interruption, and kept in memory (encoded) while it is written."""


class Builder(tfds.core.ShardBasedBuilder, skip_registration=True):
    """The TFDS builder of the collections of `data`, after which the dataset is called."""

    VERSION = tfds.core.Version("2.0.0")
    code_path = (
        None  # else TFDS 4.9.10 looks for checksums beside it with importlib_resources, which it does not install
    )

    def __init__(
        self,
        data: config.Data,
        *,
        contents: Collection | None = None,
        finished: pathlib.Path | None = None,
        **kwargs: Any,
    ) -> None:
        """Names the input; nothing is read before `download_and_prepare`.

        Args:
          data: where the official files are and how they are stored.
          contents: what `collect(data)` returned, if it has been called.
          finished: folder where shards are kept until `forget_shards`; default: in `data_dir`, until all are made.
          **kwargs: arguments of `tfds.core.ShardBasedBuilder`, `data_dir` above all.
        """
        self.name = data.name.replace("+", "_")  # pyright: ignore[reportAttributeAccessIssue]
        self._data = data
        self._given = contents
        super().__init__(**{"file_format": "array_record", **kwargs})
        self._keeps_shards = finished is not None
        self._finished = finished or pathlib.Path(self._data_dir_root, "finished_shards")
        self.problems: tuple[Problem, ...] = ()

    @functools.cached_property
    def contents(self) -> Collection:
        """What is to be stored."""
        return self._given or collect(self._data)

    def download_and_prepare(self, **kwargs: Any) -> None:
        """Prepares what is not prepared yet, without the shards that an interrupted or refused attempt finished.

        Raises:
          UnusableImages: and `data.on_error` is "raise"; otherwise they are left out, and listed in `problems`.
          OSError: the disk is full, or files changed meanwhile.
        """
        super().download_and_prepare(**kwargs)
        if not self._keeps_shards:
            self.forget_shards()

    def forget_shards(self) -> None:
        """Deletes the shards that are kept for another attempt."""
        for shard in self._shards:
            shard.finished.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # there are shards of another collection, or none were kept
            self._finished.rmdir()

    def _info(self) -> tfds.core.DatasetInfo:
        texts = {name: tfds.features.Text() for name in (*TEXTS, "sha256", "perceptual_hash", "cut_hashes")}
        numbers = {"malignant": np.int32, "age": np.float32, "width": np.int32, "height": np.int32}
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{titles(self._data)}: dermoscopic images, lesion masks and diagnoses.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "mask": tfds.features.Text(),
                    "file_bytes": np.int64,
                    **numbers,
                    **texts,
                }
            ),
            homepage=publishers(self._data)[0].ADDRESS,
            disable_shuffling=True,
        )

    @functools.cached_property
    def _shards(self) -> list[Shard]:
        records, made = self.contents.records, []
        for first in range(0, len(records), SHARD_IMAGES):
            some = records[first : first + SHARD_IMAGES]
            finished = self._finished / f"{_state(self._data, some)}.array_record"
            made.append(Shard(some, self._data, finished, first=first, total=len(records)))
        return made

    def _shard_iterators_per_split(self, dl_manager: tfds.download.DownloadManager) -> dict[str, list[Shard]]:
        del dl_manager
        return {SPLIT: self._shards}

    def _download_and_prepare(self, dl_manager: Any, download_config: Any = None) -> None:
        super()._download_and_prepare(dl_manager, download_config)
        problems = [*self.contents.problems, *self._left_out()]
        self.problems = tuple(sorted(problems, key=lambda problem: problem.image_id))
        if self.problems and self._data.on_error == "raise":
            raise UnusableImages(self.problems)

    def _left_out(self) -> Iterator[Problem]:
        """Yields what is wrong with the images missing in the shards, which are forgotten: the images may be mended.

        Raises:
          OSError: nothing is wrong any more with an image that is not in its shard.
        """
        lengths = self.info.splits[SPLIT].shard_lengths
        for shard, length in zip(self._shards, lengths, strict=True):
            if length < len(shard.records):
                shard.finished.unlink(missing_ok=True)
                found = [item for item in in_threads(shard.store, shard.records) if isinstance(item, Problem)]
                if len(found) != len(shard.records) - length:
                    names = f"{shard.records[0].image_id} to {shard.records[-1].image_id}"
                    raise OSError(f"of the images {names} some changed while they were prepared; start again")
                yield from found

    def _example_writer(self) -> ExampleWriter:
        template = self._get_filename_template(split_name=SPLIT)
        paths = (template.sharded_filepath(shard_index=i, num_shards=len(self._shards)) for i in itertools.count())
        finished = {path.name: shard.finished for path, shard in zip(paths, self._shards, strict=False)}
        return KeepingWriter(self.info.file_format, finished)


def _state(data: config.Data, records: Sequence[Record]) -> str:
    """Returns the SHA-256 of all that decides how `records` are stored; of files, names, sizes and stamps."""
    how = data.size, data.aspect, data.resampling, data.mask_lesion, data.mask_ignored
    digest = hashlib.sha256(repr((FORMAT, *how)).encode())
    for record in records:
        facts = {name: value for name, value in vars(record).items() if name not in ("image", "mask")}
        files = [file and (file.name, file.size, file.stamp) for file in (record.image, record.mask)]
        digest.update(repr((facts, files)).encode())
    return digest.hexdigest()
