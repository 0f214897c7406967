"""What a label says: a diagnosis, or only whether it is malignant; or one of somebody's own classes.

Each function takes these as `own`, `Data.own_classes`; where there are some, labels are these and nothing else.
"""

import difflib
from collections.abc import Sequence

from segfusion_jax.datasets import taxonomy
from segfusion_jax.datasets.collections import official

_CODES = {
    **{name: node for node in taxonomy.DIAGNOSES for name in (node, *taxonomy.NODES[node].names)},
    **{code.lower(): name for code, name in (taxonomy.HAM10000 | taxonomy.ISIC2019).items() if name},
}
_MALIGNANT = {
    **dict.fromkeys(("benign", *taxonomy.NODES["benign"].names, "0", "0.0", "no", "false", "negative", "nein"), 0),
    **dict.fromkeys(("malignant", *taxonomy.NODES["malignant"].names, "1", "1.0", "yes", "true", "positive", "ja"), 1),
}
_AMBIGUOUS = ("actinic keratosis", "actinic keratosis or intraepithelial carcinoma")  # the config says what they are


def read(text: str, own: Sequence[str] = ()) -> tuple[str, int]:
    """Returns the diagnosis, or own class, and whether it is malignant (0 or 1); ("", -1) where unknown.

    Of an own class nobody says that it is malignant or not.

    >>> read("BCC"), read("benign"), read("?")
    (('basal cell carcinoma', 1), ('', 0), ('', -1))
    >>> read("Cat-A", ("cat_a", "cat_b"))
    ('cat_a', -1)

    Raises:
      ValueError: it is no label; says which is most like it.
    """
    if own:
        return _own(text, own), -1
    value = _plain(official.known(text.strip()))
    if value in _CODES:
        return _CODES[value], taxonomy.DIAGNOSES[_CODES[value]]
    if value and value not in _MALIGNANT:
        near = suggest(text)
        question = f" (did you mean {near}?)" if near else ""
        known = ", ".join((*taxonomy.DIAGNOSES, "benign, malignant, 0, 1"))
        raise ValueError(
            f"label = {text!r}: must be empty or one of {known}{question}; a labels.toml says what it means, "
            "or data.classes that it is a class of your own (segfusion check --classes=..., segfusion train --set "
            "data.classes=...)"
        )
    return "", _MALIGNANT.get(value, -1)


def names_diagnosis(text: str, own: Sequence[str] = ()) -> bool:
    """Returns whether `read` finds a diagnosis or an own class in it, not only a kind such as malignant, 0 or 1."""
    return is_label(text, own) and bool(read(text, own)[0])


def is_label(text: str, own: Sequence[str] = ()) -> bool:
    """Returns whether `read` understands it."""
    try:
        read(text, own)
    except ValueError:
        return False
    return True


def suggest(text: str, own: Sequence[str] = ()) -> str:
    """Returns the diagnosis whose name, or one of whose names, is most like `text`, or the own class; "" = none is."""
    if own:
        return next(iter(difflib.get_close_matches(text, own, n=1, cutoff=0.7)), "")
    near = difflib.get_close_matches(text.lower(), [*_CODES, "benign", "malignant"], n=1, cutoff=0.7)
    return _CODES.get(near[0], near[0]) if near else ""


def both(label: str, malignant: str, own: Sequence[str] = ()) -> tuple[str, int]:
    """Reads a label, and beside it a column that says only whether it is malignant, which own classes do not have.

    Raises:
      ValueError: one of them is no label, or they contradict each other.
    """
    if own:
        return read(label, own)
    (diagnosis, by_label), (also, by_other) = read(label), read(malignant)
    if -1 not in (by_label, by_other) and by_label != by_other and diagnosis not in _AMBIGUOUS:
        raise ValueError(f"label = {label!r} contradicts {malignant!r}, which says whether it is malignant")
    return diagnosis or also, by_label if by_label >= 0 else by_other


def _own(text: str, own: Sequence[str]) -> str:
    by_plain = {_plain(name): name for name in own}
    if (value := _plain(text)) not in by_plain and official.known(text.strip()):
        near = suggest(text, own)
        question = f" (did you mean {near}?)" if near else ""
        raise ValueError(f"label = {text!r}: must be empty or one of data.classes, {', '.join(own)}{question}")
    return by_plain.get(value, "")


def _plain(text: str) -> str:
    return " ".join(text.casefold().replace("_", " ").replace("-", " ").split())
