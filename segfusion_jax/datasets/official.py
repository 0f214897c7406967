"""What the official collections share: folders and tables as published, and rows matched with image files."""

import collections
import csv
import pathlib
from collections.abc import Iterable, Mapping, Sequence

from segfusion_jax.datasets.record import Problem

_UNKNOWN = {"", "na", "nan", "unknown"}


def missing(what: str, *, root: pathlib.Path | None, title: str, address: str, collection: str) -> FileNotFoundError:
    """The error for a folder or table that is not there: what, where it is published, and which option names it."""
    place = f"in {root}" if root else "in any folder of SEGFUSION_DATA"
    return FileNotFoundError(
        f"{title}: no {what} {place}. It is published at {address}. Name the folder that holds it with "
        f"--config.data.root=FOLDER, or put it into FOLDER/{collection} and set SEGFUSION_DATA=FOLDER. "
        "(For a collection that only brings masks, the option is --config.data.mask_root.)"
    )


def entries(root: pathlib.Path, *names: str) -> list[pathlib.Path]:
    """Files and folders in `root` called like one of `names`, in any case, in the order of `names`, then sorted."""
    found = sorted(root.iterdir()) if root.is_dir() else []
    return [path for name in names for path in found if path.name.lower() == name.lower()]


def rows(path: pathlib.Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Rows of a comma- or tab-separated table with any line ends, values stripped.

    Raises:
      ValueError: the table lacks one of `columns`, or a row has fewer values than the header.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        delimiter = "\t" if "\t" in file.readline() else ","
        file.seek(0)
        reader = csv.DictReader(file, delimiter=delimiter, restval="\0")
        absent = [column for column in columns if column not in (reader.fieldnames or [])]
        if absent:
            raise ValueError(
                f"{path}: no column {', '.join(absent)}; it has {', '.join(reader.fieldnames or ['none'])}"
            )
        table = []
        for row in reader:
            if "\0" in row.values() or None in row:
                raise ValueError(f"{path}, line {reader.line_num}: not as many values as the header has columns")
            table.append({name: value.strip() for name, value in row.items()})
    return table


def files(
    folders: Iterable[pathlib.Path], *, suffixes: tuple[str, ...], ending: str = ""
) -> dict[str, list[pathlib.Path]]:
    """Files by id: the name without `ending` and suffix. One id has several files if several folders hold it."""
    found: dict[str, list[pathlib.Path]] = collections.defaultdict(list)
    for folder in folders:
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in suffixes and path.stem.endswith(ending):
                found[path.stem.removesuffix(ending)].append(path)
    return dict(found)


def match(
    ids: Sequence[str], images: Mapping[str, Sequence[pathlib.Path]]
) -> tuple[dict[str, pathlib.Path], list[Problem]]:
    """The image file of every id that has one row and one picture, and a problem for each of the others.

    The same file in two folders (Kaggle's copy of HAM10000 has every folder twice, in two cases) is one picture.
    """
    count = collections.Counter(ids)
    usable, problems = {}, []
    for image_id in sorted(count.keys() | images.keys()):
        if image_id not in count:
            problems.append(Problem(image_id, f"image without a metadata row: {images[image_id][0].name}"))
        elif image_id not in images:
            problems.append(Problem(image_id, "metadata row without an image"))
        elif count[image_id] > 1:
            problems.append(Problem(image_id, f"id seen twice: {count[image_id]} metadata rows"))
        elif len({path.stat().st_size for path in images[image_id]}) > 1:
            problems.append(Problem(image_id, f"id seen twice: {', '.join(map(str, images[image_id]))} differ"))
        else:
            usable[image_id] = images[image_id][0]
    return usable, problems


def known(text: str) -> str:
    """`text`, or "" where it says that the value is unknown."""
    return "" if text.lower() in _UNKNOWN else text


def age(text: str) -> float:
    """Years; NaN where unknown. Collections also write 0 for unknown.

    Raises:
      ValueError: not a number.
    """
    return (float(text) if known(text) else 0.0) or float("nan")
