"""HAM10000's folders and tables."""

import collections
import math
import pathlib

import pytest

from segfusion_jax import config
from segfusion_jax.datasets import ham10000
from tests.datasets import official

DATA = config.Data(collection="ham10000")


@pytest.mark.parametrize("kaggle", [False, True])
def test_reads_both_layouts(tmp_path, kaggle):
    ids = official.write_ham10000(tmp_path, 24, kaggle=kaggle)
    records, problems = ham10000.read(tmp_path, DATA)
    assert problems == []
    assert [record.image_id for record in records] == ids
    assert [record.image.stem for record in records if isinstance(record.image, pathlib.Path)] == ids
    for record, drawn in zip(records, official.drawn(24), strict=True):
        assert (record.malignant, record.diagnosis) == (drawn.malignant, drawn.diagnosis)
        assert isinstance(record.image, pathlib.Path) and record.image.read_bytes() == drawn.image
        assert (record.mask is None) == kaggle
        assert kaggle or record.mask == tmp_path / (
            f"HAM10000_segmentations_lesion_tschandl/{record.image_id}_segmentation.png"
        )


def test_zero_and_missing_ages_and_unknown_sex(tmp_path):
    official.write_ham10000(tmp_path)
    records, _ = ham10000.read(tmp_path, DATA)
    assert math.isnan(records[1].age) and math.isnan(records[2].age)
    assert records[0].age == official.drawn(1)[0].age
    assert records[3].sex == "" and records[0].sex in ("female", "male")


def test_rows_and_images_that_do_not_match(tmp_path):
    ids = official.write_ham10000(tmp_path)
    (tmp_path / f"HAM10000_images_part_1/{ids[0]}.jpg").unlink()
    (tmp_path / "HAM10000_images_part_2/ISIC_0099999.jpg").write_bytes(b"x")
    table = tmp_path / "HAM10000_metadata"
    row = next(line for line in table.read_bytes().split(b"\r\n") if ids[5].encode() in line)
    table.write_bytes(table.read_bytes() + row + b"\r\n")
    records, problems = ham10000.read(tmp_path, DATA)
    assert [(problem.image_id, problem.kind) for problem in problems] == [
        (ids[0], "metadata row without an image"),
        (ids[5], "id seen twice"),
        ("ISIC_0099999", "image without a metadata row"),
    ]
    assert {record.image_id for record in records} == set(ids) - {ids[0], ids[5]}


def test_one_id_with_two_pictures(tmp_path):
    ids = official.write_ham10000(tmp_path)
    (tmp_path / f"HAM10000_images_part_2/{ids[0]}.jpg").write_bytes(b"another")
    _, problems = ham10000.read(tmp_path, DATA)
    assert [(problem.image_id, problem.kind) for problem in problems] == [(ids[0], "id seen twice")]


@pytest.mark.parametrize("gone", ["HAM10000_images_part_1", "HAM10000_metadata"])
def test_missing_parts_say_where_to_get_them(tmp_path, gone):
    official.write_ham10000(tmp_path)
    for path in tmp_path.glob("HAM10000_images*" if "images" in gone else gone):
        path.rename(tmp_path / f"old_{path.name}")
    with pytest.raises(FileNotFoundError) as error:
        ham10000.read(tmp_path, DATA)
    for part in (gone, "10.7910/DVN/DBW86T", "--config.data.root=", "SEGFUSION_DATA", str(tmp_path)):
        assert part in str(error.value)


def test_a_broken_table_is_named(tmp_path):
    official.write_ham10000(tmp_path, kaggle=True)
    table = tmp_path / "HAM10000_metadata.csv"
    text = table.read_text()
    table.write_text(text.replace("dx,", "disease,", 1))
    with pytest.raises(ValueError, match="no column dx"):
        ham10000.read(tmp_path, DATA)
    table.write_text(text.replace(",nv,", ",naevus,", 1))
    with pytest.raises(ValueError, match="ISIC_00.*'naevus'.*akiec"):
        ham10000.read(tmp_path, DATA)
    table.write_text(text.rstrip()[: text.rstrip().rindex(",")])
    with pytest.raises(ValueError, match="HAM10000_metadata.csv, line 25"):
        ham10000.read(tmp_path, DATA)


def test_real_counts():
    root = official.real("ham10000")
    records, problems = ham10000.read(root, DATA)
    assert problems == []
    assert len(records) == 10_015
    assert len({record.lesion_id for record in records}) == 7_470
    assert sum(record.malignant for record in records) == 1_954
    assert all(record.mask is not None for record in records)
    assert sum(math.isnan(record.age) for record in records) == 57 + 39
    excluded, _ = ham10000.read(root, config.Data(collection="ham10000", akiec="exclude"))
    assert collections.Counter(record.malignant for record in excluded) == {0: 8_061, 1: 1_627, -1: 327}
