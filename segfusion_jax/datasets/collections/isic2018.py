"""ISIC 2018 (Codella et al. 2019): masks of 2,594 + 100 + 1,000 images, diagnoses of 10,015 + 193 + 1,512.

Official names of Task 1: `ISIC2018_Task1-2_Training_Input/<id>.jpg` and
`ISIC2018_Task1_Training_GroundTruth/<id>_segmentation.png`; of Task 3: `ISIC2018_Task3_Training_Input/<id>.jpg`,
`ISIC2018_Task3_Training_GroundTruth.csv` in a folder of that name, and `ISIC2018_Task3_Training_LesionGroupings.csv`;
the same with `Validation` and `Test`, which have no lesion groupings. The training part of Task 3 is HAM10000.
"""

import dataclasses
import functools
import re

from segfusion_jax import config
from segfusion_jax.datasets import taxonomy
from segfusion_jax.datasets.collections import isic2019, official
from segfusion_jax.datasets.files import File, Folder
from segfusion_jax.datasets.record import Problem, Record

TITLE = "ISIC 2018"
ADDRESS = "https://challenge.isic-archive.com/data/#2018"
LICENCE = "CC0 1.0 (Task 1), CC BY-NC 4.0 (Task 3)"

TABLES = re.compile(r"ISIC2018_Task3_(Training|Validation|Test)_(GroundTruth|LesionGroupings)\.csv", re.IGNORECASE)

_PARTS = {"Training": "train", "Validation": "validation", "Test": "test"}  # from the loosest to the strictest
_ORDER = list(_PARTS.values())

_missing = functools.partial(official.missing, title=TITLE, address=ADDRESS, collection="isic2018")


def read(root: Folder, data: config.Data) -> tuple[list[Record], list[Problem]]:
    """Lists the tasks that are in `root` without opening an image; field `akiec` of `data` counts, as for HAM10000.

    Of Task 1, parts that have images and masks are read, of Task 3, parts that have images and ground truth. An image
    of both tasks is one record: image and mask of Task 1, diagnosis of Task 3, and the stricter of its partitions. One
    that only Task 1 has is of unknown diagnosis.

    Raises:
      FileNotFoundError: neither task has a part; the training part of Task 3 has no lesion groupings; or no ISIC 2019
        ground truth where it is asked for.
      ValueError: a table is not ISIC 2018's.
    """
    relabelled = isic2019.diagnoses() if data.akiec == "by_isic2019" else {}
    merged: dict[str, Record] = {}
    problems: list[Problem] = []
    for found, unusable in (
        *(_task1(root, part) for part in _PARTS),
        *(_task3(root, part, relabelled) for part in _PARTS),
    ):
        for record in found:
            other = merged.get(record.image_id)
            merged[record.image_id] = _merged(record, other) if other else record
        problems += unusable
    if not merged and not problems:
        what = "folder ISIC2018_Task1-2_Training_Input with ISIC2018_Task1_Training_GroundTruth, or folder "
        raise _missing(f"{what}ISIC2018_Task3_Training_Input with ISIC2018_Task3_Training_GroundTruth.csv", root=root)
    unusable_ids = {problem.image_id for problem in problems}
    return [record for record in merged.values() if record.image_id not in unusable_ids], problems


def _task1(root: Folder, part: str) -> tuple[list[Record], list[Problem]]:
    truth = official.folders(root, f"ISIC2018_Task1_{part}_GroundTruth")
    folders = official.folders(root, f"ISIC2018_Task1-2_{part}_Input")
    if not truth or not folders:
        return [], []
    masks = official.masks(truth)
    images = official.images(folders, suffixes=(".jpg", ".jpeg"))
    usable, problems = official.match(list(images), images)
    problems += [Problem(image_id, "image without a mask") for image_id in usable if image_id not in masks]
    records = [
        Record(image_id=image_id, image=image, mask=masks[image_id], partition=_PARTS[part], source="isic2018")
        for image_id, image in usable.items()
        if image_id in masks
    ]
    return records, problems


def _task3(root: Folder, part: str, relabelled: dict[str, str]) -> tuple[list[Record], list[Problem]]:
    table = official.table(root, f"ISIC2018_Task3_{part}_GroundTruth.csv")
    folders = official.folders(root, f"ISIC2018_Task3_{part}_Input")
    if not table or not folders:
        return [], []
    rows = official.rows(table, ("image", *taxonomy.ISIC2018))
    groupings = _groupings(root, part)

    def record(row: official.Row, image: File) -> Record:
        image_id, code = row["image"], taxonomy.marked(row, taxonomy.ISIC2018)
        diagnosis = taxonomy.ISIC2018[code]
        if groupings and image_id not in groupings:
            raise ValueError("not in one row of the lesion groupings")
        grouping = groupings.get(image_id, {})
        return Record(
            image_id=image_id,
            image=image,
            lesion_id=official.known(grouping.get("lesion_id", "")),
            diagnosis=relabelled.get(image_id, diagnosis) if code == "AKIEC" else diagnosis,
            malignant=taxonomy.DIAGNOSES[diagnosis],
            confirmation=official.known(grouping.get("diagnosis_confirm_type", "")),
            partition=_PARTS[part],
            source="isic2018",
        )

    return official.records(rows, official.images(folders), record, column="image")


def _groupings(root: Folder, part: str) -> dict[str, official.Row]:
    """Returns lesion and confirmation of each image of the training part; without them images would leak."""
    name = f"ISIC2018_Task3_{part}_LesionGroupings.csv"
    table = official.table(root, name)
    if table is None and part == "Training":
        raise _missing(f"table {name}", root=root)
    rows = official.rows(table, ("image", "lesion_id", "diagnosis_confirm_type")) if table else []
    return official.only_rows(rows, column="image")


def _merged(record: Record, other: Record) -> Record:
    """Returns one record of two: mask and image of the one that has a mask, the diagnosis of the other."""
    annotated, diagnosed = (record, other) if record.mask else (other, record)
    partition = max(record.partition, other.partition, key=_ORDER.index)
    return dataclasses.replace(diagnosed, image=annotated.image, mask=annotated.mask, partition=partition)
