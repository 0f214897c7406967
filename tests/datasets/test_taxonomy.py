"""Diagnoses and what is made of them."""

import itertools

import pytest

from segfusion_jax import config
from segfusion_jax.datasets import classes, taxonomy

AK, AKIEC = "actinic keratosis", "actinic keratosis or intraepithelial carcinoma"
CASES = [("melanoma", 1), ("nevus", 0), (AK, 1), (AKIEC, 1), ("basal cell carcinoma", 1), ("", 1), ("", 0), ("", -1)]


def targets(**fields):
    return classes.targets(CASES, config.Data(**fields))


def test_every_code_has_a_known_diagnosis():
    tables = (
        taxonomy.HAM10000,
        taxonomy.ISIC2018,
        taxonomy.ISIC2019,
        taxonomy.ISIC2020,
        taxonomy.ISIC2024,
        taxonomy.PH2,
    )
    named = set(itertools.chain(*(table.values() for table in tables))) - {""}
    assert named == {*taxonomy.DIAGNOSES, "no melanoma"}


def test_lesions_that_the_isic_archive_names_apart_and_ham10000_does_not():
    keratoses = {"seborrheic keratosis", "solar lentigo", "lichenoid keratosis", "lentigo NOS"}
    common = {code: taxonomy.common(name) for code, name in taxonomy.ISIC2020.items()}
    assert {code for code, name in common.items() if name == "benign keratosis"} == keratoses
    assert common["unknown"] == common["cafe-au-lait macule"] == ""
    assert {code for code, name in taxonomy.ISIC2020.items() if name == "nevus"} == {"nevus"}
    assert {code for code, name in taxonomy.ISIC2020.items() if name == "melanoma"} == {"melanoma"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [1, 0, 1, 1, 1, 1, 0, -1]),
        ({"akiec": "exclude"}, [1, 0, 1, -1, 1, 1, 0, -1]),
        ({"actinic_keratosis": "exclude"}, [1, 0, -1, 1, 1, 1, 0, -1]),
        ({"actinic_keratosis": "benign"}, [1, 0, 0, 1, 1, 1, 0, -1]),
        ({"target": "melanoma"}, [1, 0, 0, 0, 0, -1, 0, -1]),
        ({"target": "melanoma", "actinic_keratosis": "exclude"}, [1, 0, -1, 0, 0, -1, 0, -1]),
    ],
)
def test_two_classes(fields, expected):
    numbers, told = targets(**fields)
    assert numbers == expected and not told.coarse
    assert told.classes == (("other", "melanoma") if "target" in fields else ("benign", "malignant"))


def test_tree():
    """Leaves by hand; a label's are those below it, and siblings share none."""
    assert taxonomy.below(AKIEC) == {AK, "squamous cell carcinoma"}
    assert taxonomy.below("benign keratosis") == {"seborrheic keratosis", "solar lentigo", "lichenoid keratosis"}
    assert taxonomy.below("malignant") == {"melanoma", "basal cell carcinoma", AK, "squamous cell carcinoma"}
    assert taxonomy.below("lesion") == taxonomy.below("malignant") | taxonomy.below("benign")
    assert not taxonomy.below("malignant") & taxonomy.below("benign") and len(taxonomy.below("lesion")) == 10
    assert taxonomy.below("no melanoma") == taxonomy.below("lesion") - {"melanoma"}
    neither = {"nevus", "solar lentigo", "lichenoid keratosis", "dermatofibroma", "vascular lesion"}
    assert taxonomy.below("benign, not seborrheic keratosis") == neither


def test_every_name_is_of_one_node():
    names = [name for node in taxonomy.NODES.values() for name in node.names] + list(taxonomy.NODES)
    assert len(names) == len(set(names))
    for name in names:
        assert taxonomy.named_by(name.upper().replace(" ", "_")) is not None, name
    expected = {
        "Seborrhoeic keratosis": "seborrheic keratosis",
        "Morbus Bowen": "squamous cell carcinoma",
        "naevus": "nevus",
        "Hemangioma": "vascular lesion",
        "pigmented_benign_keratosis": "benign keratosis",
        "Aktinische Keratose": AK,
        "lichen-planus-like  keratosis": "lichenoid keratosis",
        "Lentigo": "benign keratosis",
        "bösartig": "malignant",
        "mystery": None,
    }
    assert {name: taxonomy.named_by(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([("", 0), ("nevus", 0), ("", -1)], ("nevus", 0)),
        ([("benign keratosis", 0), ("seborrheic keratosis", 0)], ("seborrheic keratosis", 0)),
        ([(AKIEC, 1), (AK, 1), ("no melanoma", 0)], (AK, 1)),
        (
            [("benign keratosis", 0), ("benign, not seborrheic keratosis", 0)],
            ("benign keratosis", 0),
        ),  # meet, not nested
        ([("", -1), ("", -1)], ("", -1)),
        ([(AKIEC, 1), ("melanoma", 1)], None),
        ([("", 1), ("nevus", 0)], None),
        ([("no melanoma", 0), ("", 1)], ("", 1)),  # a carcinoma
        ([("seborrheic keratosis", 0), ("benign, not seborrheic keratosis", 0)], None),
    ],
)
def test_finest_of_several_labels_of_one_lesion(labels, expected):
    assert taxonomy.finest(labels) == taxonomy.finest(labels[::-1]) == expected


def test_codes():
    assert taxonomy.named("mel", taxonomy.HAM10000, column="dx") == "melanoma"
    with pytest.raises(ValueError, match="dx = 'MEL': must be one of mel, nv"):
        taxonomy.named("MEL", taxonomy.HAM10000, column="dx")
    assert taxonomy.marked({"a": "0.0", "b": "1.0"}, {"a": "", "b": ""}) == "b"
    for row in ({"a": "1", "b": "1"}, {"a": "0", "b": "0"}, {"a": "", "b": "1"}, {"a": "2", "b": "1"}):
        with pytest.raises(ValueError, match="must be"):
            taxonomy.marked(row, {"a": "", "b": ""})
