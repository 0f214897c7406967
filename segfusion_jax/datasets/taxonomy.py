"""Diagnoses: their tree, their names, and what collections call them.

    lesion
      malignant: melanoma; basal cell carcinoma;
        actinic keratosis or intraepithelial carcinoma: actinic keratosis; squamous cell carcinoma
      benign: nevus; benign keratosis: seborrheic keratosis; solar lentigo; lichenoid keratosis;
        dermatofibroma; vascular lesion

A label is a node of the tree, or a node without one below it (`RESTS`), and says no more than that the lesion is one of
the leaves below. A diagnosis that no collection defines alike is no node: it has the name "", and only whether it is
malignant counts.
"""

import functools
from collections.abc import Iterable
from typing import NamedTuple


class Node(NamedTuple):
    """A node of the tree.

    Attributes:
      parent: the node above it.
      names: what it is called besides, in English, Latin and German, as `str.casefold` writes it; spaces stand for
        hyphens too.
    """

    parent: str
    names: tuple[str, ...] = ()


AKIEC = "actinic keratosis or intraepithelial carcinoma"

NODES = {
    "melanoma": Node(
        "malignant",
        ("malignant melanoma", "melanoma in situ", "lentigo maligna", "lentigo maligna melanoma", "melanoma malignum")
        + ("melanom", "malignes melanom", "schwarzer hautkrebs"),
    ),
    "basal cell carcinoma": Node(
        "malignant",
        ("basal cell cancer", "basalioma", "carcinoma basocellulare", "basaliom", "basalzellkarzinom")
        + ("basalzellcarcinom",),
    ),
    "squamous cell carcinoma": Node(
        AKIEC,
        (
            "squamous cell cancer",
            "squamous cell carcinoma in situ",
            "intraepithelial carcinoma",
            "bowen",
            "bowen disease",
        )
        + ("bowen's disease", "morbus bowen", "spinalioma", "carcinoma spinocellulare", "keratoacanthoma")
        + ("plattenepithelkarzinom", "spinaliom", "spinozelluläres karzinom", "bowen karzinom", "keratoakanthom"),
    ),
    "actinic keratosis": Node(
        AKIEC,  # precancerous; counted as malignant by the convention of the ISIC 2018 and 2019 studies
        ("solar keratosis", "solar or actinic keratosis", "keratosis actinica", "aktinische keratose")
        + ("solare keratose",),
    ),
    AKIEC: Node("malignant", ("actinic keratosis / bowen's disease",)),  # HAM10000's 'akiec' does not tell them apart
    "nevus": Node(
        "benign",
        ("naevus", "melanocytic nevus", "melanocytic naevus", "melanocytic nevi", "mole", "common nevus")
        + ("atypical nevus", "dysplastic nevus", "blue nevus", "spitz nevus", "naevus pigmentosus")
        + ("nävus", "muttermal", "leberfleck", "nävuszellnävus", "melanozytärer nävus", "dysplastischer nävus"),
    ),
    "benign keratosis": Node(
        "benign",
        ("pigmented benign keratosis", "benign keratosis like lesion", "seborrheic like keratosis", "lentigo")
        + ("lentigo nos", "benigne keratose", "gutartige keratose"),
    ),
    "seborrheic keratosis": Node(
        "benign keratosis",
        ("seborrhoeic keratosis", "seborrhoic keratosis", "basal cell papilloma", "verruca seborrhoica")
        + ("keratosis seborrhoica", "seborrhoische keratose", "seborrhoische warze", "alterswarze"),
    ),
    "solar lentigo": Node(
        "benign keratosis",
        ("senile lentigo", "actinic lentigo", "age spot", "lentigo solaris", "lentigo senilis", "altersfleck"),
    ),
    "lichenoid keratosis": Node(
        "benign keratosis",
        ("lichen planus like keratosis", "lplk", "benign lichenoid keratosis", "lichenoide keratose"),
    ),
    "dermatofibroma": Node("benign", ("fibrous histiocytoma", "dermatofibrom", "histiozytom")),
    "vascular lesion": Node(
        "benign",
        ("hemangioma", "haemangioma", "angioma", "cherry angioma", "angiokeratoma", "pyogenic granuloma")
        + ("hämangiom", "angiom", "angiokeratom", "gefässläsion", "blutschwamm", "granuloma pyogenicum"),
    ),
    "malignant": Node("lesion", ("cancer", "malignum", "bösartig", "maligne")),
    "benign": Node("lesion", ("benignum", "gutartig", "benigne")),
    "lesion": Node(""),
}
"""The tree, from every node to the one above it, and the everyday names; classes are in this order."""

RESTS = {
    "benign, not seborrheic keratosis": ("benign", "seborrheic keratosis"),  # ISIC 2017's 'neither'
    "no melanoma": ("lesion", "melanoma"),  # ISIC 2020's 'benign' without a diagnosis; not known to be benign
}
"""Labels that are a node without one that is below it."""

ALL = (*NODES, *RESTS)


@functools.cache
def below(label: str) -> frozenset[str]:
    """Returns the leaves of the tree that a label, a name of `ALL`, may mean.

    >>> sorted(below("benign keratosis"))
    ['lichenoid keratosis', 'seborrheic keratosis', 'solar lentigo']
    """
    if label in RESTS:
        node, other = RESTS[label]
        return below(node) - below(other)
    children = [name for name, node in NODES.items() if node.parent == label]
    return frozenset().union(*map(below, children)) if children else frozenset([label])


def side(label: str) -> int:
    """Returns whether a lesion of a label is malignant: 1, 0, or -1 where the label does not say."""
    return 1 if below(label) <= below("malignant") else 0 if below(label) <= below("benign") else -1


DIAGNOSES = {name: side(name) for name in NODES if name not in ("lesion", "malignant", "benign")}
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
    "seborrheic keratosis": "seborrheic keratosis",
    "solar lentigo": "solar lentigo",
    "lichenoid keratosis": "lichenoid keratosis",
    "lentigo NOS": "benign keratosis",
    "cafe-au-lait macule": "",
    "atypical melanocytic proliferation": "no melanoma",
    "unknown": "no melanoma",  # called benign there; not known not to be another malignant lesion
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
    "Seborrheic keratosis": "seborrheic keratosis",
    "Pigmented benign keratosis": "benign keratosis",
    "Solar lentigo": "solar lentigo",
    "Lentigo NOS": "benign keratosis",
    "Lichen planus like keratosis": "lichenoid keratosis",
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


def named_by(text: str) -> str | None:
    """Returns the node that is called `text` by its own name or another of `Node.names`, in any case; None if none is.

    >>> named_by("Verruca-seborrhoica")
    'seborrheic keratosis'
    """
    plain = " ".join(text.casefold().replace("_", " ").replace("-", " ").split())
    return next((name for name, node in NODES.items() if plain == name or plain in node.names), None)


def label(diagnosis: str, malignant: int) -> str:
    """Returns what is known, a name of `ALL`, by diagnosis ("" = none) and malignancy (-1 = unknown)."""
    return diagnosis or {1: "malignant", 0: "benign", -1: "lesion"}[malignant]


def common(diagnosis: str) -> str:
    """Returns the diagnosis as the collections share it: of a benign keratosis not which, of a rest of others none."""
    if diagnosis not in NODES:
        return ""
    parent = NODES[diagnosis].parent
    return parent if parent == "benign keratosis" else diagnosis


def finest(cases: Iterable[tuple[str, int]]) -> tuple[str, int] | None:
    """Returns the diagnosis and malignancy that say most of those given of one lesion; None where they contradict.

    >>> finest([("", 0), ("seborrheic keratosis", 0), ("benign keratosis", 0)])
    ('seborrheic keratosis', 0)
    """
    leaves = {case: below(label(*case)) for case in cases}
    if not frozenset(below("lesion")).intersection(*leaves.values()):
        return None
    return min(leaves, key=lambda case: (len(leaves[case]), -case[1]))
