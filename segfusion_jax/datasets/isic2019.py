"""ISIC 2019 training part: 25,331 dermoscopic images of eight diagnoses from HAM10000, BCN20000 and MSK.

Official names: `ISIC_2019_Training_Input/<id>.jpg` (2,074 ids end in `_downsampled`),
`ISIC_2019_Training_GroundTruth.csv` and `ISIC_2019_Training_Metadata.csv`.
"""

import pathlib

from segfusion_jax import config
from segfusion_jax.datasets import official, taxonomy
from segfusion_jax.datasets.record import Problem, Record

TITLE = "ISIC 2019"
ADDRESS = "https://challenge.isic-archive.com/data/#2019"

_METADATA_COLUMNS = ("image", "age_approx", "anatom_site_general", "lesion_id", "sex")


def read(root: pathlib.Path, data: config.Data) -> tuple[list[Record], list[Problem]]:
    """Lists the collection in `root` without opening an image; no field of `data` counts.

    Raises:
      FileNotFoundError: no image folder, ground truth or metadata table.
      ValueError: a table is not ISIC 2019's, or a row has not exactly one diagnosis.
    """
    del data
    names = ("ISIC_2019_Training_Input", "ISIC_2019_Training_GroundTruth.csv", "ISIC_2019_Training_Metadata.csv")
    found = [official.entries(root, name) for name in names]
    for name, paths in zip(names, found, strict=True):
        if not paths:
            raise official.missing(name, root=root, title=TITLE, address=ADDRESS, collection="isic2019")
    (folder, *_), (truth_table, *_), (metadata_table, *_) = found
    truth = official.rows(truth_table, ("image", *taxonomy.ISIC2019_COLUMNS))
    metadata = {row["image"]: row for row in official.rows(metadata_table, _METADATA_COLUMNS)}
    usable, problems = official.match([row["image"] for row in truth], official.files([folder], suffixes=(".jpg",)))
    records = []
    for row in truth:
        image_id = row["image"]
        if image_id in usable and image_id in metadata:
            records.append(_record(row, metadata[image_id], usable[image_id]))
        elif image_id in usable:
            problems.append(Problem(image_id, f"image without a metadata row: not in {metadata_table.name}"))
    return records, problems


def _record(truth: dict[str, str], metadata: dict[str, str], image: pathlib.Path) -> Record:
    try:
        diagnosis, malignant = taxonomy.isic2019(truth)
        age = official.age(metadata["age_approx"])
    except ValueError as error:
        raise ValueError(f"{TITLE}, {truth['image']}: {error}") from None
    return Record(
        image_id=truth["image"],
        image=image,
        lesion_id=metadata["lesion_id"],
        diagnosis=diagnosis,
        malignant=malignant,
        age=age,
        sex=official.known(metadata["sex"]),
        site=official.known(metadata["anatom_site_general"]),
        source="isic2019",
    )
