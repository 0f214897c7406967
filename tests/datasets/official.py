"""Small folders named and laid out like the official downloads, filled with drawn lesions."""

import csv
import functools
import io
import pathlib
import shutil
import zipfile
from collections.abc import Iterable, Sequence

import h5py
import numpy as np
import pytest
from PIL import Image

from segfusion_jax import config
from segfusion_jax.datasets.collections import synthetic
from segfusion_jax.datasets.files import File, Folder
from segfusion_jax.datasets.record import Record
from segfusion_jax.runtime import locations


def real(name: str) -> pathlib.Path:
    """The real collection in SEGFUSION_DATA; skips the test without it."""
    found = locations.find_data(name)
    if found is None:
        pytest.skip(f"needs {name}/ in a folder of SEGFUSION_DATA")
    return found


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
        write_table(folder / "HAM10000_metadata.csv", rows)
    else:
        write_table(folder / "HAM10000_metadata", rows, delimiter="\t", line_end="\r\n")
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
    write_table(folder / "ISIC_2019_Training_GroundTruth.csv", truth)
    write_table(folder / "ISIC_2019_Training_Metadata.csv", metadata)
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
    write_table(folder / f"ISIC_2020_Training_GroundTruth{version}.csv", rows)
    duplicates = [("image_name_1", "image_name_2"), (ids[-2], ids[-1])]
    write_table(folder / "ISIC_2020_Training_Duplicates.csv", duplicates, line_end="\r\n")
    return ids


def write_isic2017(folder: pathlib.Path, n: int = 12) -> dict[str, list[str]]:
    """ISIC 2017: `n` training images, half as many in the other parts; superpixels beside the images.

    The i-th image is a melanoma, a seborrheic keratosis or neither, in turn. Returns the ids by part.
    """
    ids = {
        part: [f"ISIC_{start + i:07d}" for i in range(count)]
        for part, start, count in (("Training", 0, n), ("Validation", 1769, n // 2), ("Test_v2", 12086, n // 2))
    }
    for part, part_ids in ids.items():
        truth: list[tuple[str, ...]] = [("image_id", "melanoma", "seborrheic_keratosis")]
        metadata: list[tuple[str, ...]] = [("image_id", "age_approximate", "sex")]
        for i, (image_id, record) in enumerate(zip(part_ids, drawn(n), strict=False)):
            _write(folder / f"ISIC-2017_{part}_Data/{image_id}.jpg", record.image)
            _write(folder / f"ISIC-2017_{part}_Data/{image_id}_superpixels.png", record.mask)
            _write(folder / f"ISIC-2017_{part}_Part1_GroundTruth/{image_id}_segmentation.png", record.mask)
            truth.append((image_id, *(("1.0", "0.0"), ("0.0", "1.0"), ("0.0", "0.0"))[i % 3]))
            metadata.append((image_id, "unknown" if i == 1 else f"{record.age:g}", record.sex))
        write_table(folder / f"ISIC-2017_{part}_Part3_GroundTruth.csv", truth)
        write_table(folder / f"ISIC-2017_{part}_Data/ISIC-2017_{part}_Data_metadata.csv", metadata)
    return ids


def write_isic2018_task1(folder: pathlib.Path, ids: dict[str, Sequence[str]]) -> None:
    """Images and masks of ISIC 2018's Task 1: of each part those with the given ids."""
    for part, part_ids in ids.items():
        for image_id, record in zip(part_ids, drawn(len(part_ids)), strict=True):
            _write(folder / f"ISIC2018_Task1-2_{part}_Input/{image_id}.jpg", record.image)
            _write(folder / f"ISIC2018_Task1_{part}_GroundTruth/{image_id}_segmentation.png", record.mask)
        _write_text(folder / f"ISIC2018_Task1-2_{part}_Input/ATTRIBUTION.txt", "as published")


def write_isic2018_task3(folder: pathlib.Path, ids: dict[str, Sequence[str]]) -> None:
    """Images and diagnoses of ISIC 2018's Task 3: codes in turn, two images a lesion in the training part."""
    codes = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
    for part, part_ids in ids.items():
        rows: list[tuple[str, ...]] = [("image", *codes)]
        for i, (image_id, record) in enumerate(zip(part_ids, drawn(len(part_ids)), strict=True)):
            _write(folder / f"ISIC2018_Task3_{part}_Input/{image_id}.jpg", record.image)
            rows.append((image_id, *("1.0" if code == codes[i % 7] else "0.0" for code in codes)))
        name = f"ISIC2018_Task3_{part}_GroundTruth"
        write_table(folder / name / f"{name}.csv", rows)
        if part == "Training":
            groups = [(image_id, f"HAM_{i // 2:07d}", "histopathology") for i, image_id in enumerate(part_ids)]
            header = ("image", "lesion_id", "diagnosis_confirm_type")
            write_table(folder / "ISIC2018_Task3_Training_LesionGroupings.csv", [header, *groups])


def write_isic2024(folder: pathlib.Path, n: int = 12, *, packed: bool = True) -> list[str]:
    """ISIC 2024 as on Kaggle, with an HDF5 file or a folder of images; with columns that nobody reads."""
    ids = [f"ISIC_{15670 + 13 * i:07d}" for i in range(n)]
    header = ("isic_id", "target", "patient_id", "age_approx", "sex", "anatom_site_general", "clin_size_long_diam_mm")
    rows: list[tuple[str, ...]] = [(*header, "tbp_lv_A", "lesion_id", "iddx_full", "iddx_1", "iddx_3")]
    folder.mkdir(parents=True, exist_ok=True)
    for i, (image_id, record) in enumerate(zip(ids, drawn(n), strict=True)):
        if not packed:
            _write(folder / f"train-image/image/{image_id}.jpg", record.image)
        diagnosis = "Melanoma Invasive" if record.malignant else "Nevus" if i % 2 else ""
        tumour = "Malignant" if record.malignant else "Benign"
        patient = (f"IP_{i // 3:07d}", "NA" if i == 2 else f"{record.age}", record.sex, "posterior torso", "3.04")
        lesion = f"IL_{i:07d}" if diagnosis else ""
        full = f'"{tumour}::{diagnosis}, as published"'
        rows.append((image_id, str(record.malignant), *patient, "20.2", lesion, full, tumour, diagnosis))
    if packed:
        with h5py.File(folder / "train-image.hdf5", "w") as file:
            for image_id, record in zip(ids, drawn(n), strict=True):
                file.create_dataset(image_id, data=np.bytes_(record.image.read()))
    write_table(folder / "train-metadata.csv", rows)
    return ids


def write_ph2(folder: pathlib.Path, n: int = 9) -> list[str]:
    """PH2: common nevus, atypical nevus and melanoma in turn."""
    ids = [f"IMD{3 + 2 * i:03d}" for i in range(n)]
    lines = ["||   Name || Histological Diagnosis || Clinical Diagnosis || Asymmetry | Streaks ||   Colors ||"]
    for i, (image_id, record) in enumerate(zip(ids, drawn(n), strict=True)):
        case = folder / "PH2 Dataset images" / image_id
        _write_bitmap(case / f"{image_id}_Dermoscopic_Image/{image_id}.bmp", record.image)
        _write_bitmap(case / f"{image_id}_lesion/{image_id}_lesion.bmp", record.mask)
        _write_bitmap(case / f"{image_id}_roi/{image_id}_R1_Label3.bmp", record.mask)
        histology = "Melanoma" if i == 2 else ""
        lines.append(f"|| {image_id} || {histology:22} ||  {i % 3}    ||    0 |   A  ||  3  4     ||")
    _write_text(folder / "PH2_dataset.txt", "\r\n".join([*lines, "", "Legends:", "  Asymmetry: 0 - symmetric", ""]))
    return ids


def write_image_folder(folder: pathlib.Path, n: int = 12) -> list[str]:
    """One's own images with `labels.csv` of id, label and group; masks of the first half."""
    ids = [f"photo{i:03d}" for i in range(n)]
    rows = [("image", "label", "group")]
    for i, (image_id, record) in enumerate(zip(ids, drawn(n), strict=True)):
        _write(folder / f"images/{image_id}.jpg", record.image)
        if i < n // 2:
            _write(folder / f"masks/{image_id}.png", record.mask)
        rows.append((image_id, "malignant" if record.malignant else "benign", record.lesion_id))
    write_table(folder / "labels.csv", rows)
    return ids


def pack(folder: pathlib.Path, *, below: str = "") -> pathlib.Path:
    """Moves a folder's content into a zip archive of its name beside it, there into a folder `below`."""
    archive = folder.with_name(f"{folder.name}.zip")
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, pathlib.PurePosixPath(below, path.relative_to(folder).as_posix()).as_posix())
    shutil.rmtree(folder)
    return archive


def copy_rows(table: pathlib.Path, target: pathlib.Path) -> None:
    """Makes `target` a folder of empty images, one for each row of a published table, whose first column is the id."""
    target.mkdir(parents=True)
    with table.open(newline="") as file:
        for row in list(csv.reader(file))[1:]:
            (target / f"{row[0]}.jpg").touch()


@functools.cache
def _drawn() -> tuple[Record, ...]:
    return tuple(synthetic.read(Folder(pathlib.Path()), config.Data(synthetic_images=80))[0])


def _write(path: pathlib.Path, file: File | None) -> None:
    assert file is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file.read())


def _write_bitmap(path: pathlib.Path, file: File | None) -> None:
    assert file is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(io.BytesIO(file.read())) as image:
        image.save(path)


def _write_text(path: pathlib.Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


def write_table(
    path: pathlib.Path, rows: Iterable[Sequence[str]], *, delimiter: str = ",", line_end: str = "\n"
) -> None:
    _write_text(path, "".join(delimiter.join(row) + line_end for row in rows))
