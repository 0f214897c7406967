"""ISIC 2020 training part (Rotemberg et al. 2021): 33,126 dermoscopic images of 2,056 patients, 584 melanomas.

Official names: `train/<id>.jpg`, `ISIC_2020_Training_GroundTruth_v2.csv` (or the first version without `_v2`, which has
no lesion ids) and `ISIC_2020_Training_Duplicates.csv`.
"""

import pathlib

from absl import logging

from segfusion_jax import config
from segfusion_jax.datasets import official, taxonomy
from segfusion_jax.datasets.record import Problem, Record

TITLE = "ISIC 2020"
ADDRESS = "https://challenge2020.isic-archive.com (doi 10.34970/2020-ds01)"

_COLUMNS = ("image_name", "patient_id", "sex", "age_approx", "anatom_site_general_challenge", "diagnosis", "target")


def read(root: pathlib.Path, data: config.Data) -> tuple[list[Record], list[Problem]]:
    """Lists the collection in `root` without opening an image; no field of `data` counts.

    Raises:
      FileNotFoundError: no image folder or no ground truth.
      ValueError: the table is not ISIC 2020's, or a target is neither 0 nor 1 or contradicts the diagnosis.
    """
    del data
    folders = official.entries(root, "train")
    tables = official.entries(root, "ISIC_2020_Training_GroundTruth_v2.csv", "ISIC_2020_Training_GroundTruth.csv")
    for found, what in ((folders, "folder train"), (tables, "table ISIC_2020_Training_GroundTruth(_v2).csv")):
        if not found:
            raise official.missing(what, root=root, title=TITLE, address=ADDRESS, collection="isic2020")
    rows = official.rows(tables[0], _COLUMNS)
    images = official.files(folders, suffixes=(".jpg",))
    usable, problems = official.match([row["image_name"] for row in rows], images)
    records = [_record(row, usable[row["image_name"]]) for row in rows if row["image_name"] in usable]
    return records, problems


def duplicate_pairs(root: pathlib.Path) -> list[tuple[str, str]]:
    """The published pairs of ids that show the same picture; none, with a warning, where the list is absent."""
    tables = official.entries(root, "ISIC_2020_Training_Duplicates.csv")
    if not tables:
        logging.warning("%s: no ISIC_2020_Training_Duplicates.csv in %s; published at %s", TITLE, root, ADDRESS)
        return []
    rows = official.rows(tables[0], ("image_name_1", "image_name_2"))
    return [(row["image_name_1"], row["image_name_2"]) for row in rows]


def _record(row: dict[str, str], image: pathlib.Path) -> Record:
    try:
        diagnosis, malignant = taxonomy.isic2020(row["diagnosis"], row["target"])
        age = official.age(row["age_approx"])
    except ValueError as error:
        raise ValueError(f"{TITLE}, {row['image_name']}: {error}") from None
    return Record(
        image_id=row["image_name"],
        image=image,
        lesion_id=row.get("lesion_id", ""),
        patient_id=row["patient_id"],
        diagnosis=diagnosis,
        malignant=malignant,
        age=age,
        sex=official.known(row["sex"]),
        site=official.known(row["anatom_site_general_challenge"]),
        source="isic2020",
    )
