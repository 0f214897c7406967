"""Which classes count as malignant, and which each split must have."""

import math

import pytest

from segfusion_jax.config import Data, Splits
from segfusion_jax.datasets import prepared, taxonomy
from segfusion_jax.datasets.table import Row

CLASSES = ("melanoma", "actinic keratosis", "nevus", "dermatofibroma")


def row(image_id: str, target: int, split: str) -> Row:
    facts = dict.fromkeys(
        ("lesion_id", "patient_id", "sex", "site", "skin_tone", "confirmation", "origin", "partition"), ""
    )
    numbers = dict(position=0, age=math.nan, malignant=-1, width=1, height=1, file_bytes=1, has_mask=False)
    hashes = dict(sha256="", perceptual_hash="", diagnosis="", source="isic2019")
    return Row(image_id=image_id, target=target, split=split, **facts, **numbers, **hashes)


def check(train: list[int], validation: list[int], test: list[int], data: Data, classes=CLASSES):
    splits = {"train": train, "validation": validation, "test": test}
    rows = [row(f"{split}{i}", t, split) for split, targets in splits.items() for i, t in enumerate(targets)]
    prepared._check_classes(rows, classes, data, Splits())


@pytest.mark.parametrize(
    ("fields", "expected"),
    [({}, (True, True, False, False)), ({"actinic_keratosis": "benign"}, (True, False, False, False))],
)
def test_malignant_diagnoses_are_those_of_the_binary_target(fields, expected):
    assert taxonomy.positive(CLASSES, Data(target="diagnosis", **fields)) == expected


@pytest.mark.parametrize("akiec", ["malignant", "by_isic2019"])
@pytest.mark.parametrize("keratosis", ["malignant", "benign"])
def test_every_diagnosis_is_as_malignant_as_an_image_of_it(akiec, keratosis):
    fields = dict(akiec=akiec, actinic_keratosis=keratosis)
    cases = list(taxonomy.DIAGNOSES.items())
    binary, _ = taxonomy.targets(cases, Data(target="malignant", **fields))
    targets, classes = taxonomy.targets(cases, Data(target="diagnosis", **fields))
    positive = taxonomy.positive(classes, Data(target="diagnosis", **fields))
    assert len(classes) == 9 and [int(positive[target]) for target in targets] == binary


@pytest.mark.parametrize("target", ["malignant", "melanoma"])
def test_of_two_sides_the_second_is_positive(target):
    _, classes = taxonomy.targets([("nevus", 0)], Data(target=target))
    assert taxonomy.positive(classes, Data(target=target)) == (False, True)


def test_only_training_needs_every_diagnosis():
    data = Data(collection="isic2019", target="diagnosis")
    check([0, 1, 2, 3, -1], [0, 2], [1, 3], data)
    with pytest.raises(ValueError, match="split 'train' .* 0 actinic keratosis, .* it needs all classes"):
        check([0, 2, 3], [0, 2], [1, 3], data)
    with pytest.raises(ValueError, match="split 'test' .* it needs benign and malignant classes"):
        check([0, 1, 2, 3], [0, 2], [0, 1, -1], data)
    with pytest.raises(ValueError, match="split 'validation' .* it needs benign and malignant classes"):
        check([0, 1, 2, 3], [1, 3], [0, 3], Data(collection="isic2019", target="diagnosis", actinic_keratosis="benign"))


def test_a_binary_target_needs_both_sides_everywhere():
    sides = ("benign", "malignant")
    check([0, 1], [0, 1], [0, 1], Data(collection="isic2019"), sides)
    with pytest.raises(ValueError, match="split 'test' of isic2019 has 1 benign, 0 malignant images; .* all classes"):
        check([0, 1], [0, 1], [0], Data(collection="isic2019"), sides)
