"""The tables that preparing writes: one row an image, one row a problem. CSV, whole or not at all."""

import csv
import dataclasses
import hashlib
import io
import math
import pathlib
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from segfusion_jax.datasets.record import Problem
from segfusion_jax.runtime import regular, sinks
from segfusion_jax.runtime.atomic import read_table, write_table

SPLITS = ("", "train", "validation", "test", "official_test", "unused")
"""What `Row.split` may be."""
_PARTS_BYTES = 1 << 28


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """What is known about one stored image, and the part it plays.

    Attributes:
      position: index into the record store.
      image_id: unique among the rows.
      group: images of one group never part; the smallest image id in it.
      picture: equal where the same picture is stored more than once; the smallest image id of them.
      lookalike: equal for near duplicates; the smallest image id of them.
      cut: equal where one looks like the middle of the other; the smallest image id of them.
      lesion_id: "" = unknown.
      patient_id: "" = unknown.
      diagnosis: "" = unknown.
      malignant: 1, 0, or -1 = unknown.
      target: number of the class that a classifier is to name, or, from the number of classes, of a label that leaves
        several possible, see `classes.Told`; -1 where the image takes no part in classification.
      age: years; NaN = unknown.
      sex: "" = unknown.
      site: "" = unknown.
      skin_tone: "" = unknown.
      confirmation: how the diagnosis was made; "" = unknown.
      origin: clinic or device within the collection; "" = unknown.
      partition: "train", "validation", "test" as published, or what `own_split.named` returns; "" = undivided.
      source: collection that brought the row.
      has_mask: whether an annotated mask is stored.
      width: width of the original, in pixels.
      height: height of the original, in pixels.
      file_bytes: size of the original's file.
      sha256: SHA-256 of the original's bytes, in hexadecimal digits.
      perceptual_hash: hash of the original's looks, in hexadecimal digits.
      copy: 0 = the image itself; from 1, a copy that was augmented before splitting, in protocol "paper".
      split: "train", "validation" or "test"; "official_test", apart from all of them; "unused"; "" before it is dealt.
      fold: cross-fitting fold from 0; -1 outside train and validation.
    """

    position: int
    image_id: str
    group: str = ""
    picture: str = ""
    lookalike: str = ""
    cut: str = ""
    lesion_id: str
    patient_id: str
    diagnosis: str
    malignant: int
    target: int = -1
    age: float
    sex: str
    site: str
    skin_tone: str
    confirmation: str
    origin: str
    partition: str
    source: str
    has_mask: bool
    width: int
    height: int
    file_bytes: int
    sha256: str
    perceptual_hash: str
    copy: int = 0
    split: str = ""
    fold: int = -1


_COLUMNS = {field.name: field.type for field in dataclasses.fields(Row)}


def write_rows(path: pathlib.Path, rows: Iterable[Row]) -> None:
    """Writes `rows` as CSV; has_mask as 0 or 1, an unknown age empty."""
    write_table(path, list(_COLUMNS), ([_text(getattr(row, name)) for name in _COLUMNS] for row in rows))


def read_rows(path: pathlib.Path) -> tuple[Row, ...]:
    """Reads what `write_rows` wrote.

    Raises:
      ValueError: the table has other columns.
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != list(_COLUMNS):
            raise ValueError(f"{path}: columns {reader.fieldnames}; must be {list(_COLUMNS)}")
        lines = map(sinks.plain_row, reader)
        return tuple(Row(**{name: _value(_COLUMNS[name], text) for name, text in line.items()}) for line in lines)


class Part(NamedTuple):
    """What an image was used for, as a released model carries it.

    Attributes:
      image_id: id of the image.
      split: part that the image belongs to, as in `Row`.
      fold: its fold in training and validation, as in `Row`.
      perceptual_hash: hash of its looks, by which copies are known under other names.
    """

    image_id: str
    split: str
    fold: int
    perceptual_hash: str


def write_parts(path: pathlib.Path, rows: "Iterable[Row | Part]") -> None:
    """Writes which image is in which split; `splits.table` may name such a file."""
    parts = [[str(getattr(row, name)) for name in Part._fields] for row in rows]
    write_table(path, Part._fields, sorted(parts))


def read_parts(path: pathlib.Path) -> list[Part]:
    """Reads what `write_parts` wrote, by anybody.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the table has other columns, or a field of another kind or out of its bounds.
    """
    try:
        text = regular.read(path, _PARTS_BYTES).decode()
        reader = csv.DictReader(io.StringIO(text, newline=""))
        if reader.fieldnames != list(Part._fields):
            raise ValueError(f"columns {reader.fieldnames}; must be {list(Part._fields)}")
        return [_part(number, line) for number, line in enumerate(reader, 2)]
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path}: {error}") from error


def _part(number: int, line: dict[Any, Any]) -> Part:
    """Returns a row of a split; `number` is its line's."""
    if None in line or not all(isinstance(text, str) for text in line.values()):
        raise ValueError(f"line {number}: must have {len(Part._fields)} fields")
    row = sinks.plain_row(line)
    accepted = {
        "image_id": 0 < len(row["image_id"]) <= 1000,
        "split": row["split"] in SPLITS,
        "fold": re.fullmatch(r"-1|\d{1,4}", row["fold"]),
        "perceptual_hash": re.fullmatch(r"([0-9a-f]{2}){0,64}", row["perceptual_hash"]),
    }
    for name, holds in accepted.items():
        if not holds:
            raise ValueError(f"line {number}: {name} = {row[name][:100]!r}: no such field is written by a run")
    return Part(row["image_id"], row["split"], int(row["fold"]), row["perceptual_hash"])


def split_digest(rows: "Iterable[Row | Part]") -> str:
    """Returns the SHA-256 of a split: of the sorted lines "image_id split", joined by line feeds, in hexadecimal
    digits.
    """
    return hashlib.sha256("\n".join(sorted(f"{row.image_id} {row.split}" for row in rows)).encode()).hexdigest()


def write_problems(path: pathlib.Path, problems: Iterable[Problem]) -> None:
    """Writes `problems` as CSV."""
    write_table(path, ["image_id", "what"], ([_text(problem.image_id), _text(problem.what)] for problem in problems))


def read_problems(path: pathlib.Path) -> tuple[Problem, ...]:
    """Reads what `write_problems` wrote."""
    return tuple(Problem(**line) for line in read_table(path))


def _text(value: object) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:g}"
    return str(int(value)) if isinstance(value, bool) else str(value)


def _value(kind: object, text: str) -> Any:
    if kind is float:
        return float(text) if text else math.nan
    if kind is bool:
        return text == "1"
    return int(text) if kind is int else text
