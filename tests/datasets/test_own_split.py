"""A split that the user's own images bring along: followed to the last image, or refused with a remedy."""

import dataclasses

import pytest

from segfusion_jax import config
from segfusion_jax.datasets import splits
from tests.datasets.rows import row

SPLITS = config.Splits(test_fraction=0.2, validation_fraction=0.2, num_folds=3)


def own(number: int, part: str, **facts):
    return row(number, source="image_folder", partition=part, target=number % 2, **facts)


def dealt(rows, **options) -> dict[str, tuple[str, int]]:
    found = splits.deal(rows, dataclasses.replace(SPLITS, **options))
    return {one.image_id: (one.split, one.fold) for one in found}


PARTS = ("train", "train", "train", "validation", "test", "unused")
NAMED = [own(i, PARTS[i % 6]) for i in range(90)]


@pytest.mark.parametrize("official_test", [False, True])
def test_every_image_is_where_its_table_puts_it(official_test):
    found = dealt(NAMED, official_test=official_test)
    assert {one.image_id: found[one.image_id][0] for one in NAMED} == {one.image_id: one.partition for one in NAMED}
    for one in NAMED:
        assert (found[one.image_id][1] in range(3)) == (one.partition in ("train", "validation"))


@pytest.mark.parametrize("first", [0, 1])
def test_numbers_are_folds_whether_they_begin_at_0_or_1(first):
    rows = [own(i, str(first + i % 3)) for i in range(60)] + [own(100 + i, "test") for i in range(20)]
    found = dealt(rows)
    assert [found[one.image_id][1] for one in rows[:60]] == [i % 3 for i in range(60)]
    kinds = [found[one.image_id][0] for one in rows]
    assert set(kinds[:60]) == {"train", "validation"} and set(kinds[60:]) == {"test"}


def test_what_has_no_split_is_dealt_but_to_no_part_that_is_named():
    rows = [own(i, "test" if i < 20 else "") for i in range(100)]
    found = dealt(rows)
    assert {found[one.image_id][0] for one in rows[:20]} == {"test"}
    assert {found[one.image_id][0] for one in rows[20:]} == {"train", "validation"}
    assert {place[0] for place in dealt([own(i, "") for i in range(60)]).values()} == {"train", "validation", "test"}


@pytest.mark.parametrize("named_validation", [False, True])
def test_it_is_told_when_some_of_train_choose_the_weights(named_validation, caplog):
    caplog.set_level("INFO", logger="segfusion_jax")
    rows = NAMED if named_validation else [own(i, "test" if i % 5 == 0 else "train") for i in range(100)]
    found = dealt(rows)
    taken = sum(split == "validation" for split, _ in found.values())
    told = f"names no validation: {taken} of its 80 groups to train on choose the weights"
    assert (told in caplog.text) != named_validation


def test_equal_pictures_stay_where_they_are_put():
    rows = [*NAMED, own(200, "train", picture="I0000", group="I0000", file_bytes=5)]
    assert dealt(rows)["I0000"][0] == dealt(rows)["I0200"][0] == "train"


@pytest.mark.parametrize(
    ("more", "options", "words"),
    [
        ([own(200, "test", group="I0000")], {}, "group 'I0000': I0000 in 'train', I0200 in 'test'.*'unused'"),
        ([own(200, "")], {}, "empty for 1 of 91 images, such as I0200"),
        ([own(201, "train", picture="I0000", group="I0000")], {}, "several labels: I0000, I0201.*'unused'"),
        ([own(200, "0"), own(201, "1")], {}, "folds 0, 1, and config.splits.num_folds = 3.*num_folds=2"),
        ([], {"protocol": "by_image"}, "splits.protocol = 'by_image'"),
        ([], {"pool": 10}, "splits.pool = 10"),
        ([], {"table": "some.csv"}, "some.csv"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_a_remedy(tmp_path, more, options, words):
    if "table" in options:
        (tmp_path / "some.csv").write_text("image_id,split\nI0000,test\n")
        options = {"table": str(tmp_path / "some.csv")}
    with pytest.raises(ValueError, match=words):
        dealt([*NAMED, *more], **options)


def test_those_that_take_no_part_may_be_of_any_group():
    assert dealt([*NAMED, own(200, "unused", group="I0000")])["I0000"][0] == "train"
