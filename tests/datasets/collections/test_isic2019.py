"""ISIC 2019's folders and tables."""

import collections
import pathlib
import shutil

import pytest

from segfusion_jax import config
from segfusion_jax.datasets.collections import isic2019
from segfusion_jax.datasets.files import Folder
from tests.datasets import official

DATA = config.Data(collection="isic2019")


def read(root: pathlib.Path):
    return isic2019.read(Folder(root), DATA)


@pytest.mark.parametrize("packed", [False, True])
def test_reads_rows_of_both_tables(tmp_path, packed):
    ids = official.write_isic2019(tmp_path)
    if packed:
        official.pack(tmp_path / "ISIC_2019_Training_Input", below="ISIC_2019_Training_Input")
    records, problems = read(tmp_path)
    assert problems == []
    assert [record.image_id for record in records] == ids
    assert sum(image_id.endswith("_downsampled") for image_id in ids) == 8
    assert [record.malignant for record in records] == [record.malignant for record in official.drawn(24)]
    assert [record.image.read() for record in records] == [record.image.read() for record in official.drawn(24)]
    assert records[3].lesion_id == "" and records[0].lesion_id == "HAM_0000000"
    assert records[3].origin == "" and records[0].origin == "HAM"
    assert records[0].site == "anterior torso" and records[0].mask is None
    assert {record.partition for record in records} == {"train"}


def test_the_test_part_with_its_unknown_images(tmp_path):
    official.write_isic2019(tmp_path)
    codes = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")
    rows = [("ISIC_0100000", "NV"), ("ISIC_0100001", "UNK"), ("ISIC_0100002", "SCC")]
    official.write_table(
        tmp_path / "ISIC_2019_Test_GroundTruth.csv",
        [
            ("image", *codes, "score_weight", "validation_weight"),
            *((image_id, *("1.0" if c == code else "0.0" for c in codes), "1.0", "0.0") for image_id, code in rows),
        ],
    )
    metadata = [(image_id, "", "", "") for image_id, _ in rows]
    columns = ("image", "age_approx", "anatom_site_general", "sex")
    official.write_table(tmp_path / "ISIC_2019_Test_Metadata.csv", [columns, *metadata])
    assert {record.partition for record in read(tmp_path)[0]} == {"train"}
    (tmp_path / "ISIC_2019_Test_Input").mkdir()
    for image_id, _ in rows:
        (tmp_path / f"ISIC_2019_Test_Input/{image_id}.jpg").touch()
    records, problems = read(tmp_path)
    assert problems == []
    assert [(r.image_id, r.diagnosis, r.malignant) for r in records if r.partition == "test"] == [
        ("ISIC_0100000", "nevus", 0),
        ("ISIC_0100001", "", -1),
        ("ISIC_0100002", "squamous cell carcinoma", 1),
    ]


@pytest.mark.parametrize("copies", [0, 2])
def test_a_row_that_only_one_table_has_once(tmp_path, copies):
    ids = official.write_isic2019(tmp_path)
    table = tmp_path / "ISIC_2019_Training_Metadata.csv"
    table.write_text("".join(line * (copies if ids[4] in line else 1) for line in table.read_text().splitlines(True)))
    records, [problem] = read(tmp_path)
    assert problem.image_id == ids[4] and "not in one row of ISIC_2019_Training_Metadata.csv" in problem.what
    assert ids[4] not in {record.image_id for record in records} and len(records) == 23


@pytest.mark.parametrize(
    "gone", ["ISIC_2019_Training_Input", "ISIC_2019_Training_GroundTruth.csv", "ISIC_2019_Training_Metadata.csv"]
)
def test_missing_parts_say_where_to_get_them(tmp_path, gone):
    official.write_isic2019(tmp_path)
    (tmp_path / gone).rename(tmp_path / "old")
    with pytest.raises(FileNotFoundError, match=f"{gone}.*challenge.isic-archive.com.*--config.data.root="):
        read(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("0.0,1.0,0.0", "1.0,1.0,0.0", "['MEL', 'NV']"),
        ("0.0,1.0,0.0", "0.0,0.0,0.0", "[]; must be exactly one"),
        ("0.0,1.0,0.0", "0.5,1.0,0.0", "MEL = '0.5'"),
        ("0.0,1.0,0.0", "nan,1.0,0.0", "MEL = 'nan'"),
    ],
)
def test_not_exactly_one_diagnosis_is_a_problem(tmp_path, old, new, said):
    official.write_isic2019(tmp_path)
    table = tmp_path / "ISIC_2019_Training_GroundTruth.csv"
    text = table.read_text()
    row = next(line for line in text.splitlines() if old in line)
    table.write_text(text.replace(row, row.replace(old, new, 1)))
    records, [problem] = read(tmp_path)
    assert problem.image_id == row.split(",")[0] and said in problem.what
    assert len(records) == 23


def copy_tables(folder):
    """The real tables, without the images that lie beside them."""
    shutil.copytree(official.real("isic2019"), folder, ignore=shutil.ignore_patterns("*_Input"), dirs_exist_ok=True)


def test_real_tables_without_images_are_problems(tmp_path):
    copy_tables(tmp_path)
    (tmp_path / "ISIC_2019_Training_Input").mkdir()
    records, problems = read(tmp_path)
    assert records == [] and len(problems) == 25_331
    assert {problem.what for problem in problems} == {"metadata row without an image"}


def test_real_counts(tmp_path):
    copy_tables(tmp_path)
    official.copy_rows(tmp_path / "ISIC_2019_Training_GroundTruth.csv", tmp_path / "ISIC_2019_Training_Input")
    records, problems = read(tmp_path)
    assert problems == []
    assert len(records) == 25_331
    assert collections.Counter(record.malignant for record in records) == {1: 9_340, 0: 15_991}
    assert collections.Counter(record.diagnosis for record in records) == {
        "melanoma": 4522,
        "nevus": 12875,
        "basal cell carcinoma": 3323,
        "actinic keratosis": 867,
        "benign keratosis": 2624,
        "dermatofibroma": 239,
        "vascular lesion": 253,
        "squamous cell carcinoma": 628,
    }
    origins = collections.Counter(record.origin for record in records)
    assert origins == {"HAM": 10_015, "BCN": 12_413, "MSK4": 819, "": 2_084}
    assert sum(record.image_id.endswith("_downsampled") for record in records) == 2_074
    assert len({record.lesion_id or record.image_id for record in records}) == 13_931
    assert sum(record.sex == "" for record in records) == 384
    assert sum(record.site == "" for record in records) == 2_631
