"""Which classes count as malignant, and which each split must have."""

import itertools
import math

import numpy as np
import pytest

from segfusion_jax.config import Data, Source, Splits
from segfusion_jax.datasets import classes, prepared, taxonomy
from segfusion_jax.datasets.table import Row

CLASSES = ("melanoma", "actinic keratosis", "nevus", "dermatofibroma")


def row(image_id: str, target: int, split: str) -> Row:
    facts = dict.fromkeys(
        ("lesion_id", "patient_id", "sex", "site", "skin_tone", "confirmation", "origin", "partition"), ""
    )
    numbers = dict(position=0, age=math.nan, malignant=-1, width=1, height=1, file_bytes=1, has_mask=False)
    hashes = dict(sha256="", perceptual_hash="", diagnosis="", source="isic2019")
    return Row(image_id=image_id, target=target, split=split, **facts, **numbers, **hashes)


def check(train: list[int], validation: list[int], test: list[int], data: Data, names=CLASSES, **coarse):
    splits = {"train": train, "validation": validation, "test": test}
    rows = [row(f"{split}{i}", t, split) for split, targets in splits.items() for i, t in enumerate(targets)]
    prepared._check_classes(rows, classes.Told(names, coarse), data, Splits())


@pytest.mark.parametrize(
    ("fields", "expected"),
    [({}, (True, True, False, False)), ({"actinic_keratosis": "benign"}, (True, False, False, False))],
)
def test_malignant_diagnoses_are_those_of_the_binary_target(fields, expected):
    assert classes.positive(CLASSES, Data(target="diagnosis", **fields)) == expected


@pytest.mark.parametrize("akiec", ["malignant", "by_isic2019"])
@pytest.mark.parametrize("keratosis", ["malignant", "benign"])
def test_every_diagnosis_is_as_malignant_as_an_image_of_it(akiec, keratosis):
    fields = dict(akiec=akiec, actinic_keratosis=keratosis)
    cases = list(taxonomy.DIAGNOSES.items())
    binary, _ = classes.targets(cases, Data(target="malignant", **fields))
    targets, told = classes.targets(cases, Data(target="diagnosis", **fields))
    positive = classes.positive(told.classes, Data(target="diagnosis", **fields))
    said = [classes.judged(told, positive)[target] for target in targets]
    undecided = -1 if keratosis == "benign" else 1  # akiec, where of its two one is benign
    assert len(told.classes) == 10 and said == [
        undecided if n == taxonomy.AKIEC else b for (n, _), b in zip(cases, binary, strict=True)
    ]


@pytest.mark.parametrize("target", ["malignant", "melanoma"])
def test_of_two_sides_the_second_is_positive(target):
    _, told = classes.targets([("nevus", 0)], Data(target=target))
    assert classes.positive(told.classes, Data(target=target)) == (False, True)


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


def told(counts: dict[str, int], **fields) -> tuple[dict[str, int], classes.Told]:
    """The target of each label of so many images."""
    cases = [
        ("", {"malignant": 1, "benign": 0, "": -1}[name]) if name in ("malignant", "benign", "") else (name, 0)
        for name in counts
        for _ in range(counts[name])
    ]
    targets, found = classes.targets(cases, Data(target="diagnosis", **fields))
    return {taxonomy.label(*case): target for case, target in zip(cases, targets, strict=True)}, found


HAM10000 = dict.fromkeys(taxonomy.HAM10000.values(), 9)
ISIC2017 = {"melanoma": 374, "seborrheic keratosis": 254, "benign, not seborrheic keratosis": 1372}


@pytest.mark.parametrize("table", [taxonomy.HAM10000, taxonomy.ISIC2019])
def test_diagnoses_of_one_grain_are_the_classes(table):
    names = sorted(filter(None, table.values()), key=list(taxonomy.DIAGNOSES).index)
    targets, found = told(dict.fromkeys(names, 3) | {"": 2})
    assert found == (tuple(names), {})
    assert targets == {name: number for number, name in enumerate(names)} | {"lesion": -1}
    assert (found.possible == np.eye(len(names), dtype=bool)).all()


def test_isic_2017_alone_has_its_own_three_classes():
    targets, found = told(ISIC2017)
    assert targets == {name: number for number, name in enumerate(found.classes)} and not found.coarse
    assert found.classes == tuple(ISIC2017) and classes.positive(found.classes, Data(target="diagnosis")) == (
        True,
        False,
        False,
    )


def test_coarse_labels_of_a_union_leave_the_classes_below_them():
    """By hand: HAM10000 with ISIC 2017, and what only says malignant, benign or no melanoma."""
    targets, found = told(
        HAM10000 | ISIC2017 | {"seborrheic keratosis": 5, "malignant": 2, "benign": 1, "no melanoma": 1}
    )
    ham = (
        "melanoma",
        "basal cell carcinoma",
        taxonomy.AKIEC,
        "nevus",
        "benign keratosis",
        "dermatofibroma",
        "vascular lesion",
    )
    assert found.classes == ham
    assert targets["seborrheic keratosis"] == targets["benign keratosis"] == 4
    assert found.coarse == {
        "malignant": ham[:3],
        "benign": ham[3:],
        "benign, not seborrheic keratosis": ham[3:],
        "no melanoma": ham[1:],
    }
    assert [targets[name] for name in found.coarse] == [7, 8, 9, 10]
    assert found.possible[10].tolist() == [False] + 6 * [True]
    sides = classes.judged(found, classes.positive(ham, Data(target="diagnosis")))
    assert sides == (1, 1, 1, 0, 0, 0, 0, 1, 0, 0, -1)  # no melanoma may be a carcinoma


def test_a_diagnosis_is_divided_where_its_parts_are_told_as_often():
    parts = {"actinic keratosis": 9, "squamous cell carcinoma": 9}
    targets, found = told(HAM10000 | parts)
    assert taxonomy.AKIEC not in found.classes and found.coarse == {
        taxonomy.AKIEC: ("squamous cell carcinoma", "actinic keratosis")
    }
    for few in (parts | {"actinic keratosis": 8}, {"actinic keratosis": 90}):
        targets, found = told(HAM10000 | few)
        assert found.classes[2] == taxonomy.AKIEC and not found.coarse
        assert {targets[name] for name in few} == {2}


def test_a_keratosis_that_counts_as_benign_changes_sides():
    counts = {
        "melanoma": 1,
        "actinic keratosis": 1,
        "squamous cell carcinoma": 1,
        "nevus": 1,
        "malignant": 1,
        "benign": 1,
    }
    _, found = told(counts, actinic_keratosis="benign")
    assert found.coarse == {
        "malignant": ("melanoma", "squamous cell carcinoma"),
        "benign": ("actinic keratosis", "nevus"),
    }
    targets, found = told(counts, actinic_keratosis="exclude")
    assert targets["actinic keratosis"] == -1 and "actinic keratosis" not in found.classes


def test_a_side_without_a_diagnosis_is_a_class():
    targets, found = told({"melanoma": 2, "nevus": 0, "benign": 3, "no melanoma": 1})
    assert found == (("melanoma", "benign"), {"no melanoma": ("benign",)})
    assert classes.judged(found, (True, False)) == (1, 0, 0) and targets["no melanoma"] == 2


def test_classes_share_no_leaf():
    for names in itertools.combinations(taxonomy.ALL, 4):
        targets, found = told({name: 1 for name in names})
        leaves = [taxonomy.below(name) for name in found.classes]
        assert len(frozenset().union(*leaves)) == sum(map(len, leaves)), names
        for name, target in targets.items():
            if target >= 0:
                possible = [of for of, is_possible in zip(leaves, found.possible[target], strict=True) if is_possible]
                meets = [of for of in leaves if of & taxonomy.below(name)]
                assert possible == meets or name in taxonomy.below(taxonomy.AKIEC) | taxonomy.below("benign keratosis")


def test_labels_of_another_collection_among_a_models_classes():
    data = Data(target="diagnosis")
    cases = [("seborrheic keratosis", 0), ("no melanoma", 0), (taxonomy.AKIEC, 1), ("dermatofibroma", 0), ("", 0)]
    names = ("melanoma", "actinic keratosis", "nevus", "benign keratosis")
    targets, found = classes.places(cases, names, data)
    assert targets == [3, 6, 4, -1, 5]
    assert found.coarse == {taxonomy.AKIEC: names[1:2], "benign": names[2:], "no melanoma": names[1:]}


def test_coarse_labels_do_not_stand_for_a_class_in_training():
    data = Data(collection="isic2019", target="diagnosis")
    coarse = {"benign": ("nevus", "dermatofibroma"), "no melanoma": ("actinic keratosis", "nevus", "dermatofibroma")}
    check([0, 1, 2, 3, 4, 5], [0, 4], [1, 4, 5], data, **coarse)
    with pytest.raises(ValueError, match="split 'train' .* 0 nevus, 1 dermatofibroma, 1 benign"):
        check([0, 1, 3, 4], [0, 4], [1, 4], data, **coarse)
    with pytest.raises(ValueError, match="split 'test' .* 1 no melanoma images; it needs benign and malignant"):
        check([0, 1, 2, 3, 4], [0, 4], [1, 5], data, **coarse)


OWN = Data(collection="image_folder", classes="cat_a, cat_b,cat_c", positive="cat_b")


def test_own_classes_are_the_targets_in_their_order():
    cases = [("cat_c", -1), ("cat_a", -1), ("", -1), ("nevus", 0), ("cat_b", -1)]
    targets, told = classes.targets(cases, OWN)
    assert targets == [2, 0, -1, -1, 1] and told == classes.Told(("cat_a", "cat_b", "cat_c"), {})
    assert classes.positive(told.classes, OWN) == (False, True, False)
    assert classes.kinds(told, OWN) == ((0, 1, 2), told.classes)


@pytest.mark.parametrize(
    ("sought", "names"),
    [
        ((False, False, False), None),
        ((True, False, True), ("b", "a or c")),
        ((False, True, False), ("not b", "b")),
    ],
)
def test_sides_of_own_classes_have_their_names(sought, names):
    assert classes.sides(("a", "b", "c"), sought) == names


def test_every_split_needs_every_own_class():
    data = Data(collection="", collections={"isic2019": Source(reader="image_folder")}, classes=OWN.classes)
    check([0, 1, 2], [0, 1, 2], [0, 1, 2], data, OWN.own_classes)
    with pytest.raises(ValueError, match="'validation' of .* 1 cat_a, 1 cat_b, 0 cat_c images; it needs all classes"):
        check([0, 1, 2], [0, 1], [0, 1, 2], data, OWN.own_classes)
