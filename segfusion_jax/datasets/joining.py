"""What a config names, read from its sources and merged: every image that is to be stored, before any is opened."""

import collections
import dataclasses
import hashlib
from collections.abc import Sequence

from segfusion_jax import config
from segfusion_jax.datasets.collections import READERS, ham10000, isic2020, official
from segfusion_jax.datasets.files import Folder
from segfusion_jax.datasets.published import FILES, download
from segfusion_jax.datasets.record import Problem, Record
from segfusion_jax.runtime import locations

_FORMAT = 4  # raise when the same input would be stored otherwise


@dataclasses.dataclass(frozen=True)
class Collection:
    """Images to be stored.

    Attributes:
      records: images that are to be stored, in the order of their ids.
      problems: images that the tables and folders alone show to be unusable.
      duplicate_pairs: image ids that are published as showing the same picture.
      lesion_pairs: image ids that are published as showing the same lesion.
      fingerprint: SHA-256 over all of this, of files their names and sizes, and the fields of the config that decide
        what is stored.
      state: SHA-256 like `fingerprint`, over the times of change or checksums of the files as well.
    """

    records: tuple[Record, ...]
    problems: tuple[Problem, ...]
    duplicate_pairs: tuple[tuple[str, str], ...]
    lesion_pairs: tuple[tuple[str, str], ...]
    fingerprint: str
    state: str


def collect(data: config.Data) -> Collection:
    """Lists what `data` names; downloads it first where `data.download` says so and it is not there.

    With a `data.mask_collection`, an image that both collections have keeps the label of the main one and takes the
    mask of the other; an annotated image that only the mask collection has is kept without a label.

    Raises:
      FileNotFoundError: a folder or table is missing; says where it is published and how to name it.
      ValueError: a table or an archive cannot be understood.
      OSError: a download failed.
    """
    names = dict.fromkeys((data.collection, data.mask_collection or data.collection))
    roots = {name: _root(data, name) for name in names}
    read = {name: READERS[name].read(root, data) for name, root in roots.items()}
    records, problems = read[data.collection]
    if data.mask_collection not in ("", data.collection):
        annotated, more_problems = read[data.mask_collection]
        records, problems = _merged(records, annotated), problems + more_problems
    count = collections.Counter(record.image_id for record in records)
    twice = [name for name in count if count[name] > 1]
    problems = [
        *problems,
        *(Problem(name, f"id seen twice: in {count[name]} parts of the collection") for name in twice),
    ]
    records = sorted((r for r in records if count[r.image_id] == 1), key=lambda record: record.image_id)
    duplicates = isic2020.duplicate_pairs(roots["isic2020"]) if "isic2020" in roots else []
    lesions = ham10000.lesion_pairs(roots["ham10000"]) if "ham10000" in roots else []
    problems = sorted(problems, key=lambda problem: problem.image_id)
    others = problems, duplicates, lesions, data.collection
    plain, stamped = (
        hashlib.sha256(repr((fingerprint(data, records, stamps=stamps), *others)).encode()).hexdigest()
        for stamps in (False, True)
    )
    return Collection(tuple(records), tuple(problems), tuple(duplicates), tuple(lesions), plain, stamped)


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


def fingerprint(data: config.Data, records: Sequence[Record], *, stamps: bool) -> str:
    """Returns the SHA-256 of all that decides how `records` are stored; of files, names, sizes and perhaps stamps."""
    digest = hashlib.sha256(repr((_FORMAT, data.size, data.aspect, data.resampling)).encode())
    for record in records:
        facts = {name: value for name, value in vars(record).items() if name not in ("image", "mask")}
        files = [file and (file.name, file.size, stamps and file.stamp) for file in (record.image, record.mask)]
        digest.update(repr((facts, files)).encode())
    return digest.hexdigest()


def _merged(records: Sequence[Record], annotated: Sequence[Record]) -> list[Record]:
    others = {record.image_id: record for record in annotated if record.mask is not None}
    merged = []
    for record in records:
        other = others.pop(record.image_id, record)
        ids = {"lesion_id": record.lesion_id or other.lesion_id, "patient_id": record.patient_id or other.patient_id}
        merged.append(dataclasses.replace(record, mask=other.mask, **ids))
    return merged + [dataclasses.replace(other, malignant=-1, diagnosis="") for other in others.values()]


def _root(data: config.Data, name: str) -> Folder:
    if name == "synthetic":
        return Folder(locations.cache_folder())
    named = data.root if name == data.collection else data.mask_root
    root = locations.find(named) if named else locations.find_data(name) or locations.find_data(f"{name}.zip")
    if root is not None:
        return Folder(root)
    if data.download and not named and name in FILES:
        folder = locations.cache_folder() / "downloads" / name
        download(name, folder)
        return Folder(folder)
    source = READERS[name]
    error = official.missing(
        f"folder {named or name}", root=None, title=source.TITLE, address=source.ADDRESS, collection=name
    )
    if name in FILES and not named:
        raise FileNotFoundError(f"{error} Or let it be downloaded: --config.data.download=True.")
    raise error
