"""ISIC 2017's folders and tables."""

import collections
import math
import pathlib

import pytest

from segfusion_jax import config
from segfusion_jax.datasets.collections import isic2017
from segfusion_jax.datasets.files import Folder
from tests.datasets import official

DATA = config.Data(collection="isic2017")


def read(root: pathlib.Path):
    return isic2017.read(Folder(root), DATA)


@pytest.mark.parametrize("packed", [False, True])
def test_reads_all_parts(tmp_path, packed):
    ids = official.write_isic2017(tmp_path)
    if packed:
        for folder in list(tmp_path.iterdir()):
            if folder.is_dir():
                official.pack(folder, below=folder.name)
    records, problems = read(tmp_path)
    assert problems == []
    by_partition = collections.defaultdict(list)
    for record in records:
        by_partition[record.partition].append(record)
    for part, partition in (("Training", "train"), ("Validation", "validation"), ("Test_v2", "test")):
        assert [record.image_id for record in by_partition[partition]] == ids[part]
        for i, (record, drawn) in enumerate(zip(by_partition[partition], official.drawn(12), strict=False)):
            assert record.image.read() == drawn.image.read()
            assert record.mask.read() == drawn.mask.read()
            expected = (("melanoma", 1), ("seborrheic keratosis", 0), ("benign, not seborrheic keratosis", 0))[i % 3]
            assert (record.diagnosis, record.malignant) == expected
            assert math.isnan(record.age) if i == 1 else record.age == drawn.age
            assert record.sex == drawn.sex


def test_parts_that_are_there(tmp_path):
    ids = official.write_isic2017(tmp_path)
    for part in ("Training", "Test_v2"):
        (tmp_path / f"ISIC-2017_{part}_Data").rename(tmp_path / f"old_{part}")
    records, problems = read(tmp_path)
    assert [record.image_id for record in records] == ids["Validation"] and problems == []


def test_without_masks_and_metadata(tmp_path):
    official.write_isic2017(tmp_path)
    (tmp_path / "ISIC-2017_Training_Part1_GroundTruth").rename(tmp_path / "old")
    (tmp_path / "ISIC-2017_Training_Data/ISIC-2017_Training_Data_metadata.csv").unlink()
    records, problems = read(tmp_path)
    assert problems == [] and len(records) == 24
    assert all((record.mask is None) == (record.partition == "train") for record in records)
    assert all(math.isnan(record.age) and not record.sex for record in records if record.partition == "train")


def test_two_diagnoses_are_a_problem(tmp_path):
    ids = official.write_isic2017(tmp_path)
    table = tmp_path / "ISIC-2017_Training_Part3_GroundTruth.csv"
    table.write_text(table.read_text().replace("1.0,0.0", "1.0,1.0", 1))
    records, [problem] = read(tmp_path)
    assert problem.image_id == ids["Training"][0] and "both 1" in problem.what
    assert len(records) == 23


def test_an_image_without_metadata_is_a_problem(tmp_path):
    ids = official.write_isic2017(tmp_path)
    table = tmp_path / "ISIC-2017_Validation_Data/ISIC-2017_Validation_Data_metadata.csv"
    table.write_text("".join(line for line in table.read_text().splitlines(True) if ids["Validation"][2] not in line))
    _, [problem] = read(tmp_path)
    assert problem.image_id == ids["Validation"][2]
    assert "not in one row of ISIC-2017_Validation_Data_metadata.csv" in problem.what


def test_missing_parts_say_where_to_get_them(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"ISIC-2017_Training_Data.*challenge.isic-archive.com"):
        read(tmp_path)
    official.write_isic2017(tmp_path)
    (tmp_path / "ISIC-2017_Test_v2_Part3_GroundTruth.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"ISIC-2017_Test_v2_Part3_GroundTruth.csv.*--config.data.root="):
        read(tmp_path)


def test_real_counts():
    records, problems = read(official.real("isic2017"))
    assert problems == []
    assert collections.Counter(record.partition for record in records) == {"train": 2000, "validation": 150}
    train = collections.Counter(record.diagnosis for record in records if record.partition == "train")
    assert train == {"melanoma": 374, "seborrheic keratosis": 254, "benign, not seborrheic keratosis": 1372}
    assert sum(record.malignant for record in records if record.partition == "train") == 374
    assert all(record.mask is not None for record in records)
