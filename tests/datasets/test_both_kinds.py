"""Parts of few images: both kinds are in each where there are groups for all, and nothing else moves."""

import collections
import dataclasses

import numpy as np
import pytest

from segfusion_jax import config
from segfusion_jax.config import Config
from segfusion_jax.datasets import both_kinds, prepared
from segfusion_jax.datasets.splits import deal
from segfusion_jax.datasets.table import Row
from segfusion_jax.pipeline.split import Split

SOURCES = {"mine": config.Source(reader="image_folder")}


def rows(kinds: str, group=lambda i: i, **facts) -> list[Row]:
    """An image for each digit, its target."""
    made = []
    for i, kind in enumerate(kinds):
        names = dict.fromkeys(("picture", "lookalike", "cut"), f"im{i}")
        known = dict.fromkeys(("lesion_id", "patient_id", "sex", "site", "skin_tone", "confirmation", "origin"), "")
        size: dict = dict(width=1, height=1, file_bytes=1, sha256=str(i), perceptual_hash="", age=0.0, has_mask=True)
        told = dict(diagnosis="", partition="", source="mine", malignant=int(kind), target=int(kind))
        options = {**names, **known, **size, **told, **facts}
        made.append(Row(position=i, image_id=f"im{i}", group=f"g{group(i)}", **options))
    return made


def parts(dealt) -> dict[str, collections.Counter]:
    return {
        part: collections.Counter(row.target for row in dealt if row.split == part)
        for part in ("train", "validation", "test")
    }


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kinds", ["1" * 3 + "0" * 37, "0" * 3 + "1" * 37, "1" * 3 + "0" * 9])
def test_each_part_has_both_kinds(kinds, seed):
    splits = config.Splits(seed=seed)
    before = deal(rows(kinds), splits, SOURCES)
    after = both_kinds.completed(before, (0, 1), splits, SOURCES)
    assert all(set(found) == {0, 1} for found in parts(after).values())
    rare = min("01", key=kinds.count)
    moved = [one for one, was in zip(after, before, strict=True) if one != was]
    assert moved and all(one.target == int(rare) for one in moved)
    assert all((one.fold == -1) == (one.split == "test") for one in after)


def test_what_has_both_kinds_everywhere_is_left_as_it_is():
    splits = config.Splits()
    dealt = deal(rows("01" * 60), splits, SOURCES)
    assert both_kinds.completed(dealt, (0, 1), splits, SOURCES) == dealt


def test_groups_move_whole_and_keep_the_kinds_of_where_they_were():
    splits = config.Splits(seed=1)
    kinds = "1" * 8 + "0" * 32  # four groups of two malignant images
    dealt = [
        dataclasses.replace(row, split="train" if row.target else row.split, fold=max(row.fold, 0))
        for row in deal(rows(kinds, group=lambda i: i // 2), splits, SOURCES)
    ]
    after = both_kinds.completed(dealt, (0, 1), splits, SOURCES)
    assert all(set(found) == {0, 1} for found in parts(after).values())
    assert all(len({row.split for row in after if row.group == one.group}) == 1 for one in after)


def test_two_groups_of_a_kind_are_too_few_for_three_parts():
    splits = config.Splits()
    dealt = deal(rows("11" + "0" * 38), splits, SOURCES)
    lacking = [
        part for part, found in parts(both_kinds.completed(dealt, (0, 1), splits, SOURCES)).items() if not found[1]
    ]
    assert len(lacking) == 1


def test_masks_of_a_part_are_in_more_than_one_fold():
    splits = config.Splits()
    dealt = deal(rows("01" * 30), splits, SOURCES)
    dealt = [dataclasses.replace(row, fold=4) if row.split == "validation" else row for row in dealt]
    after = both_kinds.completed(dealt, (0, 1), splits, SOURCES)
    folds = collections.Counter(row.fold for row in after if row.split == "validation")
    assert set(folds) == {0, 4} and folds[0] == 1
    assert [row for row in after if row.split != "validation"] == [row for row in dealt if row.split != "validation"]
    bare = [dataclasses.replace(row, has_mask=False) for row in dealt]
    assert both_kinds.completed(bare, (0, 1), splits, SOURCES) == bare


def test_forty_drawn_images_can_be_divided(tmp_path):
    data = config.Data(synthetic_images=40)
    for seed in range(3):
        splits = config.Splits(seed=seed)
        prepared.prepare(data, splits, tmp_path / "records", tmp_path / str(seed))
        dealt = prepared.read_rows(tmp_path / str(seed))
        whole = Config(data=data, splits=splits)
        split = Split(whole, dealt)
        split.check_classes(np.array([0, 1]), ("benign", "malignant"))
        split.check_masks()


def test_classes_stay_in_train():
    splits = config.Splits()
    dealt = deal(rows("2" + "1" * 3 + "0" * 36), splits, SOURCES)
    dealt = [dataclasses.replace(row, split="train") if row.target else row for row in dealt]
    after = both_kinds.completed(dealt, (0, 1, 1), splits, SOURCES)
    assert {row.target for row in after if row.split == "train"} == {0, 1, 2}
    assert all(found[1] for found in parts(after).values())


@pytest.mark.parametrize("facts", [{"partition": "test"}, {}])
def test_what_others_placed_stays(facts):
    splits = config.Splits(official_test=True) if facts else config.Splits(table="given.csv")
    dealt = [
        dataclasses.replace(row, split="train" if row.target else "test", fold=-1, **(facts if row.target else {}))
        for row in rows("1" * 4 + "0" * 36)
    ]
    assert both_kinds.completed(dealt, (0, 1), splits, SOURCES)[:4] == dealt[:4]


def test_every_own_class_is_in_every_part():
    dealt = deal(rows("0" * 12 + "1" * 12 + "222"), config.Splits(), SOURCES)
    completed = both_kinds.completed(dealt, (0, 1, 2), config.Splits(), SOURCES)
    assert {(one.split, one.target) for one in completed if one.target == 2} == {
        ("train", 2),
        ("validation", 2),
        ("test", 2),
    }
