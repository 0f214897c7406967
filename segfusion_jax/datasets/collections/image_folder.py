"""Anybody's own images: a table of them, or folders that are called like classes.

With a table, `labels.csv`, `metadata.csv` or the only .csv or .tsv there, of one row an image:

    image      path in the folder, or a file's name, with or without suffix
    label      a diagnosis by any name of `taxonomy`, benign, malignant, 0 or 1; empty, ? or - = unknown; with
               `data.classes` one of these, and nothing else
    MEL, NV, ... without a column label: 0 or 1 by classes, of which one is 1, as ISIC 2018 and 2019 have it; or UNK
    mask       path in the folder, or a file's name; empty = not annotated
    patient_id, lesion_id, group         images that share one of them are never parted
    age, sex, site, skin_tone            of the patient, in years; of the lesion; in any scale
    split                                train, validation, test, unused, or a fold's number: see `own_split`

Only the first is needed. `columns.MEANINGS` has the other names that columns may have, in any case, with spaces or
hyphens; a label map (`labels.toml` beside the table, or `data.labels`) says what none of them does. A column that looks
like patients or cases and is not used stops the reading until `data.group` names it, or is "none".

Without a table, the folders around an image say its class, and its split where they are called train, valid or test:
`melanoma/a.jpg`, `train/benign/a.jpg`, `malignant/melanoma/a.jpg`. A folder `patient_1` among them is a patient.

What a DICOM file says of patient, lesion, age, sex and site counts where nothing else says it.

Masks are found by their folders and names, see `layout`, or read from COCO files, see `coco`. The id of an image is its
file's name without suffix, or, where several images share that, its path.
"""

import collections
import math
import pathlib
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence

from segfusion_jax import config
from segfusion_jax.datasets import coco, dicom, taxonomy
from segfusion_jax.datasets.collections import columns, folders, isic2019, labels, layout, official
from segfusion_jax.datasets.collections.columns import LabelMap
from segfusion_jax.datasets.files import DiskFile, File, Folder, walk
from segfusion_jax.datasets.record import Contents, Problem, Record
from segfusion_jax.runtime import locations

TITLE = "image folder"
ADDRESS = "nowhere (these are your own images)"
LICENCE = "that of your own images"

_DICOM = (".dcm", ".dicom")
_TABLES = (".csv", ".tsv")
_SHEETS = (".xlsx", ".xls", ".ods", ".numbers")


def read(root: Folder, data: config.Data) -> tuple[Sequence[Record], Sequence[Problem]]:
    """Lists the images in `root`, as `understand` does."""
    found = understand(root, data)
    return found.records, found.problems


def understand(root: Folder, data: config.Data) -> Contents:
    """Lists the images in `root` without opening one; tells how it was read, and what was passed over.

    Args:
      root: the folder, an archive, or the table itself.
      data: config, of which `labels`, `group` and `classes` count, and `akiec`, as for HAM10000.

    Raises:
      FileNotFoundError: neither a table nor folders of classes.
      ValueError: several tables; a table, label map or COCO file that cannot be understood; a path that leaves the
        folder; folders that are no classes; what looks like a group and is not used as one.
    """
    own = data.own_classes
    root, table = _opened(root, own)
    files = _files(root)
    map_path, label_map = _label_map(files, data)
    annotated = _annotated(files, label_map)
    if table:
        rows, read_as, unused, meanings = _table_rows(table, files, label_map, data)
    else:
        pictures = layout.sort(files).pictures
        if not any("/" in path for path in pictures) and not annotated:
            raise _nothing(root, files, len(pictures))
        rows, read_as = _class_rows(root, pictures, label_map, data)
        unused, meanings = {}, {}
    sorted_files = layout.sort(files, filter(None, (row.get("mask") for row in rows)))
    pictures, elsewhere = _pictures(rows, sorted_files)
    ids = _ids({*pictures, *(row["path"] for row in rows)})
    relabelled = isic2019.diagnoses() if data.akiec == "by_isic2019" else {}
    masks = _masks(rows, sorted_files, annotated)

    headers = {path: _header(pictures[path]) for path in pictures if path.lower().endswith(_DICOM)}
    grouped = [facts for facts in headers.values() if facts.patient_id or facts.lesion_id]
    if grouped and data.group != "none":
        read_as = [*read_as, f"or by patient and lesion in the headers of {len(grouped)} DICOM files"]

    def record(row: official.Row, image: File) -> Record:
        row = _with_header(row, headers.get(row["path"], dicom.Facts()), grouped=data.group != "none")
        return _record(row, ids[row["path"]], image, masks.get(row["path"], []), relabelled, own)

    found = {path: [file] for path, file in pictures.items()}
    records, problems = official.records(rows, found, record, column="path")
    used = {id(record.mask) for record in records}
    read = {table and table.name, map_path, *(entry.file for entry in annotated)}
    passed_over = unused | {
        "files that are no images": [path for path in sorted_files.others if path not in read],
        "images in folders where the table names none": elsewhere,
        "masks of no image": [path for path, file in sorted_files.masks.items() if id(file) not in used],
        "annotations of no image": [entry.called for entry in annotated if entry.mask and id(entry.mask) not in used],
    }
    if label_map != LabelMap():
        read_as = [*read_as, f"label map: {map_path or pathlib.PurePath(data.labels).name}"]
    problems = [Problem(ids[problem.image_id], problem.what) for problem in problems]
    return Contents(
        records,
        problems,
        read_as,
        passed_over={what: tuple(names) for what, names in passed_over.items() if names},
        columns=meanings,
        labels=collections.Counter((row["written"], row.get("label", "")) for row in rows),
    )


def _files(root: Folder) -> dict[str, File]:
    """Returns every file below a folder by its path in it.

    Raises:
      ValueError: two paths look alike.
    """
    files: dict[str, File] = {}
    for path, file in walk(root):
        if path in files:
            raise ValueError(f"{root}: {path!r} is there twice, spelled in two ways of Unicode: rename or remove one")
        files[path] = file
    return files


def _opened(root: Folder, own: Sequence[str]) -> tuple[Folder, File | None]:
    """Returns the folder of the images, the inner one where an archive has put it into another, and its table."""
    path = root.path
    if path.is_file() and path.suffix.lower() in _TABLES:
        return Folder(path.parent), DiskFile(path, path.stat().st_size, path.stat().st_mtime_ns)
    if path.is_file() and path.suffix.lower() != ".zip":
        raise ValueError(f"{path}: must be a folder, a zip archive, or a table that ends in {' or '.join(_TABLES)}")
    inner = root.folders()
    if root.files() or len(inner) != 1 or labels.is_label(inner[0].name, own):
        return root, _table(root)
    says_something = columns.key(inner[0].name) in layout.IMAGE_FOLDERS or inner[0].name.lower() in columns.SPLITS
    deeper = _tables(inner[0]) or (inner[0].folders() and not says_something)
    return _opened(inner[0], own) if deeper else (root, _table(root))


def _tables(root: Folder) -> list[File]:
    return [file for file in root.files() if file.name.lower().endswith(_TABLES)]


def _table(root: Folder) -> File | None:
    tables = _tables(root)
    named = [
        file for name in ("labels", "metadata") for file in tables if posixpath.splitext(file.name.lower())[0] == name
    ]
    if not named and len(tables) > 1:
        names = ", ".join(file.name for file in tables)
        raise ValueError(
            f"{root}: several tables, {names}; call the one that counts labels.csv, or name it as data.root"
        )
    return next(iter(named or tables), None)


def _nothing(root: Folder, files: Mapping[str, File], pictures: int) -> FileNotFoundError:
    sheets = [path for path in files if path.lower().endswith(_SHEETS)]
    what = "no table (labels.csv, metadata.csv or one .csv) and no folders that are called like classes"
    seen = f", but {pictures} images" if pictures else ""
    advice = (
        f"save {sheets[0]} as CSV, which can be read"
        if sheets
        else "name the folder of your images with --config.data.root=FOLDER (segfusion evaluate: --root=FOLDER)"
    )
    return FileNotFoundError(f"{root}: {what}{seen}; {advice}")


def _label_map(files: Mapping[str, File], data: config.Data) -> tuple[str, LabelMap]:
    """Returns the path of the label map in the folder, "" where it lies elsewhere or nowhere, and what it says."""
    if data.labels:
        path = locations.find(data.labels)
        if path is None or not path.is_file():
            raise FileNotFoundError(f"data.labels = {data.labels!r}: no such file; 'segfusion check FOLDER' writes one")
        return "", columns.read_label_map(DiskFile(path, path.stat().st_size))
    path = next((path for path in files if path.lower() == "labels.toml"), "")
    return path, columns.read_label_map(files[path]) if path else LabelMap()


def _annotated(files: Mapping[str, File], label_map: LabelMap) -> list[coco.Entry]:
    meant = {name: text.lower() for name, text in label_map.values.get("category", {}).items()}
    found = ((path, file) for path, file in files.items() if path.lower().endswith(".json"))
    return [entry for path, file in found for entry in coco.read(path, file, meant)]


def _table_rows(
    table: File, files: Mapping[str, File], label_map: LabelMap, data: config.Data
) -> tuple[list[official.Row], list[str], dict[str, list[str]], dict[str, str]]:
    """Returns rows by meaning, with "path", the image's path, and "written", the label as it stands there; how
    the table was read; columns that mean nothing; and the columns by their meanings.
    """
    text, encoding = columns.opened(table)
    understood = columns.understand(text, official.header(text), label_map, data.group, data.own_classes)
    names = dict.fromkeys((*understood.by_meaning.values(), *understood.groups, *understood.one_hot))
    written = official.rows(text, list(names))
    rows = [
        {meaning: label_map.meant(meaning, row[name]) for meaning, name in understood.by_meaning.items()}
        | dict(zip(columns.GROUPS[:2], ids, strict=True))
        | {"written": row.get(understood.by_meaning.get("label", ""), "")}
        for row, ids in zip(written, columns.ids(written, understood), strict=True)
    ]
    for row, values in zip(rows, written, strict=True):
        row |= _marked(values, understood.one_hot, label_map, data.own_classes) if understood.one_hot else {}
        row |= {name: row[name].replace("\\", "/") for name in ("image", "mask") if name in row}
    outside = [row[name] for row in rows for name in ("image", "mask") if _leaves(row.get(name, ""))]
    if outside:
        raise ValueError(f"{table}: {len(outside)} paths lead out of the folder: {', '.join(outside[:5])}")
    sorted_files = layout.sort(files)
    pictures, masks, all_files = map(layout.Finder, (sorted_files.pictures, sorted_files.masks, files))
    for row in rows:
        row["path"] = pictures.find(row["image"]) or posixpath.normpath(row["image"])
        if row.get("mask"):
            row["mask"] = masks.find(row["mask"]) or all_files.find(row["mask"]) or row["mask"]
        if not understood.groups:
            row["patient_id"] = folders.of_whom(row["path"], data.group, row["path"].split("/")[:-1])
    meant = ", ".join(f"{name!r} is {meaning}" for meaning, name in understood.by_meaning.items())
    meant += f", label is which of {', '.join(understood.one_hot)} is 1" if understood.one_hot else ""
    grouped = ", ".join(map(repr, understood.groups)) or ("nothing (data.group = none)" if data.group == "none" else "")
    by_folder = sum(bool(row["patient_id"]) for row in rows) if not understood.groups else 0
    grouped = grouped or (f"the folders of {by_folder} images" if by_folder else "no column, there is none")
    read_as = [
        f"table {table.name} in {encoding}, {len(rows)} rows: {meant}",
        f"images belong together by {grouped}",
    ]
    groups = {meaning: name for name, meaning in understood.groups.items()}
    meanings = {**understood.by_meaning, **groups}
    return rows, read_as, {"columns that are not used": list(understood.unused)}, meanings


def _marked(row: official.Row, one_hot: Sequence[str], label_map: LabelMap, own: Sequence[str]) -> official.Row:
    """Returns the label of a one-hot row and what is written for it; under "one_hot", why there is none."""
    try:
        name = columns.marked(row, one_hot)
    except ValueError as error:
        return {"written": "", "one_hot": str(error)}
    meant = label_map.meant("label", name)
    return {"written": name, "label": meant if labels.is_label(meant, own) else ""}


def _class_rows(
    root: Folder, pictures: Mapping[str, File], label_map: LabelMap, data: config.Data
) -> tuple[list[official.Row], list[str]]:
    """Returns the first two of what `_table_rows` does, of folders."""
    rows = folders.rows(root, pictures, label_map, data.group, data.own_classes)
    people = len({row["patient_id"] for row in rows} - {""})
    grouped = f"{people} folders called like patients or lesions" if people else "nothing, there is no table"
    return rows, [f"{len(rows)} images by the names of their folders", f"images belong together by {grouped}"]


def _leaves(path: str) -> bool:
    return path.startswith("/") or path[1:2] == ":" or ".." in path.split("/")


def _pictures(rows: Sequence[official.Row], files: layout.Layout) -> tuple[dict[str, File], list[str]]:
    """Returns the images that rows should name, at the top, in `images/` and where rows have some; and the others."""
    where = {"", "images", *(posixpath.dirname(row["path"]) for row in rows)}
    near = {path: file for path, file in files.pictures.items() if posixpath.dirname(path) in where}
    return near, [path for path in files.pictures if path not in near]


def _ids(paths: Iterable[str]) -> dict[str, str]:
    """Returns the id of the image at each path: the shortest of name, path and path with suffix that no other has."""
    choices = {}
    for path in paths:
        stem = posixpath.splitext(path)[0]
        choices[path] = (posixpath.basename(stem), stem, path)
    names, stems = (collections.Counter(choice[place] for choice in choices.values()) for place in (0, 1))
    return {
        path: name if names[name] == 1 else stem if stems[stem] == 1 else path
        for path, (name, stem, _) in choices.items()
    }


def _masks(
    rows: Sequence[official.Row], files: layout.Layout, annotated: Sequence[coco.Entry]
) -> dict[str, list[File]]:
    """Returns the masks of the image at each path: those that the table names, else those that are called like it."""
    found: dict[str, list[File]] = collections.defaultdict(list)
    if not any("mask" in row for row in rows):
        for path, masks in layout.masks_of(files.pictures, files.masks).items():
            found[path] += [files.masks[mask] for mask in masks]
    finder = layout.Finder(files.pictures)
    for entry in annotated:
        called = entry.called.replace("\\", "/")
        beside = posixpath.normpath(posixpath.join(posixpath.dirname(entry.file), called))
        path = next(filter(None, map(finder.find, (beside, called, posixpath.basename(called)))), None)
        if path and entry.mask:
            found[path].append(entry.mask)
    for row in rows:
        if row.get("mask"):
            found[row["path"]] = [files.masks[row["mask"]]] if row["mask"] in files.masks else []
    return found


def _header(image: File) -> dicom.Facts:
    try:
        return dicom.describe(image.read())
    except (OSError, ValueError):  # `images.store` says why, when it decodes the picture
        return dicom.Facts()


def _with_header(row: official.Row, facts: dicom.Facts, *, grouped: bool) -> official.Row:
    """Returns a row with what a DICOM header says where the row says nothing."""
    told = {"sex": facts.sex, "site": facts.site, "age": "" if math.isnan(facts.age) else f"{facts.age:g}"}
    if grouped and not (row.get("lesion_id") or row.get("patient_id")):
        told |= {"lesion_id": facts.lesion_id, "patient_id": facts.patient_id}
    return row | {name: value for name, value in told.items() if value and not official.known(row.get(name, ""))}


def _record(
    row: official.Row,
    image_id: str,
    image: File,
    masks: Sequence[File],
    relabelled: Mapping[str, str],
    own: Sequence[str],
) -> Record:
    if row.get("one_hot"):
        raise ValueError(row["one_hot"])
    if row.get("mask") and not masks:
        raise ValueError(f"mask = {row['mask']!r}: no such file")
    if len(masks) > 1:
        raise ValueError(f"{len(masks)} masks, {', '.join(map(str, masks))}: keep one, or name it in a column mask")
    diagnosis, malignant = labels.both(row.get("label", ""), row.get("malignant", ""), own)
    if diagnosis == taxonomy.HAM10000["akiec"] and not own:
        diagnosis = relabelled.get(image_id, diagnosis)
    partition = official.known(row.get("split", "")).lower()
    if fold := re.fullmatch(r"(?:fold[ _-]?)?(\d+)(?:\.0)?", partition):
        partition = str(int(fold[1]))
    elif partition not in ("", *columns.SPLITS.values()):
        accepted = f"one of {', '.join(columns.SPLITS)}, the number of a fold, or empty"
        raise ValueError(f"split = {row['split']!r}: must be {accepted}")
    return Record(
        image_id=image_id,
        image=image,
        mask=next(iter(masks), None),
        lesion_id=row.get("lesion_id", ""),
        patient_id=row.get("patient_id", ""),
        diagnosis=diagnosis,
        malignant=malignant,
        age=official.age(row.get("age", "")),
        sex=official.sex(row.get("sex", "")),
        site=official.known(row.get("site", "")),
        skin_tone=official.known(row.get("skin_tone", "")),
        origin=official.known(row.get("origin", "")),
        partition=partition,
        source="image_folder",
    )
