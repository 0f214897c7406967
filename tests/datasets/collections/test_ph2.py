"""PH2's folders and table."""

import pathlib

import pytest

from segfusion_jax import config
from segfusion_jax.datasets.collections import ph2
from segfusion_jax.datasets.files import Folder
from tests.datasets import official
from tests.datasets.collections.test_synthetic import pixels

DATA = config.Data(collection="ph2")


def read(root: pathlib.Path):
    return ph2.read(Folder(root), DATA)


@pytest.mark.parametrize("packed", [False, True])
def test_reads_images_masks_and_diagnoses(tmp_path, packed):
    root = tmp_path / "download"
    ids = official.write_ph2(root / "PH2Dataset")
    records, problems = read(official.pack(root) if packed else root)
    assert problems == []
    assert [record.image_id for record in records] == ids
    assert [record.diagnosis for record in records] == ["nevus", "nevus", "melanoma"] * 3
    assert [record.malignant for record in records] == [0, 0, 1] * 3
    assert [record.confirmation for record in records] == ["clinical", "clinical", "histology", *["clinical"] * 6]
    for record, drawn in zip(records, official.drawn(9), strict=True):
        assert (pixels(record.image) == pixels(drawn.image)).all()
        assert (pixels(record.mask) == pixels(drawn.mask)).all()


def test_rows_that_cannot_be_used_are_problems(tmp_path):
    ids = official.write_ph2(tmp_path)
    table = tmp_path / "PH2_dataset.txt"
    table.write_text(table.read_text().replace("||  1    ||", "||  3    ||", 1))
    (tmp_path / f"PH2 Dataset images/{ids[0]}/{ids[0]}_Dermoscopic_Image/{ids[0]}.bmp").unlink()
    records, problems = read(tmp_path)
    assert [(problem.image_id, problem.kind) for problem in problems] == [
        (ids[0], "metadata row without an image"),
        (ids[1], "unusable metadata row"),
    ]
    assert "Clinical Diagnosis = '3'" in problems[1].what and len(records) == 7


@pytest.mark.parametrize(
    "text", ["", "nothing", "|| Name || Clinical Diagnosis ||\n|| IMD003 || 0 ||", "Name,Histological Diagnosis\n1,2"]
)
def test_another_table_is_refused(tmp_path, text):
    official.write_ph2(tmp_path)
    (tmp_path / "PH2_dataset.txt").write_text(text)
    with pytest.raises(ValueError, match="PH2_dataset.txt: the first columns are .*must be .*Clinical Diagnosis"):
        read(tmp_path)


def test_a_short_row_is_refused(tmp_path):
    official.write_ph2(tmp_path)
    table = tmp_path / "PH2_dataset.txt"
    table.write_text(f"{table.read_text()}\n|| IMD999 ||  ||")
    with pytest.raises(ValueError, match=r"PH2_dataset.txt: a row of less than 3 values: .*IMD999"):
        read(tmp_path)


@pytest.mark.parametrize("gone", ["PH2 Dataset images", "PH2_dataset.txt"])
def test_what_is_missing_is_named(tmp_path, gone):
    official.write_ph2(tmp_path)
    (tmp_path / gone).rename(tmp_path / "old")
    with pytest.raises(FileNotFoundError, match=f"{gone}.*www.fc.up.pt/addi/ph2%20database.html"):
        read(tmp_path)
