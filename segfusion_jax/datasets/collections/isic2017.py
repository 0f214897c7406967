"""ISIC 2017 (Codella et al. 2018): 2,000 training, 150 validation and 600 test images, all with masks.

Official names: `ISIC-2017_Training_Data/<id>.jpg` (beside superpixels, `<id>_superpixels.png`),
`ISIC-2017_Training_Data_metadata.csv`, `ISIC-2017_Training_Part1_GroundTruth/<id>_segmentation.png` and
`ISIC-2017_Training_Part3_GroundTruth.csv`; the same with `Validation` and `Test_v2`.
"""

import functools
import re

from segfusion_jax import config
from segfusion_jax.datasets import taxonomy
from segfusion_jax.datasets.collections import official
from segfusion_jax.datasets.files import File, Folder
from segfusion_jax.datasets.record import Problem, Record

TITLE = "ISIC 2017"
ADDRESS = "https://challenge.isic-archive.com/data/#2017"
LICENCE = "CC0 1.0"

TABLES = re.compile(r"ISIC-2017_(Training|Validation|Test_v2)_(Part3_GroundTruth|Data_metadata)\.csv", re.IGNORECASE)

_PARTS = {"Training": "train", "Validation": "validation", "Test_v2": "test"}


def read(root: Folder, data: config.Data) -> tuple[list[Record], list[Problem]]:
    """Lists the parts that are in `root` without opening an image; no field of `data` counts.

    What is neither melanoma nor seborrheic keratosis is benign, but of no other stated diagnosis.

    Raises:
      FileNotFoundError: no image folder of any part, or a part without its Part 3 ground truth.
      ValueError: a table is not ISIC 2017's.
    """
    del data
    records: list[Record] = []
    problems: list[Problem] = []
    folders = {part: official.folders(root, f"ISIC-2017_{part}_Data") for part in _PARTS}
    missing = functools.partial(official.missing, root=root, title=TITLE, address=ADDRESS, collection="isic2017")
    if not any(folders.values()):
        raise missing("folder ISIC-2017_Training_Data")
    for part in filter(folders.get, _PARTS):
        name = f"ISIC-2017_{part}_Part3_GroundTruth.csv"
        table = official.table(root, name)
        if table is None:
            raise missing(f"table {name}")
        found, unusable = _part(root, part, table, official.images(folders[part], suffixes=(".jpg", ".jpeg")))
        records += found
        problems += unusable
    return records, problems


def _part(root: Folder, part: str, table: File, images: dict[str, list[File]]) -> tuple[list[Record], list[Problem]]:
    truth = official.rows(table, ("image_id", "melanoma", "seborrheic_keratosis"))
    masks = official.masks(official.folders(root, f"ISIC-2017_{part}_Part1_GroundTruth"))
    metadata_table = official.table(root, f"ISIC-2017_{part}_Data_metadata.csv")
    metadata_rows = official.rows(metadata_table, ("image_id", "age_approximate", "sex")) if metadata_table else []
    metadata = official.only_rows(metadata_rows, column="image_id")

    def record(row: official.Row, image: File) -> Record:
        image_id = row["image_id"]
        if metadata_table and image_id not in metadata:
            raise ValueError(f"not in one row of {metadata_table.name}")
        diagnosis = _diagnosis(row)
        return Record(
            image_id=image_id,
            image=image,
            mask=masks.get(image_id),
            diagnosis=diagnosis,
            malignant=int(diagnosis == "melanoma"),
            age=official.age(metadata[image_id]["age_approximate"]) if metadata_table else float("nan"),
            sex=official.sex(metadata[image_id]["sex"]) if metadata_table else "",
            partition=_PARTS[part],
            source="isic2017",
        )

    return official.records(truth, images, record, column="image_id")


def _diagnosis(row: official.Row) -> str:
    melanoma, keratosis = (taxonomy.flag(row[column], column=column) for column in ("melanoma", "seborrheic_keratosis"))
    if melanoma and keratosis:
        raise ValueError("melanoma and seborrheic_keratosis are both 1; at most one may be")
    rest = "benign, not seborrheic keratosis"
    return "melanoma" if melanoma else "seborrheic keratosis" if keratosis else rest
