"""HAM10000 (Tschandl et al. 2018): 10,015 dermoscopic images of 7,470 lesions, with masks.

Official names: `HAM10000_images_part_1/` and `_part_2/` (Kaggle's copy also has them in lower case),
`HAM10000_metadata` (`.csv`, `.tab` or no suffix), and, for masks,
`HAM10000_segmentations_lesion_tschandl/<id>_segmentation.png`.
"""

import pathlib

from segfusion_jax import config
from segfusion_jax.datasets import official, taxonomy
from segfusion_jax.datasets.record import Problem, Record

TITLE = "HAM10000"
ADDRESS = "https://doi.org/10.7910/DVN/DBW86T"

_COLUMNS = ("lesion_id", "image_id", "dx", "age", "sex", "localization")


def read(root: pathlib.Path, data: config.Data) -> tuple[list[Record], list[Problem]]:
    """Lists the collection in `root` without opening an image; field `akiec` of `data` counts.

    Raises:
      FileNotFoundError: no image folder or no metadata table.
      ValueError: the table is not HAM10000's, or has an unknown diagnosis.
    """
    folders = official.entries(root, "HAM10000_images_part_1", "HAM10000_images_part_2")
    tables = official.entries(root, "HAM10000_metadata.csv", "HAM10000_metadata.tab", "HAM10000_metadata")
    for found, what in ((folders, "folder HAM10000_images_part_1"), (tables, "table HAM10000_metadata(.csv, .tab)")):
        if not found:
            raise official.missing(what, root=root, title=TITLE, address=ADDRESS, collection="ham10000")
    rows = official.rows(tables[0], _COLUMNS)
    images = official.files(folders, suffixes=(".jpg",))
    usable, problems = official.match([row["image_id"] for row in rows], images)
    masks = official.files(
        official.entries(root, "HAM10000_segmentations_lesion_tschandl"), suffixes=(".png",), ending="_segmentation"
    )
    records = []
    for row in rows:
        if row["image_id"] in usable:
            mask = masks.get(row["image_id"], [None])[0]
            records.append(_record(row, usable[row["image_id"]], mask, data.akiec))
    return records, problems


def _record(row: dict[str, str], image: pathlib.Path, mask: pathlib.Path | None, akiec: str) -> Record:
    try:
        diagnosis, malignant = taxonomy.ham10000(row["dx"], akiec)
        age = official.age(row["age"])
    except ValueError as error:
        raise ValueError(f"{TITLE}, {row['image_id']}: {error}") from None
    return Record(
        image_id=row["image_id"],
        image=image,
        mask=mask,
        lesion_id=row["lesion_id"],
        diagnosis=diagnosis,
        malignant=malignant,
        age=age,
        sex=official.known(row["sex"]),
        site=official.known(row["localization"]),
        source="ham10000",
    )
