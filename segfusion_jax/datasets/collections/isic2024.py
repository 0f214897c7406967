"""ISIC 2024, SLICE-3D (Kurtansky et al. 2024): 401,059 tiles from total body photographs of 1,042 patients.

Names as Kaggle publishes them: `train-metadata.csv`, and the images in `train-image.hdf5` or in
`train-image/image/<id>.jpg`; ISIC's own folder is `ISIC_2024_Training_Input/`. The labels of the test part were never
published. 393 tiles are malignant. They are no dermoscopic images: 15 x 15 mm in some 130 x 130 pixels.
"""

import functools
import logging
import re

from segfusion_jax import config
from segfusion_jax.datasets import files, taxonomy
from segfusion_jax.datasets.collections import official
from segfusion_jax.datasets.files import DiskFile, File, Folder
from segfusion_jax.datasets.record import Problem, Record

_log = logging.getLogger(__name__)

TITLE = "ISIC 2024 (SLICE-3D)"
ADDRESS = "https://www.kaggle.com/competitions/isic-2024-challenge (needs a login)"
LICENCE = "CC BY-NC 4.0"

TABLES = re.compile(r"train-metadata\.csv|train-image\.hdf5", re.IGNORECASE)

_COLUMNS = ("isic_id", "target", "patient_id", "age_approx", "sex", "anatom_site_general", "lesion_id", "iddx_3")


def read(root: Folder, data: config.Data) -> tuple[list[Record], list[Problem]]:
    """Lists the collection in `root` without opening an image; no field of `data` counts.

    An actinic keratosis, which the challenge does not count as malignant, is so here, as in every collection, unless
    `data.actinic_keratosis` says otherwise.

    Raises:
      FileNotFoundError: no images or no metadata table.
      ValueError: the table is not ISIC 2024's, or the HDF5 file cannot be read.
    """
    del data
    images, table = _images(root), official.table(root, "train-metadata.csv")
    missing = functools.partial(official.missing, root=root, title=TITLE, address=ADDRESS, collection="isic2024")
    if images is None:
        raise missing("file train-image.hdf5 and no folder train-image/image")
    if table is None:
        raise missing("table train-metadata.csv")
    return official.records(official.rows(table, _COLUMNS), images, _record, column="isic_id")


def _images(root: Folder) -> dict[str, list[File]] | None:
    """Returns the images by id; None where there are none of either form."""
    packed = official.table(root, "train-image.hdf5")
    if isinstance(packed, DiskFile):
        return {member.name: [member] for member in files.hdf5_members(packed.path)}
    if packed is not None:
        _log.warning("%s: an HDF5 file in an archive is not read; looking for train-image/image instead", packed)
    kaggle = [folder for outer in official.folders(root, "train-image") for folder in official.folders(outer, "image")]
    folders = kaggle or official.folders(root, "ISIC_2024_Training_Input")
    return official.images(folders) if folders else None


def _record(row: official.Row, image: File) -> Record:
    diagnosis = taxonomy.ISIC2024.get(row["iddx_3"], "")
    malignant = taxonomy.flag(row["target"], column="target")
    if diagnosis and diagnosis != "actinic keratosis" and taxonomy.DIAGNOSES[diagnosis] != malignant:
        raise ValueError(f"target = {row['target']!r}, iddx_3 = {row['iddx_3']!r}: they contradict each other")
    return Record(
        image_id=row["isic_id"],
        image=image,
        lesion_id=official.known(row["lesion_id"]),
        patient_id=official.known(row["patient_id"]),
        diagnosis=diagnosis,
        malignant=taxonomy.DIAGNOSES.get(diagnosis, malignant),
        age=official.age(row["age_approx"]),
        sex=official.sex(row["sex"]),
        site=official.known(row["anatom_site_general"]),
        source="isic2024",
    )
