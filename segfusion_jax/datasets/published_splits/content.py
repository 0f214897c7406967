"""What images look like, as far as they were at hand: which of them are one picture, near duplicates or cuts."""

import collections
import csv
import dataclasses
import gzip
import io
import pathlib
from collections.abc import Iterable, Mapping, Sequence

from segfusion_jax.datasets.merging import plain_id
from segfusion_jax.datasets.published_splits import tables
from segfusion_jax.datasets.table import Row

RULES = ("picture", "lookalike", "cut")
COLUMNS = ("image_id", *RULES)
FILE = tables.FOLDER / f"content-{tables.VERSION}.csv.gz"


@dataclasses.dataclass(frozen=True)
class Content:
    """Names of what an image is one of, "" = of nothing: the smallest id, among those of the tables, of its set.

    Attributes:
      picture: equal files.
      lookalike: near duplicates, and chains of these.
      cut: of which one looks like the middle of the other, and chains of these.
    """

    picture: str = ""
    lookalike: str = ""
    cut: str = ""


def of_prepared(rows: Iterable[Row], ids: Iterable[str]) -> dict[str, Content]:
    """Returns what a prepared run knows of images, by id: of those of the tables that it has.

    Args:
      rows: the run's images.
      ids: image ids of the tables; `_downsampled` does not count where they are compared with the run's.
    """
    named = {plain_id(one): one for one in ids}
    known = {named[plain_id(row.image_id)]: row for row in rows if plain_id(row.image_id) in named}
    names = {rule: _sets({one: getattr(row, rule) for one, row in known.items()}) for rule in RULES}
    return {one: Content(*(names[rule].get(one, "") for rule in RULES)) for one in sorted(known)}


def pairs(content: Mapping[str, Content], rule: str) -> list[tuple[str, str]]:
    """Returns pairs of ids that a rule, a name of RULES, joins."""
    return [(name, one) for one, found in content.items() if (name := getattr(found, rule))]


def read(path: pathlib.Path = FILE) -> dict[str, Content]:
    """Reads what `written` returned."""
    lines = csv.DictReader(io.StringIO(gzip.decompress(path.read_bytes()).decode()))
    return {line["image_id"]: Content(*(line[rule] for rule in RULES)) for line in lines}


def written(content: Mapping[str, Content]) -> bytes:
    """Returns the packed table of all images that were at hand."""
    return packed([COLUMNS, *((one, found.picture, found.lookalike, found.cut) for one, found in content.items())])


def packed(lines: Iterable[Sequence[object]]) -> bytes:
    """Returns a CSV file, packed by gzip, the same bytes for the same lines."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(lines)
    return gzip.compress(text.getvalue().encode(), compresslevel=9, mtime=0)


def _sets(names: Mapping[str, str]) -> dict[str, str]:
    """Returns, for each id that shares its name with others, the smallest of theirs."""
    members = collections.defaultdict(list)
    for one, name in names.items():
        members[name].append(one)
    return {one: min(some) for some in members.values() if len(some) > 1 for one in some}
