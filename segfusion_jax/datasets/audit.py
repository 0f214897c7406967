"""Facts about prepared data for the report: counts, what was left out, what leaks, and what predicts the label but
should not.
"""

import collections
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from segfusion_jax.config import Source
from segfusion_jax.datasets.classes import Told
from segfusion_jax.datasets.merging import Merged
from segfusion_jax.datasets.record import Problem
from segfusion_jax.datasets.splits import contradicting
from segfusion_jax.datasets.table import Row

RELATIONS: dict[str, Callable[[Row], str]] = {
    "same picture": lambda row: row.picture,
    "near duplicate": lambda row: row.lookalike,
    "cut of the other": lambda row: row.cut,
    "same lesion": lambda row: row.lesion_id or f"image {row.image_id}",
    "same patient": lambda row: row.patient_id or f"image {row.image_id}",
    "any of these": lambda row: row.group,
}
"""What an image in training can share with a test image, and so give it away."""

_SHORTCUT_BINS = 10
_SHORTCUT_FOLDS = 5


def audit(
    rows: Sequence[Row], problems: Sequence[Problem], told: Told, sides: Sequence[int] | None = None
) -> dict[str, Any]:
    """Counts per split, images left out, leakage, and shortcuts.

    Args:
      rows: all images, with their splits.
      problems: images left out.
      told: what is told apart.
      sides: as in `shortcuts`.

    Returns:
      JSON-able: `images`, `groups`, `pictures` (images less those that repeat another), `classes` and `coarse`,
      as in `Told`; `splits` (for each:
      images, groups, targets, with_mask, diagnoses); `left_out` (count for each kind of problem); `contradictions` (ids
      of images of one picture whose targets contradict each other) and `lesion_contradictions` (those of images of one
      lesion, each with its label); `relatives_in_training`: for each of RELATIONS the share of test images that are
      classified with a relative in train or validation, under `this_split` and, expected, under a `random_split` of the
      same images into parts of the same size; `classified_tests`, how many these are; `known`, of how many images the
      lesion and the patient are known; `leaking`: whether any of this split has; `shortcuts`, as `shortcuts` returns
      them.
    """
    used = [row for row in rows if row.split in ("train", "validation", "test")]
    tests = [row for row in used if row.split == "test"]
    known = {"lesion": [row for row in used if row.lesion_id], "patient": [row for row in used if row.patient_id]}
    here = {name: relative_share(used, relation) for name, relation in RELATIONS.items()}
    at_random = {
        name: expected_relative_share([relation(row) for row in used], len(tests))
        for name, relation in RELATIONS.items()
    }
    names = sorted({row.split for row in rows}, key=("train", "validation", "test", "official_test", "unused").index)
    return {
        "images": len(rows),
        "groups": len({row.group for row in rows}),
        "pictures": len({row.picture for row in rows}),
        "classes": list(told.classes),
        "coarse": {name: list(possible) for name, possible in told.coarse.items()},
        "splits": {name: _counts([row for row in rows if row.split == name], told.labels) for name in names},
        "left_out": dict(collections.Counter(problem.kind for problem in problems)),
        "contradictions": sorted(row.image_id for row in _contradictions(rows, "picture", told)),
        "lesion_contradictions": {
            row.image_id: told.labels[row.target] for row in _contradictions(rows, "lesion_id", told) if row.target >= 0
        },
        "relatives_in_training": {"this_split": here, "random_split": at_random},
        "classified_tests": sum(row.target >= 0 for row in tests),
        "known": {name: len(some) for name, some in known.items()},
        "leaking": any(share > 0 for share in here.values()),
        "shortcuts": shortcuts(rows, sides),
    }


def union(rows: Sequence[Row], merged: Merged, sources: Mapping[str, Source]) -> dict[str, Any]:
    """Counts what each collection brings, and what joins images by which rule.

    Args:
      rows: all images, with their splits.
      merged: what merging the collections did.
      sources: the collections by name.

    Returns:
      JSON-able: `collections` (for each: use, images, groups, images of each split, joined_elsewhere: groups that have
      images of others); `joined` (for each rule of RELATIONS: images that have a relative by it, sets of such, and
      those of several collections; and "same id": images that stand in several); `exact_labels`: images that another
      collection gave a finer label; `label_contradictions`: by id, which left an image without a label.
    """
    of_group = _sources_by(rows, RELATIONS["any of these"])
    collections_of = {}
    for name, source in sources.items():
        own = [row for row in rows if row.source == name]
        groups = {row.group for row in own}
        collections_of[name] = {
            "use": source.use,
            "images": len(own),
            "groups": len(groups),
            "splits": dict(sorted(collections.Counter(row.split for row in own).items())),
            "joined_elsewhere": sum(len(set(of_group[group])) > 1 for group in groups),
        }
    return {
        "collections": collections_of,
        "joined": {"same id": merged.same_id} | {rule: _joined(rows, of) for rule, of in RELATIONS.items()},
        "exact_labels": merged.exact,
        "label_contradictions": dict(merged.contradictions),
    }


def _joined(rows: Sequence[Row], relation: Callable[[Row], str]) -> dict[str, int]:
    found = [sources for sources in _sources_by(rows, relation).values() if len(sources) > 1]
    across = sum(len(set(sources)) > 1 for sources in found)
    return {"images": sum(map(len, found)), "sets": len(found), "across_collections": across}


def _sources_by(rows: Sequence[Row], relation: Callable[[Row], str]) -> dict[str, list[str]]:
    """Returns the collections of the images that share a relation, by what they share."""
    found = collections.defaultdict(list)
    for row in rows:
        if not row.copy or row.copy == 1:
            found[relation(row)].append(row.source)
    return found


def relative_share(rows: Sequence[Row], relation: Callable[[Row], str]) -> float:
    """Returns the share of classified test images that have an image of equal `relation` in train or validation."""
    training = {relation(row) for row in rows if row.split in ("train", "validation")}
    tests = [row for row in rows if row.split == "test" and row.target >= 0]
    return sum(relation(row) in training for row in tests) / max(1, len(tests))


def expected_relative_share(groups: Sequence[str], test_size: int) -> float:
    """Returns what `relative_share` would be expected to be had `test_size` images been drawn one by one.

    An image of a group of g, itself in test, has no relative outside with the hypergeometric probability that its g - 1
    relatives are among the test_size - 1 other test images: product of (test_size - j) / (images - j), j = 1..g-1.
    """
    if not test_size:
        return 0.0
    total = len(groups)
    sizes = collections.Counter(collections.Counter(groups).values())
    with_relative = 0.0
    for size, count in sizes.items():
        others = np.arange(1, size)
        alone = np.prod(np.clip(test_size - others, 0, None) / (total - others))
        with_relative += size * count * (1 - alone)
    return float(with_relative / total)


def shortcuts(rows: Sequence[Row], sides: Sequence[int] | None = None) -> dict[str, float]:
    """Returns the ROC-AUC with which each fact that is no look of the lesion tells malignant from benign, alone.

    0.5 = not at all. Numbers are cut into tenths; the score of a value is the share of malignant images that have it
    in the other folds, folds being of whole groups. A fact that all images share is left out, and all are where no
    label says what is malignant.

    Args:
      rows: the images.
      sides: of each target 1 or 0, which stands for malignant where somebody's own classes have two sides.
    """

    def side(row: Row) -> int:
        return row.malignant if sides is None else sides[row.target] if row.target >= 0 else -1

    labelled = [row for row in rows if side(row) >= 0 and not row.copy]
    labels = np.array([side(row) for row in labelled])
    names = {name: number for number, name in enumerate(sorted({row.group for row in labelled}))}
    folds = np.array([names[row.group] % _SHORTCUT_FOLDS for row in labelled])
    if not any(len(set(labels[folds == fold])) == 2 for fold in range(_SHORTCUT_FOLDS)) or len(names) < 2:
        return {}
    images_of = collections.Counter(row.patient_id for row in labelled)
    facts = {
        "collection": [row.source for row in labelled],
        "origin": [row.origin for row in labelled],
        "confirmation": [row.confirmation for row in labelled],
        "width": _tenths([row.width for row in labelled]),
        "height": _tenths([row.height for row in labelled]),
        "file size": _tenths([row.file_bytes for row in labelled]),
        "images of the patient": _tenths([images_of[row.patient_id] if row.patient_id else 0 for row in labelled]),
    }
    varying = {
        name: np.unique(values, return_inverse=True)[1] for name, values in facts.items() if len(set(values)) > 1
    }
    return {name: _predictive(values, labels, folds) for name, values in varying.items()}


def _predictive(values: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> float:
    """Returns the ROC-AUC, over pairs within a fold, of each value's malignant share as counted in the other folds."""
    won, pairs = 0.0, 0
    for fold in np.unique(folds):
        inside, others = folds == fold, folds != fold
        malignant, count = (np.bincount(values[others], w, minlength=values.max() + 1) for w in (labels[others], None))
        scores = (malignant + labels[others].mean()) / (count + 1)
        weight = labels[inside].sum() * (1 - labels[inside]).sum()
        if weight:
            won += weight * roc_auc_score(labels[inside], scores[values[inside]])
            pairs += weight
    return float(won / pairs)


def _tenths(numbers: Sequence[int]) -> list[int]:
    edges = np.unique(np.quantile(numbers, np.arange(1, _SHORTCUT_BINS) / _SHORTCUT_BINS))
    return np.searchsorted(edges, numbers, side="right").tolist()


def _contradictions(rows: Sequence[Row], shared: str, told: Told) -> list[Row]:
    """Returns the images that share a fact, a name of `Row`, with one whose target contradicts theirs."""
    sets: dict[str, list[Row]] = collections.defaultdict(list)
    for row in rows:
        sets[getattr(row, shared)].append(row)
    possible = told.possible
    named = (members for name, members in sets.items() if name)
    return [row for members in named if contradicting(members, possible) for row in members]


def _counts(rows: Sequence[Row], labels: Sequence[str]) -> dict[str, Any]:
    targets = collections.Counter(row.target for row in rows)
    return {
        "images": len(rows),
        "groups": len({row.group for row in rows}),
        "targets": {name: targets[number] for number, name in enumerate(labels)} | {"none": targets[-1]},
        "with_mask": sum(row.has_mask for row in rows),
        "diagnoses": dict(sorted(collections.Counter(row.diagnosis or "unknown" for row in rows).items())),
    }
