"""A collection ready to be stored: read, merged with the collection of its masks, every image checked, grouped."""

import collections
import concurrent.futures
import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from segfusion_jax import config
from segfusion_jax.datasets import ham10000, images, isic2019, isic2020, official, progress, splits, synthetic
from segfusion_jax.datasets.record import Problem, Record

_Result = TypeVar("_Result")
_FORMAT = 1  # raise when the same input would be stored otherwise
_MODULES = {"synthetic": synthetic, "ham10000": ham10000, "isic2019": isic2019, "isic2020": isic2020}


@dataclasses.dataclass(frozen=True)
class Collection:
    """Usable images, the group of each, and what could not be used.

    Attributes:
      records: usable images, by image id.
      groups: one name for each record.
      problems: images that cannot be used.
    """

    records: tuple[Record, ...]
    groups: tuple[str, ...]
    problems: tuple[Problem, ...]


def collect(data: config.Data) -> Collection:
    """Reads what `data` names and decodes every image and mask once.

    With a `data.mask_collection`, an image that both collections have keeps the label of the main one and takes the
    mask of the other; an annotated image that only the mask collection has is kept with malignant = -1.

    Raises:
      FileNotFoundError: a folder or table is missing.
      ValueError: a table cannot be understood.
    """
    records, problems = _read(data)
    records = sorted(records, key=lambda record: record.image_id)
    checked = progress.logged(in_threads(_inspect, records), total=len(records), what="checking")
    usable, hashes = [], []
    for record, (problem, content_hash) in zip(records, checked, strict=True):
        if problem:
            problems.append(problem)
        else:
            usable.append(record)
            hashes.append(content_hash)
    names = splits.groups(usable, hashes, _duplicate_pairs(data))
    return Collection(tuple(usable), tuple(names), tuple(sorted(problems, key=lambda problem: problem.image_id)))


def refusal(problems: Sequence[Problem], *, listed_in: str) -> ValueError:
    """The error for `problems` under on_error = "raise": counts by kind, and up to 20 of them by id."""
    kinds = collections.Counter(problem.kind for problem in problems).most_common()
    shown = "\n".join(f"  {problem.image_id}: {problem.what}" for problem in problems[:20])
    return ValueError(
        f"{len(problems)} images cannot be used ({'; '.join(f'{count} x {kind}' for kind, count in kinds)}):\n{shown}\n"
        f"The full list is in {listed_in}. Mend the files, or leave these images out: --config.data.on_error=skip."
    )


def fingerprint(data: config.Data) -> str:
    """SHA-256 over everything that decides what is stored: tables, names and sizes of image files, fields of `data`.

    Opens no image. For the synthetic collection: over its parameters.

    Raises:
      FileNotFoundError: a folder or table is missing.
      ValueError: a table cannot be understood.
    """
    digest = hashlib.sha256(repr((_FORMAT, data.collection, data.mask_collection, data.max_side)).encode())
    for name in dict.fromkeys((data.collection, data.mask_collection or data.collection)):
        if name == "synthetic":
            digest.update(repr((data.synthetic_seed, data.synthetic_images, synthetic.SEPARATION)).encode())
            continue
        records, problems = _MODULES[name].read(_root(data, name), data)
        for record in records:
            facts = dataclasses.replace(record, image=b"", mask=None)
            digest.update(repr((facts, _size(record.image), _size(record.mask))).encode())
        digest.update(repr(problems).encode())
    digest.update(repr(_duplicate_pairs(data)).encode())
    return digest.hexdigest()


def in_threads(function: Callable[[Record], _Result], records: Sequence[Record]) -> Iterator[_Result]:
    """`function` of every record, in order, on all processor cores; a few dozen results are in memory at a time."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(records), 64):
            yield from pool.map(function, records[start : start + 64])


def _read(data: config.Data) -> tuple[list[Record], list[Problem]]:
    records, problems = _MODULES[data.collection].read(_root(data, data.collection), data)
    if data.mask_collection in ("", data.collection):
        return records, problems
    annotated, more_problems = _MODULES[data.mask_collection].read(_root(data, data.mask_collection), data)
    return _merged(records, annotated), problems + more_problems


def _merged(records: Sequence[Record], annotated: Sequence[Record]) -> list[Record]:
    others = {record.image_id: record for record in annotated if record.mask is not None}
    merged = []
    for record in records:
        other = others.pop(record.image_id, record)
        ids = {"lesion_id": record.lesion_id or other.lesion_id, "patient_id": record.patient_id or other.patient_id}
        merged.append(dataclasses.replace(record, mask=other.mask, **ids))
    return merged + [dataclasses.replace(other, malignant=-1) for other in others.values()]


def _root(data: config.Data, name: str) -> pathlib.Path:
    if name == "synthetic":
        return pathlib.Path()
    named = data.root if name == data.collection else data.mask_root
    root = config.find(named or name)
    if root is None:
        module = _MODULES[name]
        what = f"folder {named or name}"
        raise official.missing(what, root=None, title=module.TITLE, address=module.ADDRESS, collection=name)
    return root


def _duplicate_pairs(data: config.Data) -> list[tuple[str, str]]:
    if "isic2020" not in (data.collection, data.mask_collection):
        return []
    return isic2020.duplicate_pairs(_root(data, "isic2020"))


def _inspect(record: Record) -> tuple[Problem | None, str]:
    problem = images.check(record)
    return problem, "" if problem else images.content_hash(record)


def _size(file: pathlib.Path | bytes | None) -> tuple[str, int]:
    """Name and size in bytes of an image file."""
    return (file.name, file.stat().st_size) if isinstance(file, pathlib.Path) else ("", len(file or b""))
