"""What a run tells apart: two sides, diagnoses or somebody's own classes, and which of them a label leaves possible."""

import collections
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from segfusion_jax.config import Data
from segfusion_jax.datasets import taxonomy


class Told(NamedTuple):
    """What is told apart, and how far each label tells it.

    Attributes:
      classes: names of the classes, by number. They share no leaf.
      coarse: labels that are in none of the classes, to the names of the classes that they leave possible; as targets
        their numbers follow those of the classes, in this order.
    """

    classes: tuple[str, ...]
    coarse: dict[str, tuple[str, ...]]

    @property
    def labels(self) -> tuple[str, ...]:
        """The name of each target."""
        return *self.classes, *self.coarse

    @property
    def possible(self) -> np.ndarray:
        """Which classes each target leaves possible, [targets, classes] bool: of a class itself only."""
        sets = [*((name,) for name in self.classes), *self.coarse.values()]
        return np.array([[name in names for name in self.classes] for names in sets], bool)


def targets(cases: Sequence[tuple[str, int]], data: Data) -> tuple[list[int], Told]:
    """Returns what a classifier is to say of each image.

    With `data.target = "diagnosis"` the classes are the finest labels that the images have: those with no other label
    below. A diagnosis that images have themselves is divided only if each of its parts has at least as many; else its
    parts count as it. Every other label is a coarse one.

    Args:
      cases: diagnosis, a name of `taxonomy.ALL` or "" where unknown; and malignant: 1, 0, or -1 where unknown.
      data: config, of which `classes`, `target`, `actinic_keratosis` and `akiec` count.

    Returns:
      The target of each case, see `Told`, -1 where it takes no part; and what is told apart. Without
      `data.target = "diagnosis"` the classes are two, of which 1 is the one that is looked for, and no label is coarse;
      with `data.classes` they are these, and no label is coarse either.
    """
    if data.own_classes:
        return places(cases, data.own_classes, data)
    if data.target != "diagnosis":
        told = Told(("benign", "malignant") if data.target == "malignant" else ("other", "melanoma"), {})
        number = {name: place for place, name in enumerate(told.classes)} | {"": -1}
        return [number[_side(*case, data)] for case in cases], told
    known = collections.Counter(taxonomy.label(*case) for case in cases if not _excluded(case[0], data))
    return places(cases, _classes(known, data), data)


def places(cases: Sequence[tuple[str, int]], classes: Sequence[str], data: Data) -> tuple[list[int], Told]:
    """Returns the target of each case among given diagnoses; arguments and results otherwise as of `targets`.

    A label that leaves all classes possible, or none, takes no part. With `data.classes`, labels are classes or none.
    """
    if data.own_classes:
        own = {name: place for place, name in enumerate(classes)}
        return [own.get(diagnosis, -1) for diagnosis, _ in cases], Told(tuple(classes), {})
    meant = {name: _leaves(name, data) for name in taxonomy.ALL}
    number, coarse = {}, {}
    known = {taxonomy.label(*case) for case in cases if not _excluded(case[0], data)}
    for name in (name for name in taxonomy.ALL if name in known):
        within = [place for place, of in enumerate(classes) if meant[name] <= meant[of]]
        possible = tuple(of for of in classes if meant[name] & meant[of])
        if within:
            number[name] = within[0]
        elif 0 < len(possible) < len(classes):
            number[name] = len(classes) + len(coarse)
            coarse[name] = possible
    found = [-1 if _excluded(case[0], data) else number.get(taxonomy.label(*case), -1) for case in cases]
    return found, Told(tuple(classes), coarse)


def positive(classes: Sequence[str], data: Data) -> tuple[bool, ...]:
    """Returns whether each class of `targets` is one that is looked for: a malignant one, melanoma, or one of
    `data.positive`, without which no own class is.
    """
    if data.own_classes:
        return tuple(name in data.own_positive for name in classes)
    if data.target != "diagnosis":
        return False, True
    malignant = _leaves("malignant", data)
    return tuple(name == taxonomy.AKIEC or _leaves(name, data) <= malignant for name in classes)


def sides(classes: Sequence[str], sought: Sequence[bool]) -> tuple[str, str] | None:
    """Returns what the own classes that are not `sought` are called together, and those that are; None if none are.

    >>> sides(("cat_a", "cat_b", "cat_c"), (False, True, False))
    ('not cat_b', 'cat_b')
    """
    if not any(sought):
        return None
    wanted = " or ".join(name for name, is_sought in zip(classes, sought, strict=True) if is_sought)
    others = [name for name, is_sought in zip(classes, sought, strict=True) if not is_sought]
    return others[0] if len(others) == 1 else f"not {wanted}", wanted


def kinds(told: Told, data: Data) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Returns the kind of each target, -1 where its label does not say, and what kinds are called.

    Of each kind there must be images to learn from and to test on: of both sides, or of each of somebody's own classes.
    """
    if data.own_classes:
        return tuple(range(len(told.classes))), told.classes
    names = ("other", "melanoma") if data.target == "melanoma" else ("benign", "malignant")
    return judged(told, positive(told.classes, data)), names


def judged(told: Told, sought: Sequence[bool]) -> tuple[int, ...]:
    """Returns whether a lesion of each target is of the `sought` classes: 1, 0, or -1 where the label does not say."""
    sides = [set(np.array(sought)[possible].tolist()) for possible in told.possible]
    return tuple(int(side.pop()) if len(side) == 1 else -1 for side in sides)


def judged_of(told: Told, name: str) -> tuple[int, ...]:
    """Returns whether a lesion of each target is of the class `name`: 1, 0, or -1 where the label does not say.

    Of the classes a plain 'malignant' may leave melanoma alone possible. That does not make the lesion one.
    """
    sides = judged(told, [other == name for other in told.classes])
    number = told.classes.index(name)
    return tuple(side if side < 1 or target == number else -1 for target, side in enumerate(sides))


def _classes(known: Mapping[str, int], data: Data) -> tuple[str, ...]:
    """Returns the classes, in the order of `taxonomy.ALL`; `known` counts the images of each label."""
    meant = {name: _leaves(name, data) for name in taxonomy.ALL if known.get(name)}
    for whole in (taxonomy.AKIEC, "benign keratosis"):
        parts = [name for name, node in taxonomy.NODES.items() if node.parent == whole]
        if whole in meant and min(known.get(part, 0) for part in parts) < known[whole]:
            meant = {name: of for name, of in meant.items() if name not in parts}
    finest = [name for name in meant if not any(other < meant[name] for other in meant.values())]
    chosen: list[str] = []
    for name in sorted(finest, key=lambda name: len(meant[name])):
        if not any(meant[name] & meant[other] for other in chosen):
            chosen.append(name)
    return tuple(name for name in taxonomy.ALL if name in chosen)


def _leaves(name: str, data: Data) -> frozenset[str]:
    """Returns the leaves that a label may mean where `data.actinic_keratosis` counts."""
    keratosis = frozenset(["actinic keratosis"] if data.actinic_keratosis == "benign" else [])
    if name == "malignant":
        return taxonomy.below(name) - keratosis
    if name in taxonomy.RESTS:
        return _leaves(taxonomy.RESTS[name][0], data) - taxonomy.below(taxonomy.RESTS[name][1])
    return taxonomy.below(name) | keratosis if name == "benign" else taxonomy.below(name)


def _excluded(diagnosis: str, data: Data) -> bool:
    return {"actinic keratosis": data.actinic_keratosis, taxonomy.AKIEC: data.akiec}.get(diagnosis) == "exclude"


def _side(diagnosis: str, malignant: int, data: Data) -> str:
    """Returns on which side of two an image is; "" = neither."""
    if _excluded(diagnosis, data):
        return ""
    if data.target == "melanoma":
        unknown = not diagnosis and malignant != 0
        return "" if unknown else "melanoma" if diagnosis == "melanoma" else "other"
    benign = diagnosis == "actinic keratosis" and data.actinic_keratosis == "benign"
    return "benign" if benign else {1: "malignant", 0: "benign", -1: ""}[malignant]
