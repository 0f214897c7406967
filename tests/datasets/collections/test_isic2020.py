"""ISIC 2020's folders and tables."""

import collections
import pathlib
import shutil

import pytest

from segfusion_jax import config
from segfusion_jax.datasets.collections import isic2020
from segfusion_jax.datasets.files import Folder
from tests.datasets import official

DATA = config.Data(collection="isic2020")


def read(root: pathlib.Path):
    return isic2020.read(Folder(root), DATA)


@pytest.mark.parametrize("version", ["", "_v2"])
def test_reads_both_versions_of_the_table(tmp_path, version):
    ids = official.write_isic2020(tmp_path, version=version)
    records, problems = read(tmp_path)
    assert problems == []
    assert [record.image_id for record in records] == ids
    assert [record.malignant for record in records] == [record.malignant for record in official.drawn(24)]
    assert [record.image.read() for record in records] == [record.image.read() for record in official.drawn(24)]
    assert all(record.patient_id.startswith("IP_") for record in records)
    assert all(record.lesion_id.startswith("IL_") if version else not record.lesion_id for record in records)
    assert isic2020.duplicate_pairs(Folder(tmp_path)) == [(ids[-2], ids[-1])]


def test_without_a_list_of_duplicates_there_are_none(tmp_path):
    official.write_isic2020(tmp_path)
    (tmp_path / "ISIC_2020_Training_Duplicates.csv").unlink()
    assert isic2020.duplicate_pairs(Folder(tmp_path)) == []


def test_the_second_version_counts_where_both_are_there(tmp_path):
    official.write_isic2020(tmp_path, version="")
    official.write_isic2020(tmp_path, version="_v2")
    assert all(record.lesion_id for record in read(tmp_path)[0])


@pytest.mark.parametrize("layout", ["the official zip", "its files only", "Kaggle"])
def test_places_of_the_images(tmp_path, layout):
    ids = official.write_isic2020(tmp_path)
    outer = tmp_path / ("jpeg" if layout == "Kaggle" else "ISIC_2020_Training_JPEG")
    outer.mkdir()
    if layout == "its files only":
        (tmp_path / "train").rename(tmp_path / "aside")
        outer.rmdir()
        (tmp_path / "aside").rename(outer)
    else:
        (tmp_path / "train").rename(outer / "train")
    if layout == "Kaggle":
        (tmp_path / "train").mkdir()
        (tmp_path / f"train/{ids[0]}.dcm").touch()
    if layout == "the official zip":
        official.pack(outer)
    records, problems = read(tmp_path)
    assert [record.image_id for record in records] == ids and problems == []


def test_missing_folder_says_where_to_get_it(tmp_path):
    official.write_isic2020(tmp_path)
    (tmp_path / "train").rename(tmp_path / "old")
    with pytest.raises(FileNotFoundError, match="train.*10.34970/2020-ds01.*--config.data.root="):
        read(tmp_path)


@pytest.mark.parametrize(
    ("new", "said"),
    [
        ("unknown,benign,1", "target = '1', diagnosis = 'unknown'"),
        ("melanoma,benign,0", "target = '0', diagnosis = 'melanoma'"),
        ("unknown,benign,", "target = ''"),
        ("naevus,benign,0", "diagnosis = 'naevus'"),
    ],
)
def test_a_target_that_contradicts_the_diagnosis_is_a_problem(tmp_path, new, said):
    official.write_isic2020(tmp_path)
    table = tmp_path / "ISIC_2020_Training_GroundTruth_v2.csv"
    table.write_text(table.read_text().replace("unknown,benign,0", new, 1))
    records, [problem] = read(tmp_path)
    assert said in problem.what and len(records) == 23


@pytest.mark.parametrize("version", ["", "_v2"])
def test_real_counts(tmp_path, version):
    root = official.real("isic2020")
    for name in (f"ISIC_2020_Training_GroundTruth{version}.csv", "ISIC_2020_Training_Duplicates.csv"):
        shutil.copy(root / name, tmp_path)
    official.copy_rows(tmp_path / f"ISIC_2020_Training_GroundTruth{version}.csv", tmp_path / "train")
    records, problems = read(tmp_path)
    assert problems == []
    assert len(records) == 33_126
    assert sum(record.malignant for record in records) == 584
    patients = collections.Counter(record.patient_id for record in records)
    assert len(patients) == 2_056 and (min(patients.values()), max(patients.values())) == (2, 115)
    assert sum(record.sex == "" for record in records) == 65
    assert sum(record.site == "" for record in records) == 527
    assert sum(not record.age >= 0 for record in records) == 68 + 2  # the latter are zeros
    assert all(bool(record.lesion_id) == bool(version) for record in records)
    pairs = isic2020.duplicate_pairs(Folder(tmp_path))
    assert len(pairs) == 425
    known = {record.image_id: record for record in records}
    assert all(known[one].patient_id == known[other].patient_id for one, other in pairs)
    assert not version or sum(known[one].lesion_id != known[other].lesion_id for one, other in pairs) == 8


def test_real_folder_with_part_of_the_images():
    records, problems = read(official.real("isic2020"))
    assert len(records) == 1_484 and sum(record.malignant for record in records) == 39
    assert len({record.patient_id for record in records}) == 130
    assert len(problems) == 33_126 - 1_484
    assert {problem.kind for problem in problems} == {"metadata row without an image"}
