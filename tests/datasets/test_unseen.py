import pytest

from segfusion_jax.datasets import table
from segfusion_jax.datasets.near_duplicates import THRESHOLD
from segfusion_jax.datasets.unseen import unseen
from tests.datasets.rows import row


def bits(number: int, differing: int = 0) -> str:
    """A hash far from those of other numbers, and as far as `differing` bits from its own."""
    value = int.from_bytes(bytes([17 * number % 256, 91 * number % 256, 53 * number % 256, number]) * 8)
    return f"{value ^ sum(1 << 3 * place + 1 for place in range(differing)):064x}"


ROWS = [
    row(0, image_id="A", group="A", perceptual_hash=bits(1)),
    row(1, image_id="ISIC_2_downsampled", group="B", perceptual_hash=bits(5)),
    row(2, image_id="C", group="B", perceptual_hash=bits(9)),
    row(3, image_id="own_name", group="D", perceptual_hash=bits(14, 20)),
    row(4, image_id="E", group="E", perceptual_hash=bits(23)),
]
PARTS = [
    table.Part("A", "test", -1, bits(1)),
    table.Part("crops/ISIC_2", "validation", 2, bits(61)),
    table.Part("F", "train", 0, bits(14)),
    table.Part("G", "unused", -1, bits(23)),
]


def test_what_the_model_learned_from_is_left_out_with_all_its_relatives():
    rows, left_out = unseen(ROWS, PARTS)
    assert [row.image_id for row in rows] == ["A", "E"]
    assert left_out == {"same id": 1, "same picture": 1, "relative": 1}


@pytest.mark.parametrize(("differing", "expected"), [(THRESHOLD, False), (THRESHOLD + 12, True)])
def test_pictures_are_the_same_within_the_threshold(differing, expected):
    (only,) = [row(0, perceptual_hash=bits(14, differing))]
    rows, _ = unseen([only], PARTS[2:3])
    assert (rows == (only,)) == expected


def test_ids_of_folders_that_are_nobodys_but_theirs_are_compared_in_whole():
    rows, _ = unseen([row(0, image_id="mine/1", perceptual_hash=bits(1))], [table.Part("a/1", "train", 0, bits(99))])
    assert len(rows) == 1


def test_a_model_that_saw_nothing_leaves_all():
    assert unseen(ROWS, PARTS[:1]) == (tuple(ROWS), {})


def test_the_table_returns_and_others_are_refused(tmp_path):
    rows = [row(3, split="train", fold=1, perceptual_hash="ab"), row(2, split="test", perceptual_hash="cd")]
    table.write_parts(tmp_path / "split.csv", rows)
    assert table.read_parts(tmp_path / "split.csv") == [
        table.Part("I0002", "test", -1, "cd"),
        table.Part("I0003", "train", 1, "ab"),
    ]
    table.write_rows(tmp_path / "rows.csv", rows)
    with pytest.raises(ValueError, match="rows.csv: columns .*; must be "):
        table.read_parts(tmp_path / "rows.csv")
    assert table.split_digest(rows) == table.split_digest(rows[::-1]) != table.split_digest(rows[:1])
