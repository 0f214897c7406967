"""Anybody's own images: a table of them, or a folder for each class.

With a table, `labels.csv`, `metadata.csv` or the only .csv there, of one row an image:

    image | image_id | filename | file   path in the folder or in its `images/`, or such a file's name without suffix
    label | dx | diagnosis               a name of `taxonomy.DIAGNOSES`, a code such as mel or nv, benign, malignant,
                                         0 or 1; empty = unknown
    mask                                 path in the folder or in its `masks/`; empty = not annotated
    lesion_id, patient_id, group         images that share one of them are never parted
    age, sex, site | localization        of the patient, in years; of the lesion
    skin_tone | fitzpatrick              of the patient, in any scale: its values become subgroups of the report
    split                                train, validation or test

Only the first is needed. Of columns between bars the first counts that is there; column names may have any case.
Without a table, the folders in it are the classes, called like a label, and the files in those are the images; those in
a folder `images` are of no class.

Without a column `mask`, masks are `masks/<id>.png`, `masks/<id>_segmentation.png`, or `<name>_segmentation.png` beside
the image. The id of an image is its file's name without suffix, or, where several images share that, its path.
"""

import collections
import posixpath
from collections.abc import Iterable

from segfusion_jax import config
from segfusion_jax.datasets import taxonomy
from segfusion_jax.datasets.collections import isic2019, official
from segfusion_jax.datasets.files import File, Folder
from segfusion_jax.datasets.record import Problem, Record

TITLE = "image folder"
ADDRESS = "nowhere (these are your own images)"
LICENCE = "that of your own images"

_IMAGE = ("image", "image_id", "filename", "file")
_LABEL = ("label", "dx", "diagnosis")
_SITE = ("site", "localization")
_SKIN_TONE = ("skin_tone", "fitzpatrick")
_NAMES = (_IMAGE, _LABEL, _SITE, _SKIN_TONE)
_OTHERS = ("mask", "group", "lesion_id", "patient_id", "age", "sex", "split")
_MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")
_MASK_ENDING = "_segmentation"
_SPLITS = {
    "": "",
    "train": "train",
    "training": "train",
    "val": "validation",
    "validation": "validation",
    "test": "test",
}
_CODES = {
    **{name: name for name in taxonomy.DIAGNOSES},
    **{code.lower(): name for code, name in (taxonomy.HAM10000 | taxonomy.ISIC2019).items() if name},
}
_MALIGNANT = {"benign": 0, "0": 0, "0.0": 0, "malignant": 1, "1": 1, "1.0": 1}


def read(root: Folder, data: config.Data) -> tuple[list[Record], list[Problem]]:
    """Lists the images in `root` without opening one; field `akiec` of `data` counts, as for HAM10000.

    Raises:
      FileNotFoundError: neither a table nor folders.
      ValueError: several tables; a table without a column of images, or with three columns that group; a path that
        leaves `root`; a folder that is called like no class, or that has folders in it.
    """
    root = _content(root)
    tree, table = _Tree(root), _table(root)
    rows = _table_rows(table, tree) if table else _class_rows(root, tree)
    pictures = _pictures(rows, tree)
    ids = _ids({*pictures, *(row["path"] for row in rows)})
    relabelled = isic2019.diagnoses() if data.akiec == "by_isic2019" else {}

    def record(row: official.Row, image: File) -> Record:
        image_id = ids[row["path"]]
        return _record(row, image_id, image, _mask(row, image_id, tree), relabelled)

    records, problems = official.records(rows, pictures, record, column="path")
    return records, [Problem(ids[problem.image_id], problem.what) for problem in problems]


def _content(root: Folder) -> Folder:
    """Returns `root`, or, where it holds but one folder that is no class, as many archives do, that one."""
    inner = root.folders()
    if root.files() or len(inner) != 1 or not (inner[0].folders() or _tables(inner[0])):
        return root
    return _content(inner[0])


def _tables(root: Folder) -> list[File]:
    return [file for file in root.files() if file.name.lower().endswith(".csv")]


def _table(root: Folder) -> File | None:
    tables = _tables(root)
    named = [file for name in ("labels.csv", "metadata.csv") for file in tables if file.name.lower() == name]
    if not named and len(tables) > 1:
        names = ", ".join(file.name for file in tables)
        raise ValueError(f"{root}: several tables, {names}; call the one that counts labels.csv")
    return next(iter(named or tables), None)


def _table_rows(table: File, tree: "_Tree") -> list[official.Row]:
    """Returns rows with the names of columns that this module's docstring lists first, and "path", the image's path."""
    written = {name.lower(): name for name in official.header(table)}
    columns = {names[0]: name for names in _NAMES for name in reversed(names) if name in written}
    columns |= {name: name for name in _OTHERS if name in written}
    if "image" not in columns:
        raise ValueError(f"{table}: no column of images ({', '.join(_IMAGE)}); it has {', '.join(written.values())}")
    group_as = next((name for name in ("patient_id", "lesion_id") if name not in columns), None)
    if "group" in columns and not group_as:
        raise ValueError(f"{table}: columns group, lesion_id and patient_id; two of them at most can be read")
    rows = official.rows(table, [written[name] for name in columns.values()])
    rows = [{name: row[written[column]] for name, column in columns.items()} for row in rows]
    for row in rows:
        row |= {name: row[name].replace("\\", "/") for name in ("image", "mask") if name in row}
        if group_as and official.known(row.get("group", "")):
            row[group_as] = f"group:{row['group']}"  # told apart from the ids of another collection
    outside = [row[name] for row in rows for name in ("image", "mask") if _leaves(row.get(name, ""))]
    if outside:
        raise ValueError(f"{table}: {len(outside)} paths lead out of the folder: {', '.join(outside[:5])}")
    return [{**row, "path": _found(row["image"], tree)} for row in rows]


def _leaves(path: str) -> bool:
    return path.startswith("/") or path[1:2] == ":" or ".." in path.split("/")


def _found(path: str, tree: "_Tree") -> str:
    """Returns the path of an image that the table calls `path`; `path` itself if there is none."""
    suffixes = ("", *official.IMAGE_SUFFIXES, *(suffix.upper() for suffix in official.IMAGE_SUFFIXES))
    path = posixpath.normpath(path)
    candidates = (f"{folder}{path}{suffix}" for folder in ("", "images/") for suffix in suffixes)
    return next((candidate for candidate in candidates if tree.file(candidate)), path)


def _class_rows(root: Folder, tree: "_Tree") -> list[official.Row]:
    folders = [folder for folder in root.folders() if folder.name != "masks"]
    classes = [folder.name for folder in folders]
    if not classes:
        what = "no table (labels.csv, metadata.csv or one .csv) and no folders that are called like classes"
        raise FileNotFoundError(
            f"{root}: {what}; name the folder of your images with --config.data.root=FOLDER "
            "(segfusion evaluate: --root=FOLDER)"
        )
    nested = [str(inner) for folder in folders for inner in folder.folders()]
    if nested:
        raise ValueError(
            f"{root}: folders in the classes: {', '.join(nested[:5])}; move their images up, or use a table"
        )
    rows = []
    for name in dict.fromkeys(classes):
        label = "" if name == "images" else name
        try:
            _label(label)
        except ValueError as error:
            raise ValueError(f"{root}: folder {name!r} is no class: {error}") from None
        rows += [{"path": f"{name}/{file}", "label": label} for file in tree.files(name) if _is_picture(file)]
    return rows


def _pictures(rows: list[official.Row], tree: "_Tree") -> dict[str, list[File]]:
    """Returns images by path, in the folders where rows have some; masks that lie beside them are left out."""
    masks = {posixpath.normpath(row["mask"]) for row in rows if row.get("mask")}
    folders = {"", "images", *(posixpath.dirname(row["path"]) for row in rows)}
    paths = {posixpath.join(folder, name): file for folder in folders for name, file in tree.files(folder).items()}
    return {path: [file] for path, file in paths.items() if _is_picture(file.name) and path not in masks}


def _is_picture(name: str) -> bool:
    stem, suffix = posixpath.splitext(name)
    return suffix.lower() in official.IMAGE_SUFFIXES and not stem.endswith(_MASK_ENDING)


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


def _mask(row: official.Row, image_id: str, tree: "_Tree") -> File | None:
    if "mask" in row:
        path = posixpath.normpath(row["mask"])
        file = tree.file(path) or tree.file(f"masks/{path}")
        if row["mask"] and not file:
            raise ValueError(f"mask = {row['mask']!r}: no such file")
        return file
    beside = posixpath.splitext(row["path"])[0] + _MASK_ENDING
    candidates = (f"masks/{image_id}", f"masks/{image_id}{_MASK_ENDING}", beside)
    files = (tree.file(candidate + suffix) for candidate in candidates for suffix in _MASK_SUFFIXES)
    return next(filter(None, files), None)


def _record(row: official.Row, image_id: str, image: File, mask: File | None, relabelled: dict[str, str]) -> Record:
    diagnosis, malignant = _label(row.get("label", ""))
    if diagnosis == taxonomy.HAM10000["akiec"]:
        diagnosis = relabelled.get(image_id, diagnosis)
    partition = _SPLITS.get(official.known(row.get("split", "")).lower())
    if partition is None:
        raise ValueError(f"split = {row['split']!r}: must be one of {', '.join(filter(None, _SPLITS))}, or empty")
    return Record(
        image_id=image_id,
        image=image,
        mask=mask,
        lesion_id=official.known(row.get("lesion_id", "")),
        patient_id=official.known(row.get("patient_id", "")),
        diagnosis=diagnosis,
        malignant=malignant,
        age=official.age(row.get("age", "")),
        sex=official.sex(row.get("sex", "")),
        site=official.known(row.get("site", "")),
        skin_tone=official.known(row.get("skin_tone", "")),
        partition=partition,
        source="image_folder",
    )


def _label(text: str) -> tuple[str, int]:
    """Returns the diagnosis and whether it is malignant (0 or 1); ("", -1) where unknown."""
    value = official.known(text).lower().replace("_", " ")
    if value in _CODES:
        return _CODES[value], taxonomy.DIAGNOSES[_CODES[value]]
    if value and value not in _MALIGNANT:
        raise ValueError(f"label = {text!r}: must be empty or one of {', '.join((*_CODES, 'benign, malignant, 0, 1'))}")
    return "", _MALIGNANT.get(value, -1)


class _Tree:
    """Files of a folder by their path in it, listed folder by folder as they are asked for."""

    def __init__(self, root: Folder):
        self._folders: dict[str, Folder | None] = {"": root}
        self._files: dict[str, dict[str, File]] = {}

    def files(self, folder: str) -> dict[str, File]:
        """Returns the files of a folder by name; none where there is no such folder."""
        if folder not in self._files:
            found = self._folder(folder)
            self._files[folder] = {file.name: file for file in found.files()} if found else {}
        return self._files[folder]

    def file(self, path: str) -> File | None:
        """Returns the file at `path`."""
        folder, name = posixpath.split(path)
        return self.files(folder).get(name)

    def _folder(self, path: str) -> Folder | None:
        if path not in self._folders:
            parent, name = posixpath.split(path)
            outer = self._folder(parent)
            self._folders[path] = next((f for f in outer.folders() if f.name == name), None) if outer else None
        return self._folders[path]
