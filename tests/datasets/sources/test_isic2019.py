"""ISIC 2019's folders and tables."""

import collections
import shutil

import pytest

from segfusion_jax import config
from segfusion_jax.datasets import isic2019
from tests.datasets import official

DATA = config.Data(collection="isic2019")


def test_reads_rows_of_both_tables(tmp_path):
    ids = official.write_isic2019(tmp_path)
    records, problems = isic2019.read(tmp_path, DATA)
    assert problems == []
    assert [record.image_id for record in records] == ids
    assert [record.malignant for record in records] == [record.malignant for record in official.drawn(24)]
    assert records[3].lesion_id == "" and records[0].lesion_id == "HAM_0000000"
    assert records[0].site == "anterior torso" and records[0].mask is None


def test_a_row_that_only_one_table_has(tmp_path):
    ids = official.write_isic2019(tmp_path)
    table = tmp_path / "ISIC_2019_Training_Metadata.csv"
    table.write_text("".join(line for line in table.read_text().splitlines(True) if ids[4] not in line))
    records, problems = isic2019.read(tmp_path, DATA)
    assert [(problem.image_id, problem.kind) for problem in problems] == [(ids[4], "image without a metadata row")]
    assert ids[4] not in {record.image_id for record in records}


@pytest.mark.parametrize("gone", ["ISIC_2019_Training_Input", "ISIC_2019_Training_GroundTruth.csv"])
def test_missing_parts_say_where_to_get_them(tmp_path, gone):
    official.write_isic2019(tmp_path)
    (tmp_path / gone).rename(tmp_path / "old")
    with pytest.raises(FileNotFoundError, match=f"{gone}.*challenge.isic-archive.com.*--config.data.root="):
        isic2019.read(tmp_path, DATA)


def test_two_diagnoses_of_one_image_are_refused(tmp_path):
    official.write_isic2019(tmp_path)
    table = tmp_path / "ISIC_2019_Training_GroundTruth.csv"
    table.write_text(table.read_text().replace("0.0,1.0,0.0", "1.0,1.0,0.0", 1))
    with pytest.raises(ValueError, match=r"ISIC_00.*\['MEL', 'NV'\]"):
        isic2019.read(tmp_path, DATA)


def test_real_counts(tmp_path):
    root = official.real("isic2019")
    for table in root.glob("*.csv"):
        shutil.copy(table, tmp_path)
    (tmp_path / "ISIC_2019_Training_Input").mkdir()
    with (root / "ISIC_2019_Training_GroundTruth.csv").open() as file:
        for line in list(file)[1:]:
            (tmp_path / f"ISIC_2019_Training_Input/{line.split(',')[0]}.jpg").touch()
    records, problems = isic2019.read(tmp_path, DATA)
    assert problems == []
    assert len(records) == 25_331
    assert collections.Counter(record.malignant for record in records) == {1: 9_340, 0: 15_991}
    assert collections.Counter(record.diagnosis for record in records)["melanoma"] == 4_522
    assert sum(record.lesion_id == "" for record in records) == 2_084
    assert sum(record.image_id.endswith("_downsampled") for record in records) == 2_074
    assert len({record.lesion_id or record.image_id for record in records}) == 13_931
