"""Diagnoses and what is made of them."""

import itertools

import pytest

from segfusion_jax import config
from segfusion_jax.datasets import taxonomy

AK, AKIEC = "actinic keratosis", "actinic keratosis or intraepithelial carcinoma"
CASES = [("melanoma", 1), ("nevus", 0), (AK, 1), (AKIEC, 1), ("basal cell carcinoma", 1), ("", 1), ("", 0), ("", -1)]


def targets(**fields):
    return taxonomy.targets(CASES, config.Data(**fields))


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
    assert named == set(taxonomy.DIAGNOSES)


def test_lesions_that_the_isic_archive_names_apart_and_ham10000_does_not():
    keratoses = {"seborrheic keratosis", "solar lentigo", "lichenoid keratosis", "lentigo NOS"}
    assert {code for code, name in taxonomy.ISIC2020.items() if name == "benign keratosis"} == keratoses
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
    numbers, names = targets(**fields)
    assert numbers == expected
    assert names == (("other", "melanoma") if "target" in fields else ("benign", "malignant"))


def test_diagnoses_as_classes():
    numbers, names = targets(target="diagnosis")
    assert names == ("melanoma", "basal cell carcinoma", AK, AKIEC, "nevus")
    assert numbers == [0, 4, 2, 3, 1, -1, -1, -1]
    numbers, names = targets(target="diagnosis", akiec="exclude", actinic_keratosis="exclude")
    assert names == ("melanoma", "basal cell carcinoma", "nevus")
    assert numbers == [0, 2, -1, -1, 1, -1, -1, -1]


def test_codes():
    assert taxonomy.named("mel", taxonomy.HAM10000, column="dx") == "melanoma"
    with pytest.raises(ValueError, match="dx = 'MEL': must be one of mel, nv"):
        taxonomy.named("MEL", taxonomy.HAM10000, column="dx")
    assert taxonomy.marked({"a": "0.0", "b": "1.0"}, {"a": "", "b": ""}) == "b"
    for row in ({"a": "1", "b": "1"}, {"a": "0", "b": "0"}, {"a": "", "b": "1"}, {"a": "2", "b": "1"}):
        with pytest.raises(ValueError, match="must be"):
            taxonomy.marked(row, {"a": "", "b": ""})
