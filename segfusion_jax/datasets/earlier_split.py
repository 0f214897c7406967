"""An earlier split, `splits.table`: a table of one's own, or published ones, whose images stay where it puts them."""

import collections
import gzip
import io
import logging
import pathlib
import zlib
from collections.abc import Mapping, Sequence

from segfusion_jax import config
from segfusion_jax.datasets.collections import official
from segfusion_jax.datasets.files import DiskFile
from segfusion_jax.datasets.merging import plain_id
from segfusion_jax.datasets.published_splits import tables
from segfusion_jax.datasets.salted import matches
from segfusion_jax.datasets.table import Row
from segfusion_jax.runtime import sinks

_log = logging.getLogger(__name__)

_SPLITS = ("test", "official_test", "validation", "train", "unused")
"""What a table may say, the strictest first."""
_UNPACKED = 1 << 28
"""Bytes that a packed table may have, unpacked."""

Places = dict[str, tuple[str, int]]
"""Split and fold, -1 = not said, or outside train and validation; by the id of an image or the name of a group."""


def find(splits: config.Splits) -> list[pathlib.Path]:
    """Returns the files that `splits.table` names.

    Raises:
      FileNotFoundError: one is not there.
    """
    if splits.table.startswith(tables.PREFIX):
        return [tables.path(name, splits.table) for name in splits.table.removeprefix(tables.PREFIX).split("+")]
    path = pathlib.Path(splits.table).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"splits.table = {splits.table!r}: no such file")
    return [path]


def read(rows: Sequence[Row], splits: config.Splits) -> Places:
    """Returns where `splits.table` puts the images that it names, by id; {} without a table.

    A table may hold ids salted, see `salted`. An id with `_downsampled` is that without it, where the table has only
    one of them. A published table, which nobody can mend, may part images that the files show to be relatives: then
    those of the strictest split stay in it, and the others are "unused"; of several folds they take the first.

    Raises:
      FileNotFoundError: as `find`.
      ValueError: a table cannot be understood, or names none of the images.
    """
    if not splits.table:
        return {}
    told: Places = {}
    for path in find(splits):
        told |= _table(path, splits)
    told |= {image_id: told[name] for image_id, name in matches((row.image_id for row in rows), told).items()}
    by_plain_id = {plain_id(image_id): place for image_id, place in told.items()}
    ids = [row.image_id for row in rows]
    places = {one: told.get(one) or by_plain_id[plain_id(one)] for one in ids if plain_id(one) in by_plain_id}
    if not places:
        example = f"an id of it is {next(iter(told))!r}" if told else "it has no rows"
        raise ValueError(f"splits.table = {splits.table!r} has none of the images; {example}")
    return _undivided(rows, places, splits) if splits.table.startswith(tables.PREFIX) else places


def kept(groups: Mapping[str, Sequence[Row]], earlier: Places, splits: config.Splits) -> Places:
    """Returns split and fold of the groups of which `earlier` has images.

    Raises:
      ValueError: it parts a group; names the images and the remedy.
    """
    found = {}
    for name, members in groups.items():
        named = {row.image_id: earlier[row.image_id] for row in members if row.image_id in earlier}
        places = set(named.values()) - {("unused", -1)}
        if len(places) > 1:
            listed = ", ".join(f"{image_id} in {split}, fold {fold}" for image_id, (split, fold) in named.items())
            raise ValueError(
                f"splits.table = {splits.table!r} parts one lesion, patient or picture: {listed}. "
                "Give all of them the same split there, or 'unused' to those that shall take no part"
            )
        if places:
            found[name] = places.pop()
    return found


def _undivided(rows: Sequence[Row], places: Places, splits: config.Splits) -> Places:
    """Returns the places with each group in one of them, and what is elsewhere "unused"; tells of those."""
    groups = collections.defaultdict(list)
    for row in rows:
        if places.get(row.image_id, ("unused", -1))[0] != "unused":
            groups[row.group].append(row.image_id)
    changed = {}
    for members in groups.values():
        named = {places[image_id] for image_id in members}
        if len(named) > 1:
            first = min(named, key=lambda place: (_SPLITS.index(place[0]), place[1]))
            changed |= {one: first if places[one][0] == first[0] else ("unused", -1) for one in members}
    parted = sorted(image_id for image_id, (split, _) in changed.items() if split == "unused")
    if parted:
        _log.warning(
            "splits.table = %r: %d images take no part, since these files show them to be relatives of images that "
            "it has in a stricter split: %s",
            *(splits.table, len(parted), ", ".join(parted[:10]) + ", ..." * (len(parted) > 10)),
        )
    return places | changed


class _Unpacked(DiskFile):
    """A file that is packed by gzip."""

    def read(self) -> bytes:
        """Returns all bytes, unpacked.

        Raises:
          ValueError: they are no whole gzip file, or more than `_UNPACKED`.
        """
        try:
            content = gzip.GzipFile(fileobj=io.BytesIO(super().read())).read(_UNPACKED + 1)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{self.path}: is no whole gzip file ({error})") from error
        if len(content) > _UNPACKED:
            raise ValueError(f"{self.path}: unpacks to more than {_UNPACKED} bytes, which is all that is read")
        return content


def _table(path: pathlib.Path, splits: config.Splits) -> Places:
    """Reads split and fold of each image of a table."""
    kind, places = _Unpacked if path.suffix == ".gz" else DiskFile, {}
    for line in official.rows(kind(path, path.stat().st_size), ("image_id", "split"), optional=("fold",)):
        image_id, split, fold = sinks.plain(line["image_id"]), line["split"].lower(), line.get("fold", "")
        split = "validation" if split == "val" else split
        if not image_id or split not in _SPLITS or (fold or "-1") not in map(str, range(-1, splits.num_folds)):
            accepted = f"an image_id, a split of {', '.join(_SPLITS)}, a fold below {splits.num_folds} or none"
            if fold.isdecimal():
                accepted += f"; --config.splits.num_folds={int(fold) + 1}, or more, says how many folds there are"
            raise ValueError(f"splits.table = {splits.table!r} has the row {line}; it must have {accepted}")
        place = split, int(fold or -1) if split in ("train", "validation") else -1
        if places.setdefault(image_id, place) != place:
            raise ValueError(f"splits.table = {splits.table!r} has {image_id} in {places[image_id]} and in {place}")
    return places
