"""ISIC 2020's folders and tables."""

import shutil

import pytest

from segfusion_jax import config
from segfusion_jax.datasets import isic2020
from tests.datasets import official

DATA = config.Data(collection="isic2020")


@pytest.mark.parametrize("version", ["", "_v2"])
def test_reads_both_versions_of_the_table(tmp_path, version):
    ids = official.write_isic2020(tmp_path, version=version)
    records, problems = isic2020.read(tmp_path, DATA)
    assert problems == []
    assert [record.image_id for record in records] == ids
    assert [record.malignant for record in records] == [record.malignant for record in official.drawn(24)]
    assert all(record.patient_id.startswith("IP_") for record in records)
    assert all(record.lesion_id.startswith("IL_") if version else not record.lesion_id for record in records)
    assert isic2020.duplicate_pairs(tmp_path) == [(ids[-2], ids[-1])]


def test_missing_folder_says_where_to_get_it(tmp_path):
    official.write_isic2020(tmp_path)
    (tmp_path / "train").rename(tmp_path / "old")
    with pytest.raises(FileNotFoundError, match="train.*10.34970/2020-ds01.*--config.data.root="):
        isic2020.read(tmp_path, DATA)


def test_a_target_that_contradicts_the_diagnosis(tmp_path):
    official.write_isic2020(tmp_path)
    table = tmp_path / "ISIC_2020_Training_GroundTruth_v2.csv"
    table.write_text(table.read_text().replace("unknown,benign,0", "unknown,benign,1", 1))
    with pytest.raises(ValueError, match="ISIC_00.*target = '1'"):
        isic2020.read(tmp_path, DATA)


def test_real_counts(tmp_path):
    root = official.real("isic2020")
    for table in root.glob("*.csv"):
        shutil.copy(table, tmp_path)
    (tmp_path / "train").mkdir()
    with (root / "ISIC_2020_Training_GroundTruth_v2.csv").open() as file:
        for line in list(file)[1:]:
            (tmp_path / f"train/{line.split(',')[0]}.jpg").touch()
    records, problems = isic2020.read(tmp_path, DATA)
    assert problems == []
    assert len(records) == 33_126
    assert sum(record.malignant for record in records) == 584
    assert len({record.patient_id for record in records}) == 2_056
    assert sum(record.sex == "" for record in records) == 65
    assert len(isic2020.duplicate_pairs(tmp_path)) == 425


def test_real_folder_with_part_of_the_images():
    records, problems = isic2020.read(official.real("isic2020"), DATA)
    assert len(records) == 800 and sum(record.malignant for record in records) == 38
    assert {problem.kind for problem in problems} == {"metadata row without an image"}
    assert len(problems) == 33_126 - 800
