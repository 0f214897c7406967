"""ISIC 2020 training part (Rotemberg et al. 2021): 33,126 dermoscopic images of 2,056 patients, 584 melanomas.

Official names: `train/<id>.jpg` (in the zip `ISIC_2020_Training_JPEG`), `ISIC_2020_Training_GroundTruth_v2.csv` (or the
first version without `_v2`, which has no lesion ids), and `ISIC_2020_Training_Duplicates.csv`. In Kaggle's copy it is
`jpeg/train/`, beside a `train/` of DICOM files, and `train.csv`. The labels of the test part were never published.
"""

import functools
import logging
import re

from segfusion_jax import config
from segfusion_jax.datasets import taxonomy
from segfusion_jax.datasets.collections import official
from segfusion_jax.datasets.files import File, Folder
from segfusion_jax.datasets.record import Problem, Record

_log = logging.getLogger(__name__)

TITLE = "ISIC 2020"
ADDRESS = "https://challenge2020.isic-archive.com (doi 10.34970/2020-ds01)"
LICENCE = "CC BY-NC 4.0"

TABLES = re.compile(r"ISIC_2020_Training_(GroundTruth(_v2)?|Duplicates)\.csv|train\.csv", re.IGNORECASE)

_TABLES = ("ISIC_2020_Training_GroundTruth_v2.csv", "ISIC_2020_Training_GroundTruth.csv", "train.csv")
_COLUMNS = ("image_name", "patient_id", "sex", "age_approx", "anatom_site_general_challenge", "diagnosis", "target")


def read(root: Folder, data: config.Data) -> tuple[list[Record], list[Problem]]:
    """Lists the collection in `root` without opening an image; no field of `data` counts.

    Malignant means melanoma here, and `malignant` is 0 for all else, as published; the diagnosis of what is only called
    benign is "no melanoma".

    Raises:
      FileNotFoundError: no image folder or no ground truth.
      ValueError: the table is not ISIC 2020's.
    """
    del data
    folders, table = _folders(root), official.table(root, *_TABLES)
    missing = functools.partial(official.missing, root=root, title=TITLE, address=ADDRESS, collection="isic2020")
    if not folders:
        raise missing("folder train")
    if table is None:
        raise missing("table ISIC_2020_Training_GroundTruth(_v2).csv")
    rows = official.rows(table, _COLUMNS, optional=("lesion_id",))
    return official.records(rows, official.images(folders), _record, column="image_name")


def duplicate_pairs(root: Folder) -> list[tuple[str, str]]:
    """Returns the published pairs of ids that show the same picture; none, with a warning, where the list is absent."""
    table = official.table(root, "ISIC_2020_Training_Duplicates.csv")
    if table is None:
        _log.warning("%s: no ISIC_2020_Training_Duplicates.csv in %s; published at %s", TITLE, root, ADDRESS)
        return []
    rows = official.rows(table, ("image_name_1", "image_name_2"))
    return [(row["image_name_1"], row["image_name_2"]) for row in rows]


def _folders(root: Folder) -> list[Folder]:
    kaggle = [folder for jpeg in official.folders(root, "jpeg") for folder in official.folders(jpeg, "train")]
    return kaggle or official.folders(root, "train") or official.folders(root, "ISIC_2020_Training_JPEG")


def _record(row: official.Row, image: File) -> Record:
    name, target = row["diagnosis"], row["target"]
    if target not in ("0", "1") or (name == "melanoma") != (target == "1"):
        raise ValueError(f"target = {target!r}, diagnosis = {name!r}: target must be 1 for melanoma, otherwise 0")
    return Record(
        image_id=row["image_name"],
        image=image,
        lesion_id=official.known(row.get("lesion_id", "")),
        patient_id=official.known(row["patient_id"]),
        diagnosis=taxonomy.named(name, taxonomy.ISIC2020, column="diagnosis"),
        malignant=int(target),
        age=official.age(row["age_approx"]),
        sex=official.sex(row["sex"]),
        site=official.known(row["anatom_site_general_challenge"]),
        source="isic2020",
    )
