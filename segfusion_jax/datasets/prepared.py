"""Prepared data: what every other room reads. `prepare` writes it, `load` opens it."""

import contextlib
import dataclasses
import io
import json
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

import tensorflow_datasets as tfds
from absl import logging

from segfusion_jax import config
from segfusion_jax.datasets import builder, collection, table
from segfusion_jax.datasets.audit import audit
from segfusion_jax.datasets.collection import fingerprint as fingerprint
from segfusion_jax.datasets.record import Problem
from segfusion_jax.datasets.splits import assign
from segfusion_jax.datasets.table import Row as Row


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
    """All images of a run. Can be pickled and read by many threads; nothing is decoded.

    Attributes:
      rows: every image, by position.
      source: the record store, a TFDS data source.
    """

    rows: tuple[Row, ...]
    source: Sequence[dict[str, Any]]

    def read(self, position: int) -> tuple[bytes, bytes]:
        """Encoded image (JPEG or PNG, RGB) and encoded mask (PNG of 0 and 255, or b"" without annotation)."""
        example = self.source[position]
        return example["image"], example["mask"]


def prepare(
    data: config.Data, splits: config.Splits, records_folder: pathlib.Path, splits_folder: pathlib.Path
) -> None:
    """Writes the record store, unless it is complete for the same input, and the files of the split.

    Writes `splits.csv` (one `Row` an image), `audit.json` and `problems.csv` (images left out) into `splits_folder`.
    The store is a folder of `records_folder` named after its input, so that a new one leaves the old ones alone.

    Raises:
      FileNotFoundError: a folder or table is missing; says where it is published and how to name it.
      ValueError: images cannot be used and `data.on_error` is "raise"; or a split has no malignant or no benign image.
    """
    input_fingerprint = fingerprint(data)
    store = _store(records_folder, input_fingerprint)
    if not (store / "images.csv").exists():
        _write_store(data, store, splits_folder)
    rows, problems = table.read_rows(store / "images.csv"), table.read_problems(store / "problems.csv")
    _refuse_problems(data, problems, splits_folder)
    names, folds = assign([row.group for row in rows], splits)
    rows = [dataclasses.replace(row, split=s, fold=f) for row, s, f in zip(rows, names, folds, strict=True)]
    _check_classes(rows, data.collection, splits)
    table.write_problems(splits_folder / "problems.csv", problems)
    table.write_rows(splits_folder / "splits.csv", rows)
    facts = {"fingerprint": input_fingerprint, **audit(rows, problems)}
    table.write_text(splits_folder / "audit.json", json.dumps(facts, indent=2))


def load(records_folder: pathlib.Path, splits_folder: pathlib.Path) -> Prepared:
    """Opens what `prepare` wrote.

    Raises:
      FileNotFoundError: it has not been prepared, or the record store is gone.
      ValueError: the table and the store have not the same number of images.
    """
    if not (splits_folder / "audit.json").exists():
        raise FileNotFoundError(f"{splits_folder}: no audit.json; run the prepare stage first")
    store = _store(records_folder, json.loads((splits_folder / "audit.json").read_text())["fingerprint"])
    if not (store / "images.csv").exists():
        raise FileNotFoundError(f"{store}: the record store that {splits_folder} was made from is gone; prepare again")
    rows = table.read_rows(splits_folder / "splits.csv")
    (features,) = store.glob("*/*/features.json")
    reader = tfds.builder_from_directory(features.parent)
    skip = {"image": tfds.decode.SkipDecoding()}
    source = reader.as_data_source(split=builder.SPLIT, decoders=skip)  # pyright: ignore[reportCallIssue]
    if len(source) != len(rows):
        raise ValueError(f"{splits_folder / 'splits.csv'}: {len(rows)} rows for {len(source)} records in {store}")
    return Prepared(rows, source)


def load_dataset(collection: str, root: str = "", records: str = "", **fields: Any) -> Prepared:
    """Prepares a collection where needed, and opens it.

    Args:
      collection: "synthetic", "ham10000", "isic2019" or "isic2020".
      root: folder of the official files; "" looks in the folders of SEGFUSION_DATA.
      records: folder to keep the prepared data in; "" = <collection>/ in `config.cache_folder()`.
      **fields: other fields of `config.Data`.

    Raises:
      FileNotFoundError, ValueError: as `prepare`.
    """
    data = config.Data(collection=collection, root=root, records=records, **fields)
    folder = pathlib.Path(records).expanduser() if records else config.cache_folder() / collection
    prepare(data, config.Splits(), folder, folder / "splits")
    return load(folder, folder / "splits")


def _store(records_folder: pathlib.Path, input_fingerprint: str) -> pathlib.Path:
    return records_folder / input_fingerprint[:16]


def _write_store(data: config.Data, store: pathlib.Path, splits_folder: pathlib.Path) -> None:
    contents = collection.collect(data)
    _refuse_problems(data, contents.problems, splits_folder)
    if not contents.records:
        raise ValueError(f"collection {data.collection!r}: no usable image; {len(contents.problems)} cannot be used")
    shutil.rmtree(store, ignore_errors=True)  # of a run that was stopped before images.csv
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):  # TFDS announces itself by print
        builder.BUILDERS[data.collection](data=data, contents=contents, data_dir=store).download_and_prepare()
    rows = [
        Row(
            position=position,
            image_id=record.image_id,
            group=group,
            lesion_id=record.lesion_id,
            patient_id=record.patient_id,
            diagnosis=record.diagnosis,
            malignant=record.malignant,
            age=record.age,
            sex=record.sex,
            site=record.site,
            source=record.source,
            has_mask=record.mask is not None,
        )
        for position, (record, group) in enumerate(zip(contents.records, contents.groups, strict=True))
    ]
    table.write_problems(store / "problems.csv", contents.problems)
    table.write_rows(store / "images.csv", rows)
    logging.info("%d images of %s stored in %s", len(rows), data.collection, store)


def _refuse_problems(data: config.Data, problems: Sequence[Problem], splits_folder: pathlib.Path) -> None:
    if problems and data.on_error == "raise":
        table.write_problems(splits_folder / "problems.csv", problems)
        raise collection.refusal(problems, listed_in=str(splits_folder / "problems.csv"))


def _check_classes(rows: Sequence[Row], main_collection: str, splits: config.Splits) -> None:
    for name in ("train", "validation", "test"):
        labels = [row.malignant for row in rows if row.split == name and row.source == main_collection]
        if not {0, 1} <= set(labels):
            counts = f"{labels.count(1)} malignant and {labels.count(0)} benign images"
            raise ValueError(
                f"split {name!r} of {main_collection} has {counts}; it needs both. "
                f"Change splits.seed = {splits.seed} or the fractions, or bring more images."
            )
