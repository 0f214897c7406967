"""What lies in a published collection and is read by nobody, and what is not known of what is read."""

import collections
import posixpath
import re
from collections.abc import Sequence

from segfusion_jax.datasets.collections import official
from segfusion_jax.datasets.files import DiskFile, File, Folder, Hdf5Member, walk
from segfusion_jax.datasets.record import Problem, Record

_MASK = re.compile(r"(.+)_(segmentation|lesion)", re.IGNORECASE)


def unread(
    root: Folder, records: Sequence[Record], problems: Sequence[Problem], tables: re.Pattern[str]
) -> dict[str, tuple[str, ...]]:
    """Returns names by what they are: paths of files that no record and no problem speaks of, and ids of images.

    Args:
      root: the folder of the collection.
      records: what was read of it.
      problems: what could not be used of it.
      tables: names of the files that the collection's reader knows.
    """
    files = [file for record in records for file in (record.image, record.mask) if file]
    used = {str(file.archive) if isinstance(file, Hdf5Member) else str(file) for file in files}
    ids = {record.image_id for record in records}
    told = {problem.image_id for problem in problems}
    found: dict[str, list[str]] = collections.defaultdict(list)
    for path, file in walk(root):
        stem = posixpath.splitext(file.name)[0]
        opened = isinstance(file, DiskFile) and file.name.lower().endswith(".zip")
        if not (str(file) in used or opened or tables.fullmatch(file.name) or stem in told):
            found[_kind(file, stem, ids)].append(path)
    if any(record.mask for record in records):
        found["images without a mask"] = [record.image_id for record in records if not record.mask]
    found["images without a known label"] = [one.image_id for one in records if not one.diagnosis and one.malignant < 0]
    return {what: tuple(names) for what, names in found.items() if names}


def _kind(file: File, stem: str, ids: set[str]) -> str:
    if not file.name.lower().endswith(official.IMAGE_SUFFIXES):
        return "files that are no images"
    if _MASK.fullmatch(stem):
        return "masks of no image"
    return "further files called like images that are read" if stem in ids else "images that are not read"
