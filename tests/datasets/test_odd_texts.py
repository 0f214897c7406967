"""Odd values, names and ids of tables and files: kept as they are, or a problem that is named."""

import os
import pathlib

import pytest

from segfusion_jax import config
from segfusion_jax.datasets import joining, prepared
from segfusion_jax.datasets.record import Problem
from tests.datasets import official


def prepare(data, folder):
    """Prepares into `folder`, and opens what is prepared."""
    prepared.prepare(data, config.Splits(), folder / "records", folder / "splits")
    return prepared.load(folder / "records", folder / "splits")


def test_values_of_several_lines(tmp_path):
    root = tmp_path / "mine"
    (root / "images").mkdir(parents=True)
    lines = ["image,label,site"]
    for record in official.drawn(60):
        (root / f"images/{record.image_id}.jpg").write_bytes(record.image.read())
        lines.append(f'{record.image_id},{record.malignant},"left\r upper\narm"')
    (root / "labels.csv").write_bytes("\n".join(lines).encode())
    rows = prepare(config.Data(collection="image_folder", root=str(root)), tmp_path).rows
    assert {row.site for row in rows} == {"left\r upper\narm"}


def test_a_name_that_is_not_utf8_is_a_problem(tmp_path):
    ids = official.write_ham10000(tmp_path / "official", 60)
    folder = tmp_path / "mine/nevus"
    folder.mkdir(parents=True)
    path = tmp_path / f"official/HAM10000_images_part_1/{ids[0]}.jpg"
    for name in (b"l\xe9sion.jpg", "läsion.jpg".encode()):
        pathlib.Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(path.read_bytes())
    data = config.Data(collection="image_folder", root=str(folder.parent))
    contents = joining.collect(data)
    assert [record.image_id for record in contents.records] == ["läsion"]
    with pytest.raises(ValueError, match="1 x name that is not UTF-8"):
        prepare(data, tmp_path)
    assert "l\\udce9sion" in (tmp_path / "splits/problems.csv").read_text(encoding="utf-8")


def test_an_id_in_two_parts_is_a_problem(tmp_path):
    ids = official.write_isic2017(tmp_path / "official")
    part, twice = tmp_path / "official/ISIC-2017_Validation_Data", ids["Validation"][0]
    for path in (part.with_name("ISIC-2017_Validation_Part3_GroundTruth.csv"), *part.glob("*.csv")):
        path.write_text(path.read_text().replace(twice, ids["Training"][0]))
    (part / f"{twice}.jpg").rename(part / f"{ids['Training'][0]}.jpg")
    contents = joining.collect(config.Data(collection="isic2017", root=str(tmp_path / "official")))
    assert ids["Training"][0] not in {record.image_id for record in contents.records}
    assert Problem(ids["Training"][0], "id seen twice: in 2 parts of the collection") in contents.problems
