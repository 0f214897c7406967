"""The published splits: as they lie in the package, as the command makes them, and as a run follows them."""

import csv
import gzip
import io
import logging

import pytest

from segfusion_jax import config
from segfusion_jax.commands.main import main
from segfusion_jax.datasets import earlier_split, prepared, splits
from segfusion_jax.datasets.published_splits import content, making, tables, writing
from segfusion_jax.datasets.published_splits.content import Content
from tests.datasets import official
from tests.datasets.rows import row

SIZES = {"ham10000-v1": 10_015, "isic2019-v1": 25_331, "isic2020-v1": 33_126}


@pytest.fixture(scope="module")
def published() -> dict[str, dict[str, dict[str, str]]]:
    """The rows of the tables by name and image id."""
    found = {}
    for name in tables.NAMES:
        lines = csv.DictReader(io.StringIO(gzip.decompress((tables.FOLDER / f"{name}.csv.gz").read_bytes()).decode()))
        found[name] = {line["image_id"]: line for line in lines}
    return found


def options(name: str, **fields) -> config.Splits:
    return config.Splits(table=f"published:{name}", **fields)


def test_no_group_is_parted_in_any_table_or_between_them(published):
    places: dict[str, set[tuple[str, str]]] = {}
    for lines in published.values():
        for line in lines.values():
            if line["split"] != "unused":
                places.setdefault(line["group"], set()).add((line["split"], line["fold"]))
    assert all(len(place) == 1 for place in places.values())
    assert {place for some in places.values() for place in some} == {("test", "-1")} | {
        (split, str(fold)) for split in ("train", "validation") for fold in range(5)
    }


def test_every_image_stands_in_its_table_once_and_an_image_of_two_in_one_place(published):
    assert {name: len(lines) for name, lines in published.items()} == SIZES
    for one, line in published["ham10000-v1"].items():
        other = published["isic2019-v1"][one]
        assert [line[name] for name in ("group", "split", "fold")] == [
            other[name] for name in ("group", "split", "fold")
        ]
    assert all(tuple(next(iter(lines.values()))) == writing.COLUMNS for lines in published.values())


def test_what_is_known_by_content_joins(published):
    known = content.read()
    group = {one: line["group"] for lines in published.values() for one, line in lines.items()}
    pairs = [pair for rule in content.RULES for pair in content.pairs(known, rule)] + making.same_lesion()
    assert len(making.same_lesion()) == 18 and len(pairs) > 800
    assert all(group[one] == group[other] for one, other in pairs)
    assert {one for lines in published.values() for one, line in lines.items() if line["compared"] == "1"} == set(known)


def test_content_is_told_among_the_ids_of_the_tables():
    rows = [
        row(0, image_id="ISIC_1", lookalike="AAA", cut="ISIC_1", picture="ISIC_1"),
        row(1, image_id="AAA", lookalike="AAA", cut="ISIC_1"),
        row(2, image_id="ISIC_2_downsampled", lookalike="AAA", cut="ISIC_2"),
        row(3, image_id="ISIC_3", cut="ISIC_2", picture="ISIC_3"),
    ]
    found = content.of_prepared(rows, ["ISIC_1", "ISIC_2", "ISIC_3_downsampled", "ISIC_4"])
    assert found == {
        "ISIC_1": Content(lookalike="ISIC_1"),
        "ISIC_2": Content(lookalike="ISIC_1", cut="ISIC_2"),
        "ISIC_3_downsampled": Content(cut="ISIC_2"),
    }


def test_known_content_is_read_as_written(tmp_path):
    known = {"a": Content("a", "", "b"), "b": Content()}
    (tmp_path / "content.csv.gz").write_bytes(content.written(known))
    assert content.read(tmp_path / "content.csv.gz") == known


def test_images_of_one_lesion_patient_picture_or_look_are_one_group():
    def case(lesion: str, patient: str = "", malignant: int = 0) -> making.Case:
        return making.Case("melanoma" if malignant else "nevus", malignant, lesion, patient, "x")

    cases = {f"I{number}": case(f"L{number}") for number in range(9)}
    cases |= {"I1": case("L0"), "I2": case("", "P"), "I3": case("", "P"), "I8": case("")}
    told = making.Official(
        cases,
        {"ham10000": list(cases)},
        [("I3", "I4")],
    )
    rows = {one.image_id: one for one in making.make(told, {"I5": Content(lookalike="I4"), "I7": Content(cut="I6")})}
    assert {one: each.group for one, each in rows.items()} == {
        **{"I0": "I0", "I1": "I0", "I2": "I2", "I3": "I2", "I4": "I2", "I5": "I2", "I6": "I6", "I7": "I6", "I8": "I8"}
    }
    assert sorted(rows[one].split == "unused" for one in ("I3", "I4")) == [False, True]


def test_the_command_makes_the_published_bytes(tmp_path):
    for name in making.COLLECTIONS:
        official.real(name)
    assert main(["splits", "--output", str(tmp_path)]) == 0
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (tables.FOLDER / path.name).read_bytes(), path.name
    assert len(list(tmp_path.iterdir())) == 5


def test_a_run_follows_a_table_to_the_last_image(tmp_path, monkeypatch, published):
    monkeypatch.setenv("SEGFUSION_DATA", str(tmp_path))
    official.write_ham10000(tmp_path / "ham10000", 24)
    lesion = {one: line["group"] for one, line in published["ham10000-v1"].items()}
    path = tmp_path / "ham10000/HAM10000_metadata"  # lesions as drawn would join images that the table parts
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    path.write_text("\n".join("\t".join([lesion.get(line[1], line[0]), *line[1:]]) for line in lines))
    data = config.Data(collection="ham10000", records=str(tmp_path / "records"))
    prepared.prepare(data, options("ham10000-v1"), tmp_path / "records", tmp_path / "splits", for_training=False)
    rows = prepared.read_rows(tmp_path / "splits")
    assert len(rows) == 24
    for one in rows:
        line = published["ham10000-v1"][one.image_id]
        assert (one.split, str(one.fold)) == (line["split"], line["fold"])


def test_ids_are_the_same_with_and_without_downsampled(published):
    table = published["isic2019-v1"]
    ids = [one for one in table if one.endswith("_downsampled")][:200]
    rows = [row(number, image_id=one.removesuffix("_downsampled")) for number, one in enumerate(ids)]
    dealt = splits.deal(rows, options("isic2019-v1"))
    assert [(one.split, str(one.fold)) for one in dealt] == [(table[one]["split"], table[one]["fold"]) for one in ids]


def test_tables_are_joined(published):
    named = {name: next(iter(published[name].values())) for name in ("isic2019-v1", "isic2020-v1")}
    rows = [row(number, image_id=line["image_id"]) for number, line in enumerate(named.values())]
    dealt = splits.deal(rows, options("isic2019-v1+isic2020-v1"))
    assert [one.split for one in dealt] == [line["split"] for line in named.values()]


def test_relatives_that_a_table_parts_take_no_part_but_those_of_the_strictest_split(published, caplog):
    table = published["isic2019-v1"].values()
    first = {split: next(line for line in table if line["split"] == split) for split in ("train", "validation", "test")}
    rows = [row(number, image_id=line["image_id"], group="G") for number, line in enumerate(first.values())]
    with caplog.at_level(logging.WARNING):
        dealt = splits.deal(rows, options("isic2019-v1"))
    assert [one.split for one in dealt] == ["unused", "unused", "test"]
    assert "2 images take no part" in caplog.text and rows[0].image_id in caplog.text
    folds = [next(line for line in table if line["split"] == "train" and line["fold"] == fold) for fold in "31"]
    rows = [row(number, image_id=line["image_id"], group="G") for number, line in enumerate(folds)]
    assert [(one.split, one.fold) for one in splits.deal(rows, options("isic2019-v1"))] == [("train", 1)] * 2


def test_a_table_that_is_not_published_or_of_more_folds_is_refused():
    with pytest.raises(FileNotFoundError, match=r"published:isic2018-v1.*published are ham10000-v1, isic2019-v1"):
        splits.deal([row(0)], options("isic2018-v1"))
    with pytest.raises(ValueError, match=r"--config.splits.num_folds=\d, or more"):
        splits.deal([row(0, image_id="ISIC_0024306")], options("ham10000-v1", num_folds=3))


@pytest.mark.parametrize("damage", ["cut", "changed", "bomb"])
def test_a_packed_table_that_is_damaged_or_unpacks_to_too_much_is_refused(tmp_path, monkeypatch, damage):
    monkeypatch.setattr(earlier_split, "_UNPACKED", 1000)
    content = gzip.compress(b"image_id,split\n" + b"I0000,train\n" * (200 if damage == "bomb" else 20))
    content = {"cut": content[:-12], "changed": content[:12] + b"\xff\xff" + content[14:], "bomb": content}[damage]
    (tmp_path / "t.csv.gz").write_bytes(content)
    options = config.Splits(table=str(tmp_path / "t.csv.gz"))
    with pytest.raises(ValueError, match="unpacks to more than 1000" if damage == "bomb" else "no whole gzip file"):
        earlier_split.read([row(0)], options)
