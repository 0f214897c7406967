"""Small folders named and laid out like the official downloads, filled with drawn lesions."""

import functools
import os
import pathlib
from collections.abc import Sequence

import pytest

from segfusion_jax import config
from segfusion_jax.datasets.files import Folder
from segfusion_jax.datasets.record import Record
from segfusion_jax.datasets.sources import synthetic


def real(name: str) -> pathlib.Path:
    """The real collection in SEGFUSION_DATA; skips the test without it."""
    folders = [folder for folder in os.environ.get("SEGFUSION_DATA", "").split(os.pathsep) if folder]
    found = [pathlib.Path(folder, name) for folder in folders if pathlib.Path(folder, name).is_dir()]
    if not found:
        pytest.skip(f"needs {name}/ in a folder of SEGFUSION_DATA")
    return found[0]


def drawn(n: int) -> list[Record]:
    """The first `n` images, at most 80, of the synthetic collection."""
    return list(_drawn()[:n])


def write_ham10000(folder: pathlib.Path, n: int = 24, *, kaggle: bool = False) -> list[str]:
    """HAM10000 as Dataverse publishes it, or as in Kaggle's copy (both cases, no masks). Returns the image ids."""
    parts = ["HAM10000_images_part_1", "HAM10000_images_part_2"]
    records, ids = drawn(n), [f"ISIC_{24306 + i:07d}" for i in range(n)]
    rows = [("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")]
    for i, (image_id, record) in enumerate(zip(ids, records, strict=True)):
        part = parts[i >= n // 2]
        for name in (part, part.lower()) if kaggle else (part,):
            _write(folder / name / f"{image_id}.jpg", record.image)
        if not kaggle:
            _write(folder / f"HAM10000_segmentations_lesion_tschandl/{image_id}_segmentation.png", record.mask)
        code, age = "mel" if record.malignant else "nv", "0.0" if i == 1 else "" if i == 2 else f"{record.age}"
        sex = "unknown" if i == 3 else record.sex
        rows.append((f"HAM_{record.lesion_id[-7:]}", image_id, code, "histo", age, sex, record.site))
    if kaggle:
        _write_table(folder / "HAM10000_metadata.csv", rows)
    else:
        _write_table(folder / "HAM10000_metadata", rows, delimiter="\t", line_end="\r\n")
    return ids


def write_isic2019(folder: pathlib.Path, n: int = 24) -> list[str]:
    """ISIC 2019's training part: every third id ends in `_downsampled`, every fourth row has no lesion id."""
    records = drawn(n)
    ids = [f"ISIC_{24306 + i:07d}" + "_downsampled" * (i % 3 == 2) for i in range(n)]
    columns = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")
    truth: list[tuple[str, ...]] = [("image", *columns)]
    metadata: list[tuple[str, ...]] = [("image", "age_approx", "anatom_site_general", "lesion_id", "sex")]
    for i, (image_id, record) in enumerate(zip(ids, records, strict=True)):
        _write(folder / f"ISIC_2019_Training_Input/{image_id}.jpg", record.image)
        chosen = "MEL" if record.malignant else "NV"
        truth.append((image_id, *("1.0" if column == chosen else "0.0" for column in columns)))
        lesion = "" if i % 4 == 3 else f"HAM_{record.lesion_id[-7:]}"
        metadata.append((image_id, f"{record.age:g}", "anterior torso", lesion, record.sex))
    _write_table(folder / "ISIC_2019_Training_GroundTruth.csv", truth)
    _write_table(folder / "ISIC_2019_Training_Metadata.csv", metadata)
    return ids


def write_isic2020(folder: pathlib.Path, n: int = 24, *, version: str = "_v2") -> list[str]:
    """ISIC 2020's training part: two lesions a patient; the last two images are published as duplicates."""
    records, ids = drawn(n), [f"ISIC_{15719 + 7 * i:07d}" for i in range(n)]
    lesion_column = ("lesion_id",) if version else ()
    rows: list[tuple[str, ...]] = [
        ("image_name", "patient_id", *lesion_column, "sex", "age_approx", "anatom_site_general_challenge", "diagnosis")
        + ("benign_malignant", "target")
    ]
    for image_id, record in zip(ids, records, strict=True):
        _write(folder / f"train/{image_id}.jpg", record.image)
        number, malignant = int(record.lesion_id[-7:]), record.malignant
        lesion = (f"IL_{number:07d}",) if version else ()
        diagnosis = ("melanoma", "malignant", "1") if malignant else ("unknown", "benign", "0")
        rows.append((image_id, f"IP_{number // 2:07d}", *lesion, record.sex, f"{record.age:g}", "torso", *diagnosis))
    _write_table(folder / f"ISIC_2020_Training_GroundTruth{version}.csv", rows)
    duplicates = [("image_name_1", "image_name_2"), (ids[-2], ids[-1])]
    _write_table(folder / "ISIC_2020_Training_Duplicates.csv", duplicates, line_end="\r\n")
    return ids


@functools.cache
def _drawn() -> tuple[Record, ...]:
    return tuple(synthetic.read(Folder(pathlib.Path()), config.Data(synthetic_images=80))[0])


def _write(path: pathlib.Path, content) -> None:
    content = content.read()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _write_table(
    path: pathlib.Path, rows: Sequence[Sequence[str]], *, delimiter: str = ",", line_end: str = "\n"
) -> None:
    path.write_bytes("".join(delimiter.join(row) + line_end for row in rows).encode())
