"""Which images these are: the content of their files and what is known of them, wherever they lie and however the way
there is spelled.
"""

import csv
import dataclasses
import functools
import hashlib
import json
import logging
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from segfusion_jax import config
from segfusion_jax.datasets.files import DiskFile, File, Hdf5Member, ZipMember
from segfusion_jax.datasets.joining import FORMAT, Collection
from segfusion_jax.datasets.record import Record
from segfusion_jax.datasets.shards import in_threads
from segfusion_jax.runtime.atomic import write_table

_log = logging.getLogger(__name__)

_NAMED = 3  # images of each kind that a message lists
_UNREADABLE = "unreadable"  # `images.store` says why
_FACTS = {
    field.name: field.default for field in dataclasses.fields(Record) if field.name not in ("image_id", "image", "mask")
}


class Content(NamedTuple):
    """What an image is.

    Attributes:
      image: SHA-256 of what decides its pixels, in hexadecimal digits.
      mask: that of its annotation; "" = not annotated.
      facts: JSON of what else is known of it: labels, lesion, patient and so on.
    """

    image: str
    mask: str
    facts: str


@dataclasses.dataclass(frozen=True)
class Contents:
    """What several images are.

    Attributes:
      images: by id.
      fingerprint: SHA-256 of all of it, and of the fields of the config that decide how it is stored.
    """

    images: Mapping[str, Content]
    fingerprint: str


class Digests:
    """The SHA-256 of files, which are read again only where their size or time of change is not what it was.

    Args:
      path: the table that remembers them, which need not be there.
    """

    def __init__(self, path: pathlib.Path):
        self._path = path
        self._known: dict[str, tuple[int, int, str]] = {}
        self._is_new = False
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                lines = csv.reader(file)
                next(lines, None)
                self._known = {place: (int(size), int(changed), digest) for place, size, changed, digest in lines}

    def of(self, files: Iterable[DiskFile]) -> dict[DiskFile, str]:
        """Returns the digest of each file, in hexadecimal digits; "unreadable" of one that cannot be read."""
        real = functools.lru_cache(os.path.realpath)
        places = {file: f"{real(file.path.parent)}/{file.path.name}" for file in files}
        left = [file for file, place in places.items() if self._known.get(place, ())[:2] != (file.size, file.stamp)]
        if left:
            _log.info("%d files are new here, or have other times of change: their content is read", len(left))
        for file, digest in zip(left, in_threads(_digest, left), strict=True):
            self._known[places[file]] = file.size, file.stamp, digest
            self._is_new = True
        return {file: self._known[place][2] for file, place in places.items()}

    def save(self) -> None:
        """Writes the table, if there is anything new; where it cannot be written, files are read again next time."""
        if self._is_new:
            try:
                lines = ((place, *one) for place, one in self._known.items() if one[2] != _UNREADABLE)
                write_table(self._path, ["path", "size", "changed", "sha256"], lines)
            except OSError as error:
                _log.debug("%s cannot be written: %s", self._path, error)
        self._is_new = False


def identify(data: config.Data, collection: Collection, digests: Digests) -> Contents:
    """Returns what the images of `collection`, as `collect(data)` returned it, are."""
    files = [file for record in collection.records for file in (record.image, record.mask) if file]
    known = digests.of({file: None for file in map(_on_disk, files) if file})
    images = {
        record.image_id: Content(_content(record.image, known), _content(record.mask, known), _facts(record))
        for record in collection.records
    }
    how = data.size, data.aspect, data.resampling, data.mask_lesion, data.mask_ignored
    how += () if data.illumination == "as_is" else (data.illumination,)
    pairs = collection.duplicate_pairs, collection.lesion_pairs
    problems = [(problem.image_id, problem.kind) for problem in collection.problems]
    everything = FORMAT, data.name, how, [(name, *one) for name, one in images.items()], problems, pairs
    return Contents(images, hashlib.sha256(repr(everything).encode(errors="surrogateescape")).hexdigest())


def write(path: pathlib.Path, contents: Contents) -> None:
    """Writes a line an image, which `read` reads."""
    write_table(path, ["image_id", *Content._fields], ((name, *one) for name, one in contents.images.items()))


def read(path: pathlib.Path) -> dict[str, Content]:
    """Returns the images that `write` wrote, by id."""
    with path.open(newline="", encoding="utf-8") as file:
        return {line.pop("image_id"): Content(**line) for line in csv.DictReader(file)}


def differences(before: Mapping[str, Content], now: Mapping[str, Content]) -> str:
    """Says which images came, went and changed, and what of them: the first few, and how many there are.

    >>> before = {"a": Content("1", "", '{"malignant": 1}'), "b": Content("2", "", "{}")}
    >>> differences(before, {"a": Content("1", "3", '{"malignant": 0}')})
    '1 went: b; 1 with another mask: a; 1 with another malignant: a'
    """
    both = before.keys() & now.keys()
    found = {"came": now.keys() - before.keys(), "went": before.keys() - now.keys()}
    for what in ("image", "mask"):
        found[f"with another {what}"] = {one for one in both if getattr(before[one], what) != getattr(now[one], what)}
    facts = {one: (json.loads(before[one].facts), json.loads(now[one].facts)) for one in both}
    for what in _FACTS:
        found[f"with another {what}"] = {one for one in both if facts[one][0].get(what) != facts[one][1].get(what)}
    return "; ".join(f"{len(names)} {what}: {_few(names)}" for what, names in found.items() if names)


def _few(names: Iterable[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:_NAMED]) + ", ..." * (len(listed) > _NAMED)


def _on_disk(file: File) -> DiskFile | None:
    """Returns the file that must be read to tell the content of `file`; None where that is told without."""
    if isinstance(file, Hdf5Member):
        return _archive(file)
    return file if isinstance(file, DiskFile) else None


def _content(file: File | None, known: Mapping[DiskFile, str]) -> str:
    match file:
        case None:
            return ""
        case DiskFile():
            return known[file]
        case Hdf5Member():
            told = known[_archive(file)], file.name
        case ZipMember():
            told = file.size, file.stamp  # a checksum
        case _:
            told = vars(file)  # of what is drawn, or held in memory
    return hashlib.sha256(repr(told).encode()).hexdigest()


def _archive(member: Hdf5Member) -> DiskFile:
    return DiskFile(member.archive, 0, member.stamp)  # its size is not asked for once a member


def _facts(record: Record) -> str:
    facts = {name: getattr(record, name) for name in _FACTS}
    known = {name: value for name, value in facts.items() if value not in (_FACTS[name], "") and value == value}
    return json.dumps(known)


def _digest(file: DiskFile) -> str:
    try:
        with file.path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError:
        return _UNREADABLE
