"""ISIC 2019: 25,331 dermoscopic images of eight diagnoses from HAM10000, BCN20000 and MSK; 8,238 test images.

Official names: `ISIC_2019_Training_Input/<id>.jpg` (2,074 ids end in `_downsampled`),
`ISIC_2019_Training_GroundTruth.csv`, `ISIC_2019_Training_Metadata.csv`; the same with `Test`, where the ground truth
was published later and has images that are none of the eight (`UNK`).
"""

import functools
import re

from segfusion_jax import config
from segfusion_jax.datasets import taxonomy
from segfusion_jax.datasets.collections import official
from segfusion_jax.datasets.files import File, Folder
from segfusion_jax.datasets.record import Problem, Record
from segfusion_jax.runtime import locations

TITLE = "ISIC 2019"
ADDRESS = "https://challenge.isic-archive.com/data/#2019"
LICENCE = "CC BY-NC 4.0"

TABLES = re.compile(r"ISIC_2019_(Training|Test)_(GroundTruth|Metadata)\.csv", re.IGNORECASE)

_TRUTH = "ISIC_2019_Training_GroundTruth.csv"
_METADATA = "ISIC_2019_Training_Metadata.csv"
_METADATA_COLUMNS = ("image", "age_approx", "anatom_site_general", "sex")


def read(root: Folder, data: config.Data) -> tuple[list[Record], list[Problem]]:
    """Lists the collection in `root` without opening an image; no field of `data` counts.

    The test part is read where its images and ground truth are there.

    Raises:
      FileNotFoundError: no image folder, ground truth or metadata table of the training part.
      ValueError: a table is not ISIC 2019's.
    """
    del data
    records, problems = _part(root, "Training", "train")
    if official.folders(root, "ISIC_2019_Test_Input") and official.table(root, "ISIC_2019_Test_GroundTruth.csv"):
        test_records, test_problems = _part(root, "Test", "test")
        return records + test_records, problems + test_problems
    return records, problems


def diagnoses() -> dict[str, str]:
    """Returns the diagnosis of each training image, from the ground truth alone.

    Raises:
      FileNotFoundError: it is not found where the collection "isic2019" is looked for.
    """
    root = locations.find_data("isic2019")
    table = official.table(Folder(root), _TRUTH) if root else None
    if table is None:
        where = Folder(root) if root else None
        raise official.missing(f"table {_TRUTH}", root=where, title=TITLE, address=ADDRESS, collection="isic2019")
    rows = official.rows(table, ("image", *taxonomy.ISIC2019))
    return {row["image"]: taxonomy.ISIC2019[taxonomy.marked(row, taxonomy.ISIC2019)] for row in rows}


def exact(root: Folder) -> dict[str, tuple[str, int, str]]:
    """Returns diagnosis, malignancy and lesion of each training image, by id without `_downsampled`, from the tables.

    Raises:
      ValueError: a table is not ISIC 2019's.
    """
    truth_table, metadata_table = official.table(root, _TRUTH), official.table(root, _METADATA)
    truth = official.rows(truth_table, ("image", *taxonomy.ISIC2019)) if truth_table else []
    metadata = official.rows(metadata_table, ("image",), optional=("lesion_id",)) if metadata_table else []
    lesions = {row["image"]: official.known(row.get("lesion_id", "")) for row in metadata}
    labels = {}
    for row in truth:
        diagnosis = taxonomy.ISIC2019[taxonomy.marked(row, taxonomy.ISIC2019)]
        malignant = taxonomy.DIAGNOSES.get(diagnosis, -1)
        labels[row["image"].removesuffix("_downsampled")] = diagnosis, malignant, lesions.get(row["image"], "")
    return labels


def _part(root: Folder, part: str, partition: str) -> tuple[list[Record], list[Problem]]:
    names = [f"ISIC_2019_{part}_{what}" for what in ("Input", "GroundTruth.csv", "Metadata.csv")]
    folders, truth_table, metadata_table = (
        official.folders(root, names[0]),
        *(official.table(root, n) for n in names[1:]),
    )
    missing = functools.partial(official.missing, root=root, title=TITLE, address=ADDRESS, collection="isic2019")
    if not folders:
        raise missing(f"folder {names[0]}")
    if truth_table is None or metadata_table is None:
        raise missing(f"table {names[2] if truth_table else names[1]}")
    truth = official.rows(truth_table, ("image", *taxonomy.ISIC2019))
    metadata_rows = official.rows(metadata_table, _METADATA_COLUMNS, optional=("lesion_id",))
    metadata = official.only_rows(metadata_rows, column="image")

    def record(row: official.Row, image: File) -> Record:
        if row["image"] not in metadata:
            raise ValueError(f"not in one row of {metadata_table.name}")
        return _record(row, metadata[row["image"]], image, partition)

    return official.records(truth, official.images(folders), record, column="image")


def _record(truth: official.Row, metadata: official.Row, image: File, partition: str) -> Record:
    diagnosis = taxonomy.ISIC2019[taxonomy.marked(truth, taxonomy.ISIC2019)]
    lesion_id = official.known(metadata.get("lesion_id", ""))
    return Record(
        image_id=truth["image"],
        image=image,
        lesion_id=lesion_id,
        diagnosis=diagnosis,
        malignant=taxonomy.DIAGNOSES.get(diagnosis, -1),
        age=official.age(metadata["age_approx"]),
        sex=official.sex(metadata["sex"]),
        site=official.known(metadata["anatom_site_general"]),
        origin=lesion_id.partition("_")[0],
        partition=partition,
        source="isic2019",
    )
