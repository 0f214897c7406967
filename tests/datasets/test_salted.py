"""Ids that are salted in a list: found by who knows them, by nobody else."""

import dataclasses

from segfusion_jax.datasets import splits, table
from segfusion_jax.datasets.salted import matches, salted
from segfusion_jax.datasets.unseen import unseen
from tests import tiny
from tests.datasets.rows import row

SALTS = "0123456789abcdef", "fedcba9876543210"


def test_ids_are_found_under_every_salt_and_as_they_are():
    listed = [salted("a", SALTS[0]), salted("b", SALTS[1]), "c", "sha256:short:1"]
    assert matches(["a", "b", "c", "d"], listed) == {"a": listed[0], "b": listed[1], "c": "c"}
    assert salted("a", SALTS[0]) != salted("a", SALTS[1])
    assert "jane" not in salted("jane_1970", SALTS[0])


def test_a_model_of_salted_images_without_hashes_leaves_these_out_by_their_ids():
    rows = [row(number, group=f"G{number // 2}", perceptual_hash=f"{number:064x}") for number in range(6)]
    parts = [
        table.Part(salted("I0001", SALTS[0]), "train", 0, ""),
        table.Part(salted("I0004", SALTS[0]), "test", -1, ""),
    ]
    fresh, left_out = unseen(rows, parts)
    assert [one.image_id for one in fresh] == ["I0002", "I0003", "I0004", "I0005"]
    assert left_out == {"same id": 1, "relative": 1}


def test_a_salted_split_can_be_trained_on_again(tmp_path):
    rows = [row(number, target=number % 2, split=("train", "validation", "test")[number % 3]) for number in range(60)]
    rows = [dataclasses.replace(one, fold=number % 2 if one.split != "test" else -1) for number, one in enumerate(rows)]
    listed = [table.Part(salted(one.image_id, SALTS[0]), one.split, one.fold, "") for one in rows]
    table.write_parts(tmp_path / "split.csv", listed)
    bare = [dataclasses.replace(one, split="", fold=-1) for one in rows]
    wanted = dataclasses.replace(tiny.BASE.splits, table=str(tmp_path / "split.csv"))
    again = splits.deal(bare, wanted)
    assert [(one.split, one.fold) for one in again] == [(one.split, one.fold) for one in rows]
