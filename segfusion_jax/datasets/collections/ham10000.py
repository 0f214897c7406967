"""HAM10000 (Tschandl et al. 2018): 10,015 dermoscopic images of 7,470 lesions, with masks.

Official names: `HAM10000_images_part_1` and `_part_2` (folders or zips; Kaggle's copy also has them in lower case),
`HAM10000_metadata` (`.csv`, `.tab` or no suffix), and, for masks,
`HAM10000_segmentations_lesion_tschandl/<id>_segmentation.png`. Where `newly_discovered_duplicates.csv` is beside them
(Abhishek et al. 2025: 18 pairs of images of one lesion under two lesion ids), its pairs are not parted.
"""

import functools
import re

from segfusion_jax import config
from segfusion_jax.datasets import taxonomy
from segfusion_jax.datasets.collections import isic2019, official
from segfusion_jax.datasets.files import File, Folder
from segfusion_jax.datasets.record import Problem, Record

TITLE = "HAM10000"
ADDRESS = "https://doi.org/10.7910/DVN/DBW86T"
LICENCE = "CC BY-NC 4.0"

TABLES = re.compile(r"HAM10000_metadata(\.csv|\.tab)?|newly_discovered_duplicates\.csv", re.IGNORECASE)

_COLUMNS = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")


def read(root: Folder, data: config.Data) -> tuple[list[Record], list[Problem]]:
    """Lists the collection in `root` without opening an image; field `akiec` of `data` counts.

    With `akiec` = "by_isic2019", the images of that code take the diagnosis that ISIC 2019 gives them, so that its
    ground truth must be found as collection "isic2019" is.

    Raises:
      FileNotFoundError: no image folder, no metadata table, or no ISIC 2019 ground truth where it is asked for.
      ValueError: the table is not HAM10000's.
    """
    folders = official.folders(root, "HAM10000_images_part_1", "HAM10000_images_part_2")
    table = official.table(root, "HAM10000_metadata.csv", "HAM10000_metadata.tab", "HAM10000_metadata")
    missing = functools.partial(official.missing, root=root, title=TITLE, address=ADDRESS, collection="ham10000")
    if not folders:
        raise missing("folder HAM10000_images_part_1")
    if table is None:
        raise missing("table HAM10000_metadata(.csv, .tab)")
    rows = official.rows(table, _COLUMNS, optional=("dataset",))
    masks = official.masks(official.folders(root, "HAM10000_segmentations_lesion_tschandl"))
    relabelled = isic2019.diagnoses() if data.akiec == "by_isic2019" else {}

    def record(row: official.Row, image: File) -> Record:
        return _record(row, image, masks.get(row["image_id"]), relabelled)

    return official.records(rows, official.images(folders), record, column="image_id")


def lesion_pairs(root: Folder) -> list[tuple[str, str]]:
    """Returns the published pairs of image ids of one lesion under two lesion ids; none where the list is absent."""
    table = official.table(root, "newly_discovered_duplicates.csv")
    rows = official.rows(table, ("from_img", "to_img")) if table else []
    return [(row["from_img"].removesuffix(".jpg"), row["to_img"].removesuffix(".jpg")) for row in rows]


def _record(row: official.Row, image: File, mask: File | None, relabelled: dict[str, str]) -> Record:
    diagnosis = taxonomy.named(row["dx"], taxonomy.HAM10000, column="dx")
    malignant = taxonomy.DIAGNOSES[diagnosis]
    if row["dx"] == "akiec":
        diagnosis = relabelled.get(row["image_id"], diagnosis)
    return Record(
        image_id=row["image_id"],
        image=image,
        mask=mask,
        lesion_id=official.known(row["lesion_id"]),
        diagnosis=diagnosis,
        malignant=malignant,
        age=official.age(row["age"]),
        sex=official.sex(row["sex"]),
        site=official.known(row["localization"]),
        confirmation=official.known(row["dx_type"]),
        origin=official.known(row.get("dataset", "")),
        source="ham10000",
    )
