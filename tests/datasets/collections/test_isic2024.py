"""ISIC 2024's HDF5 file, folders and table."""

import csv
import math
import pathlib
import tracemalloc

import pytest

from segfusion_jax import config
from segfusion_jax.datasets.collections import isic2024
from segfusion_jax.datasets.collections import official as shared
from segfusion_jax.datasets.files import DiskFile, Folder, Hdf5Member
from tests.datasets import official

DATA = config.Data(collection="isic2024")


def read(root: pathlib.Path):
    return isic2024.read(Folder(root), DATA)


def edit(root: pathlib.Path, place: int, **values: str) -> str:
    """Changes a row of the table; returns its id."""
    table = root / "train-metadata.csv"
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows[place] |= values
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return rows[place]["isic_id"]


@pytest.mark.parametrize("layout", ["hdf5", "folder", "ISIC's folder", "one archive"])
def test_reads_every_layout(tmp_path, layout):
    root = tmp_path / "isic2024"
    ids = official.write_isic2024(root, packed=layout == "hdf5")
    if layout == "ISIC's folder":
        (root / "train-image/image").rename(root / "ISIC_2024_Training_Input")
    if layout == "one archive":
        (root / "train-image.hdf5").touch()
        root = official.pack(root)
    records, problems = read(root)
    assert problems == []
    assert [record.image_id for record in records] == ids
    for i, (record, drawn) in enumerate(zip(records, official.drawn(12), strict=True)):
        assert record.image.read() == drawn.image.read()
        assert isinstance(record.image, Hdf5Member) == (layout == "hdf5")
        assert record.malignant == drawn.malignant
        assert record.diagnosis == ("melanoma" if drawn.malignant else "nevus" if i % 2 else "")
        assert record.patient_id == f"IP_{i // 3:07d}" and record.mask is None
        assert record.lesion_id == (f"IL_{i:07d}" if record.diagnosis else "")
        assert math.isnan(record.age) if i == 2 else record.age == drawn.age
        assert (record.sex, record.site) == (drawn.sex, "posterior torso")


def test_hdf5_comes_before_the_folder(tmp_path):
    official.write_isic2024(tmp_path, packed=False)
    assert all(isinstance(record.image, DiskFile) for record in read(tmp_path)[0])
    official.write_isic2024(tmp_path)
    assert all(isinstance(record.image, Hdf5Member) for record in read(tmp_path)[0])


@pytest.mark.parametrize(
    ("name", "diagnosis", "target", "malignant"),
    [
        ("Squamous cell carcinoma in situ", "squamous cell carcinoma", "1", 1),
        ("Hemangioma", "vascular lesion", "0", 0),
        ("Atypical melanocytic neoplasm", "", "0", 0),
        ("Adnexal carcinoma", "", "1", 1),
        ("Solar or actinic keratosis", "actinic keratosis", "0", 1),
    ],
)
def test_diagnoses(tmp_path, name, diagnosis, target, malignant):
    official.write_isic2024(tmp_path)
    edit(tmp_path, 0, iddx_3=name, target=target)
    records, problems = read(tmp_path)
    assert problems == [] and (records[0].diagnosis, records[0].malignant) == (diagnosis, malignant)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"target": "2"}, "target = '2': must be 0 or 1"),
        ({"target": "0", "iddx_3": "Melanoma in situ"}, "contradict"),
        ({"age_approx": "-3"}, "age = '-3'"),
        ({"sex": "x"}, "sex = 'x'"),
    ],
)
def test_a_row_that_cannot_be_used_is_a_problem(tmp_path, values, said):
    official.write_isic2024(tmp_path)
    image_id = edit(tmp_path, 5, **values)
    records, [problem] = read(tmp_path)
    assert problem.image_id == image_id and said in problem.what and len(records) == 11


def test_what_is_missing_is_named(tmp_path):
    official.write_isic2024(tmp_path)
    (tmp_path / "train-metadata.csv").rename(tmp_path / "old")
    with pytest.raises(FileNotFoundError, match=r"train-metadata.csv.*www.kaggle.com/competitions/isic-2024-challenge"):
        read(tmp_path)
    (tmp_path / "train-image.hdf5").write_bytes(b"half a download")
    with pytest.raises(ValueError, match=r"train-image.hdf5: no readable HDF5"):
        read(tmp_path)
    (tmp_path / "train-image.hdf5").unlink()
    with pytest.raises(FileNotFoundError) as error:
        read(tmp_path)
    for part in ("train-image.hdf5", "train-image/image", "kaggle.com/competitions/isic-2024-challenge", str(tmp_path)):
        assert part in str(error.value)


def test_columns_that_are_not_read_take_no_memory(tmp_path):
    count, others = 4000, [f"tbp_lv_{i}" for i in range(47)]
    table = tmp_path / "train-metadata.csv"
    header = ("isic_id", "target", "patient_id", "age_approx", "sex", "anatom_site_general", "lesion_id", "iddx_3")
    lines = [
        (f"ISIC_{i:07d}", "0", f"IP_{i % 50}", "50", "male", "torso", "", "", *(f"{i}.{j}" for j in range(47)))
        for i in range(count)
    ]
    official.write_table(table, [(*header, *others), *lines])
    tracemalloc.start()
    rows = shared.rows(DiskFile(table, table.stat().st_size), header)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(rows) == count and held / count < 700  # bytes; with all columns 6,000
