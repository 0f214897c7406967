"""What cannot be trained is said when the images are dealt, with counts and a remedy."""

import dataclasses

import numpy as np
import pytest

from segfusion_jax.pipeline.split import Split
from tests import tiny
from tests.datasets.rows import row

PARTS = ("train", "train", "validation", "test")


def images(**changed) -> list:
    """Sixty images, in each part and fold some of both kinds; `changed` of the malignant ones of fold 2."""
    rows = []
    for i in range(60):
        split, target = PARTS[i % 4], i // 4 % 2
        fold = -1 if split == "test" else i // 8 % 3
        more = changed if target and fold == 2 else {}
        rows.append(row(i, split=split, fold=fold, source="synthetic", **({"target": target} | more)))
    return rows


def check(rows, **fields) -> None:
    split = Split(tiny.config(**fields), rows)
    split.check_classes(np.array([0, 1]), ("benign", "malignant"))
    split.check_masks()


@pytest.mark.parametrize("fields", [{}, {"classifier__fold_ensemble": True}, {"bridge__masks": "annotated"}])
def test_what_can_be_trained_is_let_pass(fields):
    check(images(), **fields)


def test_a_fold_without_a_kind_is_refused_for_an_ensemble_only():
    check(images(target=0))
    words = r"classifier 2 is chosen on are \d+ benign and 0 malignant.*fold_ensemble=False"
    with pytest.raises(ValueError, match=words):
        check(images(target=0), classifier__fold_ensemble=True)


def test_a_part_without_a_kind_is_refused():
    rows = [one for one in images() if one.split != "validation" or one.target]
    with pytest.raises(
        ValueError, match=r"classifier 0 is chosen on are 0 benign and \d+ malignant.*another splits.seed"
    ):
        check(rows)


def test_annotated_masks_that_are_not_there_are_missed_before_the_first_step():
    with pytest.raises(ValueError, match=r"\d+ of 60 images have no annotated mask, such as .*'predicted'"):
        check(images(has_mask=False), bridge__masks="annotated")
    check(images(has_mask=False))


def test_unets_without_annotations_are_refused():
    with pytest.raises(ValueError, match="training and 0 validation images with an annotated mask.*splits.seed"):
        check([dataclasses.replace(one, has_mask=one.split != "validation") for one in images()])
