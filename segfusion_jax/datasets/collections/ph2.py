"""PH2 (Mendonca et al. 2013): 200 dermoscopic images with masks: 80 common nevi, 80 atypical nevi, 40 melanomas.

Official names, in `PH2Dataset.rar`, which has to be unpacked: `PH2_dataset.txt` and, for each image,
`PH2 Dataset images/IMD003/IMD003_Dermoscopic_Image/IMD003.bmp` and `.../IMD003_lesion/IMD003_lesion.bmp`.
"""

import functools
import re

from segfusion_jax import config
from segfusion_jax.datasets import taxonomy
from segfusion_jax.datasets.collections import official
from segfusion_jax.datasets.files import File, Folder
from segfusion_jax.datasets.record import Problem, Record

TITLE = "PH2"
ADDRESS = "https://www.fc.up.pt/addi/ph2%20database.html (needs a login)"
LICENCE = "none published; for research and education"

TABLES = re.compile(r"PH2_dataset\.txt", re.IGNORECASE)

_SUFFIXES = (".bmp", ".png", ".jpg")  # of the images; copies are often converted
_COLUMNS = ("Name", "Histological Diagnosis", "Clinical Diagnosis")


def read(root: Folder, data: config.Data) -> tuple[list[Record], list[Problem]]:
    """Lists the collection in `root` without opening an image; no field of `data` counts.

    Raises:
      FileNotFoundError: no image folder or no table.
      ValueError: the table is not PH2's.
    """
    del data
    cases = [case for folder in official.folders(root, "PH2 Dataset images") for case in folder.folders()]
    table = official.table(root, "PH2_dataset.txt")
    missing = functools.partial(official.missing, root=root, title=TITLE, address=ADDRESS, collection="ph2")
    if not cases:
        raise missing("folder 'PH2 Dataset images' with its folders")
    if table is None:
        raise missing("table PH2_dataset.txt")
    rows = _rows(table)
    inner = [folder for case in cases for folder in case.folders()]
    pictures = [folder for folder in inner if folder.name.lower().endswith("_dermoscopic_image")]
    annotations = [folder for folder in inner if folder.name.lower().endswith("_lesion")]
    masks = official.masks(annotations, suffixes=(".bmp", ".png"), ending="_lesion")

    def record(row: official.Row, image: File) -> Record:
        diagnosis = taxonomy.named(row["Clinical Diagnosis"], taxonomy.PH2, column="Clinical Diagnosis")
        return Record(
            image_id=row["Name"],
            image=image,
            mask=masks.get(row["Name"]),
            diagnosis=diagnosis,
            malignant=taxonomy.DIAGNOSES[diagnosis],
            confirmation="histology" if row["Histological Diagnosis"] else "clinical",
            source="ph2",
        )

    return official.records(rows, official.images(pictures, suffixes=_SUFFIXES), record, column="Name")


def _rows(table: File) -> list[official.Row]:
    """Returns the rows of the table that is drawn with bars, without title and legend around it."""
    text = table.read().decode("utf-8-sig", errors="replace")
    lines = [
        [value.strip() for value in line.strip().strip("|").split("||")] for line in text.splitlines() if "||" in line
    ]
    if not lines or lines[0][: len(_COLUMNS)] != list(_COLUMNS):
        raise ValueError(f"{table}: the first columns are {lines[:1]}; must be {list(_COLUMNS)}, separated by ||")
    short = next((line for line in lines if len(line) < len(_COLUMNS)), None)
    if short is not None:
        raise ValueError(f"{table}: a row of less than {len(_COLUMNS)} values: {short}")
    return [dict(zip(_COLUMNS, line)) for line in lines[1:]]  # noqa: B905
