"""What a config names, read from its sources and merged: every image that is to be stored, before any is opened."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from segfusion_jax import config
from segfusion_jax.datasets import merging, taxonomy
from segfusion_jax.datasets.collections import find_reader, ham10000, image_folder, isic2019, isic2020, official
from segfusion_jax.datasets.collections.unread import unread
from segfusion_jax.datasets.files import Folder
from segfusion_jax.datasets.published import FILES, download
from segfusion_jax.datasets.record import Contents, Problem, Record
from segfusion_jax.runtime import locations

FORMAT = 6
"""Raised when the same input would be stored otherwise."""


@dataclasses.dataclass(frozen=True)
class Collection:
    """Images to be stored.

    Attributes:
      records: images that are to be stored, in the order of their ids.
      problems: images that the tables and folders alone show to be unusable.
      duplicate_pairs: image ids that are published as showing the same picture.
      lesion_pairs: image ids that are published as showing the same lesion.
      read_as: how an image_folder was understood, in sentences.
      passed_over: what lies there and was read by nobody: names, by what they are.
      merged: what merging several collections did.
    """

    records: tuple[Record, ...]
    problems: tuple[Problem, ...]
    duplicate_pairs: tuple[tuple[str, str], ...]
    lesion_pairs: tuple[tuple[str, str], ...]
    read_as: tuple[str, ...]
    passed_over: dict[str, tuple[str, ...]]
    merged: merging.Merged


def collect(data: config.Data) -> Collection:
    """Lists what `data` names; downloads it first where `data.download` says so and it is not there.

    Images of several collections are merged by `merging.merged`; one of `use` "masks" gives its masks to images of the
    same id, and what else it has annotated without a label.

    Raises:
      FileNotFoundError: a folder or table is missing; says where it is published and how to name it.
      ValueError: a table or an archive cannot be understood.
      OSError: a download failed.
    """
    sources = data.sources
    kinds = {reader(name, sources) for name in sources}
    for name in ("labels", "group"):
        if getattr(data, name) and "image_folder" not in kinds:
            raise ValueError(f'data.{name} = {getattr(data, name)!r}: must be "" with collection {data.name!r}')
    roots = {name: _root(data, name) for name in sorted(sources, key=lambda name: sources[name].use == "masks")}
    read = {name: _read(name, root, data) for name, root in roots.items()}
    merged = _merged(data, roots, {name: contents.records for name, contents in read.items()})
    records = sorted(merged.records, key=lambda record: record.image_id)
    problems = [problem for contents in read.values() for problem in contents.problems]
    if len(data.own) > 1:
        problems = _unseen_elsewhere(problems, records)
    problems = sorted(problems, key=lambda problem: problem.image_id)
    duplicates = [pair for root in _of("isic2020", roots, sources) for pair in isic2020.duplicate_pairs(root)]
    lesions = [pair for root in _of("ham10000", roots, sources) for pair in ham10000.lesion_pairs(root)]
    passed_over = collections.defaultdict(list)
    for what, names in (item for contents in read.values() for item in contents.passed_over.items()):
        passed_over[what] += names
    return Collection(
        tuple(records),
        tuple(problems),
        tuple(duplicates),
        tuple(lesions),
        read_as=tuple(sentence for contents in read.values() for sentence in contents.read_as),
        passed_over={what: tuple(names) for what, names in passed_over.items()},
        merged=merged,
    )


def publishers(data: config.Data) -> list[Any]:
    """Returns the modules of `collections` that read what is classified."""
    return [find_reader(kind) for kind in dict.fromkeys(reader(name, data.sources) for name in data.own)]


def titles(data: config.Data) -> str:
    """Returns what the collections that are classified are called."""
    return ", ".join(source.TITLE for source in publishers(data))


def reader(name: str, sources: Mapping[str, config.Source]) -> str:
    """Returns the name of what reads a collection, as `find_reader` takes it."""
    return sources[name].reader or name


class UnusableImages(ValueError):
    """Images cannot be used, and `data.on_error` is "raise": counts by kind, and some of each kind by id."""

    def __init__(self, problems: Sequence[Problem], *, listed_in: str = "the attribute `problems`"):
        kinds = collections.Counter(problem.kind for problem in problems).most_common()
        counts = "; ".join(f"{count} x {kind}" for kind, count in kinds)
        few = max(3, 20 // len(kinds))
        shown = "\n".join(
            f"  {problem.image_id}: {problem.what}"
            for kind, _ in kinds
            for problem in [problem for problem in problems if problem.kind == kind][:few]
        )
        super().__init__(
            f"{len(problems)} images cannot be used ({counts}):\n{shown}\nThe full list is in {listed_in}. "
            "Mend the files, or leave these images out: --config.data.on_error=skip."
        )
        self.problems = problems


def _merged(data: config.Data, roots: Mapping[str, Folder], records: Mapping[str, Sequence[Record]]) -> merging.Merged:
    """Returns the records of all collections as one list, those of one as they are."""
    merged = merging.Merged(list(records[data.own[0]]))
    if len(data.own) > 1:
        merged = merging.merged({name: records[name] for name in data.own}, data.sources, _exact(data, roots))
    for name in (name for name in roots if name not in data.own):
        merged.records = merging.with_masks(merged.records, records[name])
    return merged


def _unseen_elsewhere(problems: Sequence[Problem], records: Sequence[Record]) -> list[Problem]:
    """Returns the problems without those of rows whose image is missing in their collection, but not in another."""
    found = {merging.plain_id(record.image_id) for record in records}
    missing = "metadata row without an image"
    return [p for p in problems if p.what != missing or merging.plain_id(p.image_id) not in found]


def _exact(data: config.Data, roots: Mapping[str, Folder]) -> dict[str, merging.Exact]:
    """Returns what ISIC 2019's table says of the images of all collections, where it is among them."""
    own = {name: roots[name] for name in data.own}
    tables = [isic2019.exact(root) for root in _of("isic2019", own, data.sources)]
    return {image_id: merging.Exact(*told) for table in tables for image_id, told in table.items()}


def _of(wanted: str, roots: Mapping[str, Folder], sources: Mapping[str, config.Source]) -> list[Folder]:
    return [root for name, root in roots.items() if reader(name, sources) == wanted]


def _read(name: str, root: Folder, data: config.Data) -> Contents:
    """Reads a collection, and tells what is passed over in it."""
    kind = reader(name, data.sources)
    found = image_folder.understand(root, data) if kind == "image_folder" else _published(kind, root, data)
    count = collections.Counter(record.image_id for record in found.records)
    twice = [Problem(one, f"id seen twice: in {n} parts of the collection") for one, n in count.items() if n > 1]
    records = [dataclasses.replace(record, source=name) for record in found.records if count[record.image_id] == 1]
    return dataclasses.replace(found, records=records, problems=[*found.problems, *twice])


def _published(kind: str, root: Folder, data: config.Data) -> Contents:
    source = find_reader(kind)
    records, problems = source.read(root, data)
    if config.is_plugin(kind):
        _check_records(kind, records, problems, data)
    passed_over = unread(root, records, problems, source.TABLES) if hasattr(source, "TABLES") else {}
    return Contents(records, problems, passed_over=passed_over)


def _check_records(kind: str, records: Sequence[Any], problems: Sequence[Any], data: config.Data) -> None:
    """Checks what somebody's own reader returns, of which nothing may be passed over in silence."""
    where = f"{kind!r} does not meet its protocol (segfusion_jax.plugins.protocols.Reader)"
    for what, found, wanted in (("records", records, Record), ("problems", problems, Problem)):
        strange = [one for one in found if not isinstance(one, wanted)]
        if strange:
            raise ValueError(f"{where}: {what} are {wanted.__name__}; there is {strange[0]!r}")
    labels = ("", *data.own_classes) if data.own_classes else ("", *taxonomy.ALL)
    for one in records:
        if one.diagnosis not in labels or one.malignant not in (-1, 0, 1):
            told = f"diagnosis {one.diagnosis!r} and malignant {one.malignant!r} of {one.image_id}"
            raise ValueError(f"{where}: diagnosis is one of {labels}, malignant 1, 0 or -1; {told}")


def _root(data: config.Data, name: str) -> Folder:
    source = data.sources[name]
    kind = source.reader or name
    if kind == "synthetic":
        return Folder(locations.cache_folder())
    named = source.root
    root = locations.find(named) if named else locations.find_data(name) or locations.find_data(f"{name}.zip")
    if root is not None:
        return Folder(root)
    if data.download and not named and kind in FILES:
        folder = locations.cache_folder() / "downloads" / kind
        download(kind, folder)
        return Folder(folder)
    published = find_reader(kind)
    error = official.missing(
        f"folder {named or name}", root=None, title=published.TITLE, address=published.ADDRESS, collection=name
    )
    if kind in FILES and not named:
        raise FileNotFoundError(f"{error} Or let it be downloaded: --config.data.download=True.")
    raise error
