"""What the official collections share: folders and tables as published, and rows matched with image files."""

import collections
import csv
import io
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from segfusion_jax.datasets.files import File, Folder, composed
from segfusion_jax.datasets.record import Problem, Record

Row = dict[str, str]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".heic", ".heif", ".dcm", ".dicom")

_UNKNOWN = {
    "",
    "na",
    "n/a",
    "n.a.",
    "nan",
    "none",
    "null",
    "unknown",
    "unbekannt",
    "k.a.",
    "?",
    "??",
    "-",
    "--",
    "–",
    "—",
}
_DEPTH = 3  # folders below the named one in which something published is looked for
_OLDEST = 130  # years


def missing(what: str, *, root: Folder | None, title: str, address: str, collection: str) -> FileNotFoundError:
    """Returns the error for a folder or table that is not there: what, where it is published, which option names it."""
    place = f"in {root}" if root else "here or in any folder of SEGFUSION_DATA"
    if root and root.path.suffix.lower() == ".zip":
        place += " (archives in an archive are not looked into; unpack the outer one)"
    return FileNotFoundError(
        f"{title}: no {what} {place}. It is published at {address}. Name the folder that holds it with "
        f"--config.data.root=FOLDER (segfusion evaluate: --root=FOLDER), or put it into "
        f"FOLDER/{collection} and set SEGFUSION_DATA=FOLDER. "
        f"(Of several collections, the option is --config.data.collections.{collection}.root.)"
    )


def folders(root: Folder, *names: str) -> list[Folder]:
    """Returns folders and zip archives called like one of `names`, in any case, in the order of `names`.

    They are looked for in `root` and, as far as need be, below it. Where unpacking has put a folder into one of its own
    name, the inner one counts.
    """
    found = []
    for name in names:
        level = next((hits for level in _levels(root) if (hits := [f for f in level if _same(f.name, name)])), [])
        found.extend(_innermost(folder) for folder in level)
    return found


def table(root: Folder, *names: str) -> File | None:
    """Returns the first file called like one of `names`, in any case, in `root` or, as far as need be, below it."""
    levels = [[root], *_levels(root)]
    by_level = [
        {file.name.lower(): file for folder in reversed(level) for file in folder.files(*names)} for level in levels
    ]
    return next((found[name.lower()] for name in names for found in by_level if name.lower() in found), None)


def header(file: File) -> list[str]:
    """Names of the columns of a table.

    Raises:
      OSError, ValueError: as `rows`.
    """
    return next(_lines(file), [])


def rows(file: File, columns: Sequence[str], *, optional: Sequence[str] = ()) -> list[Row]:
    """Reads the rows of a UTF-8 table with any line ends, separated by commas, semicolons or tabs; values stripped.

    Args:
      file: the table.
      columns: columns that the table must have.
      optional: columns that are read where the table has them; all others are left out.

    Raises:
      OSError: it cannot be read.
      ValueError: it is no such text, lacks one of `columns`, names a column twice, or a row has not as many values as
        the header.
    """
    lines = _lines(file)
    names = next(lines, [])
    wrong = [name for name in columns if names.count(name) != 1] + [name for name in optional if names.count(name) > 1]
    if wrong:
        raise ValueError(f"{file}: no column, or more than one, {', '.join(wrong)}; it has {', '.join(names)}")
    kept = [(name, names.index(name)) for name in (*columns, *optional) if name in names]
    # Interned, since values repeat: ISIC 2024 has 401,059 rows.
    return [{name: sys.intern(values[place].strip()) for name, place in kept} for values in lines]


def only_rows(table_rows: Iterable[Row], *, column: str) -> dict[str, Row]:
    """Returns rows by id, without those whose id has several."""
    table_rows = list(table_rows)
    count = collections.Counter(row[column] for row in table_rows)
    return {row[column]: row for row in table_rows if count[row[column]] == 1}


def images(
    where: Iterable[Folder], *, suffixes: tuple[str, ...] = IMAGE_SUFFIXES, ending: str = ""
) -> dict[str, list[File]]:
    """Returns files by id, the name without `ending` and suffix. An id has several files if several folders hold it."""
    found: dict[str, list[File]] = collections.defaultdict(list)
    for folder in where:
        for file in folder.files():
            stem, dot, suffix = file.name.rpartition(".")
            if (dot + suffix).lower() in suffixes and stem.lower().endswith(ending):
                found[stem[: len(stem) - len(ending)]].append(file)
    return dict(found)


def masks(
    where: Iterable[Folder], *, suffixes: tuple[str, ...] = (".png",), ending: str = "_segmentation"
) -> dict[str, File]:
    """Returns the annotation of each id."""
    return {image_id: found[0] for image_id, found in images(where, suffixes=suffixes, ending=ending).items()}


def match(ids: Sequence[str], found: Mapping[str, Sequence[File]]) -> tuple[dict[str, File], list[Problem]]:
    """Returns the image file of every id that has one row and one picture, and a problem for each of the others.

    The same file in two folders (Kaggle's copy of HAM10000 has every folder twice, in two cases) is one picture; it is
    told by its size.
    """
    count = collections.Counter(ids)
    usable, problems = {}, []
    for image_id in sorted(count.keys() | found.keys()):
        if image_id not in count:
            problems.append(Problem(image_id, f"image without a metadata row: {found[image_id][0].name}"))
        elif image_id not in found:
            problems.append(Problem(image_id, "metadata row without an image"))
        elif count[image_id] > 1:
            problems.append(Problem(image_id, f"id seen twice: {count[image_id]} metadata rows"))
        elif len({file.size for file in found[image_id]}) > 1:
            problems.append(Problem(image_id, f"id seen twice: {', '.join(map(str, found[image_id]))} differ"))
        elif any(0xD800 <= ord(letter) < 0xE000 for letter in image_id):  # Python's stand-ins for other bytes
            problems.append(Problem(image_id, "name that is not UTF-8: rename the file"))
        else:
            usable[image_id] = found[image_id][0]
    return usable, problems


def records(
    table_rows: Sequence[Row],
    found: Mapping[str, Sequence[File]],
    make: Callable[[Row, File], Record],
    *,
    column: str,
) -> tuple[list[Record], list[Problem]]:
    """Makes a record of each row that `match` finds an image for; tells what is wrong with the others.

    Args:
      table_rows: one an image.
      found: image files by id, as `images` returns them.
      make: turns a row and its image into a record; says by ValueError why a row cannot be used.
      column: the column that holds the image id.
    """
    usable, problems = match([row[column] for row in table_rows], found)
    made = []
    for row in table_rows:
        if row[column] in usable:
            try:
                made.append(make(row, usable[row[column]]))
            except ValueError as error:
                problems.append(Problem(row[column], f"unusable metadata row: {error}"))
    return made, problems


def known(text: str) -> str:
    """Returns `text`, or "" where it says that the value is unknown."""
    return "" if text.lower() in _UNKNOWN else text


def sex(text: str) -> str:
    """Returns "female", "male", or "" where unknown.

    Raises:
      ValueError: something else.
    """
    value = {"f": "female", "m": "male"}.get(text.lower(), known(text).lower())
    if value not in ("female", "male", ""):
        raise ValueError(f"sex = {text!r}: must be female, male or unknown")
    return value


def age(text: str) -> float:
    """Returns the age in years; NaN where unknown. Collections also write 0 for unknown, and "85+".

    Raises:
      ValueError: not a number of years.
    """
    try:
        years = float(known(text).removesuffix("+") or 0)
    except ValueError:
        years = -1.0
    if math.isnan(years):
        return years
    if not 0 <= years <= _OLDEST:
        raise ValueError(f"age = {text!r}: must be years in [0, {_OLDEST}], or unknown")
    return years or math.nan


def _levels(root: Folder) -> Iterator[list[Folder]]:
    """Yields the folders in `root`, the folders in those, and so on."""
    level = [root]
    for _ in range(_DEPTH):
        level = [inner for folder in level for inner in folder.folders()]
        if not level:
            return
        yield level


def _innermost(folder: Folder) -> Folder:
    inner = next((inner for inner in folder.folders() if _same(inner.name, folder.name)), None)
    return _innermost(inner) if inner else folder


def _same(name: str, other: str) -> bool:
    return name.lower() == other.lower()


def _lines(file: File) -> Iterator[list[str]]:
    """Yields the names of the columns, then the values of each row that is not empty; as `composed` has them."""
    content = file.read()
    spelled = str if content.isascii() else composed
    delimiter = max(",;\t", key=content[:4096].splitlines()[0].decode(errors="replace").count) if content else ","
    reader = csv.reader(io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline=""), delimiter=delimiter)
    names: list[str] = []
    try:
        for values in filter(any, reader):
            if not names:
                values = names = [spelled(name.strip()) for name in values]
            if len(values) != len(names):
                raise ValueError(f"{len(values)} values; the header has {len(names)} columns")
            yield list(map(spelled, values))
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: no UTF-8 text: {error}") from None
    except (csv.Error, ValueError) as error:
        raise ValueError(f"{file}, line {reader.line_num}: {error}") from None
