"""Diagnoses: the common names, what collections call them, and what is told apart (the target).

A diagnosis that no collection defines alike is no class: it has the name "", and only whether it is malignant counts.
"""

import dataclasses
from collections.abc import Sequence

from segfusion_jax.config import Data

DIAGNOSES = {
    "melanoma": 1,
    "basal cell carcinoma": 1,
    "squamous cell carcinoma": 1,
    "actinic keratosis": 1,  # precancerous; counted as malignant by the convention of the ISIC 2018 and 2019 studies
    "actinic keratosis or intraepithelial carcinoma": 1,  # HAM10000's 'akiec', which does not tell them apart
    "nevus": 0,
    "benign keratosis": 0,  # seborrheic keratosis, solar lentigo and lichenoid keratosis
    "dermatofibroma": 0,
    "vascular lesion": 0,
}
"""Whether each diagnosis is malignant, before `data.actinic_keratosis` and `data.akiec` have their say."""

HAM10000 = {
    "mel": "melanoma",
    "nv": "nevus",
    "bcc": "basal cell carcinoma",
    "akiec": "actinic keratosis or intraepithelial carcinoma",
    "bkl": "benign keratosis",
    "df": "dermatofibroma",
    "vasc": "vascular lesion",
}
"""`dx` of HAM10000."""

ISIC2018 = {code.upper(): diagnosis for code, diagnosis in HAM10000.items()}
"""Columns of ISIC 2018, Task 3."""

ISIC2019 = {
    "MEL": "melanoma",
    "NV": "nevus",
    "BCC": "basal cell carcinoma",
    "AK": "actinic keratosis",
    "BKL": "benign keratosis",
    "DF": "dermatofibroma",
    "VASC": "vascular lesion",
    "SCC": "squamous cell carcinoma",
    "UNK": "",  # none of the others; in the test part only
}
"""Columns of ISIC 2019."""

ISIC2020 = {
    "melanoma": "melanoma",
    "nevus": "nevus",
    "seborrheic keratosis": "benign keratosis",
    "solar lentigo": "benign keratosis",
    "lichenoid keratosis": "benign keratosis",
    "lentigo NOS": "benign keratosis",
    "cafe-au-lait macule": "",
    "atypical melanocytic proliferation": "",
    "unknown": "",
}
"""`diagnosis` of ISIC 2020."""

ISIC2024 = {
    "Melanoma Invasive": "melanoma",
    "Melanoma in situ": "melanoma",
    "Melanoma metastasis": "melanoma",
    "Melanoma, NOS": "melanoma",
    "Basal cell carcinoma": "basal cell carcinoma",
    "Squamous cell carcinoma in situ": "squamous cell carcinoma",
    "Squamous cell carcinoma, Invasive": "squamous cell carcinoma",
    "Squamous cell carcinoma, NOS": "squamous cell carcinoma",
    "Solar or actinic keratosis": "actinic keratosis",
    "Nevus": "nevus",
    "Seborrheic keratosis": "benign keratosis",
    "Pigmented benign keratosis": "benign keratosis",
    "Solar lentigo": "benign keratosis",
    "Lentigo NOS": "benign keratosis",
    "Lichen planus like keratosis": "benign keratosis",
    "Dermatofibroma": "dermatofibroma",
    "Hemangioma": "vascular lesion",
}
"""`iddx_3` of ISIC 2024, as far as it is one of the common diagnoses; the other values are rare lesions, or unknown."""

PH2 = {"0": "nevus", "1": "nevus", "2": "melanoma"}
"""Clinical diagnosis of PH2: common nevus, atypical nevus, melanoma."""


def named(code: str, codes: dict[str, str], *, column: str) -> str:
    """Returns the common name of a collection's `code`.

    Raises:
      ValueError: `code` is not one of `codes`.
    """
    if code not in codes:
        raise ValueError(f"{column} = {code!r}: must be one of {', '.join(codes)}")
    return codes[code]


def marked(row: dict[str, str], codes: dict[str, str]) -> str:
    """Returns the code whose column is 1 in a one-hot row.

    Raises:
      ValueError: not exactly one column of `codes` is 1.
    """
    chosen = [column for column in codes if flag(row[column], column=column)]
    if len(chosen) != 1:
        raise ValueError(f"diagnosis columns that are 1: {chosen}; must be exactly one of {', '.join(codes)}")
    return chosen[0]


def flag(text: str, *, column: str) -> int:
    """Reads 0 or 1 as collections write it: "1" or "1.0".

    Raises:
      ValueError: something else.
    """
    value = {"0": 0, "0.0": 0, "1": 1, "1.0": 1}.get(text)
    if value is None:
        raise ValueError(f"{column} = {text!r}: must be 0 or 1")
    return value


def targets(cases: Sequence[tuple[str, int]], data: Data) -> tuple[list[int], tuple[str, ...]]:
    """Returns what a classifier is to say of each image.

    Args:
      cases: diagnosis, a name of DIAGNOSES or "" where unknown; and malignant: 1, 0, or -1 where unknown.
      data: config, of which `target`, `actinic_keratosis` and `akiec` count.

    Returns:
      The class of each case, -1 where it takes no part, and the names of the classes by number. With
      `data.target = "diagnosis"` the classes are the diagnoses that occur, in the order of DIAGNOSES; otherwise they
      are two, of which 1 is the one that is looked for.
    """
    names = [_class(diagnosis, malignant, data) for diagnosis, malignant in cases]
    if data.target == "diagnosis":
        classes = tuple(name for name in DIAGNOSES if name in set(names))
    else:
        classes = ("benign", "malignant") if data.target == "malignant" else ("other", "melanoma")
    number = {name: place for place, name in enumerate(classes)} | {"": -1}
    return [number[name] for name in names], classes


def positive(classes: Sequence[str], data: Data) -> tuple[bool, ...]:
    """Returns whether each class of `targets` is one that is looked for: a malignant one, or melanoma."""
    if data.target != "diagnosis":
        return False, True
    malignancy = dataclasses.replace(data, target="malignant")
    return tuple(target == 1 for target in targets([(name, DIAGNOSES[name]) for name in classes], malignancy)[0])


def _class(diagnosis: str, malignant: int, data: Data) -> str:
    """Returns the name of the class of an image; "" = none."""
    ambiguous = {
        "actinic keratosis": data.actinic_keratosis,
        "actinic keratosis or intraepithelial carcinoma": data.akiec,
    }.get(diagnosis)
    if ambiguous == "exclude":
        return ""
    if data.target == "diagnosis":
        return diagnosis
    if data.target == "melanoma":
        unknown = not diagnosis and malignant != 0
        return "" if unknown else "melanoma" if diagnosis == "melanoma" else "other"
    return "benign" if ambiguous == "benign" else {1: "malignant", 0: "benign", -1: ""}[malignant]
