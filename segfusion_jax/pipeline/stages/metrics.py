"""The metrics of a run, as `metrics.json` holds them: what its classifiers and its masks reach on held-out images."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segfusion_jax.datasets.table import Row
from segfusion_jax.evaluation import bootstrap, calibration, classification, sections, subgroups, weighted
from segfusion_jax.input.mask_store import MaskRow
from segfusion_jax.pipeline.stages.predicted import Predicted
from segfusion_jax.pipeline.stages.score import Overlaps
from segfusion_jax.report import text
from segfusion_jax.serving.ensembles import class_probabilities

LEVELS = (0.8, 0.9, 0.95)
"""Sensitivities and specificities at which the model is judged too."""
FEWEST = 30
"""Images, malignant ones for a sensitivity and benign ones for a specificity, by which a collection has a say."""


_MAIN = ("classification", "melanoma", "diagnosis", "diagnosis_equal_shares", "probabilities", "segmentation")


def main_table(metrics: Mapping[str, Any]) -> str:
    """Returns the main ones of a run's metrics as text."""
    return text.table({name: metrics[name] for name in _MAIN if metrics.get(name)})


def of_decisions(validation: Predicted, test: Predicted, threshold: float, *, resamples: int) -> dict[str, Any]:
    """Returns the sections `classification`, `uncalibrated`, `calibration` and `operating_points`.

    Where there are more than two classes, `diagnosis` and `diagnosis_equal_shares` too, of the images whose label is a
    class; and `melanoma`, where it is one, of those whose label says whether it is one. The others are of those whose
    label says whether they are malignant.
    """
    everything, test, chosen = test, test.judged, validation.judged
    labels, probabilities, groups = test.labels, test.malignancy, test.groups
    before = sections.classification(labels, test.uncalibrated, groups, 0.5, resamples=resamples)
    low, high = calibration.calibrated_ece(probabilities, groups)
    aims = itertools.product(("sensitivity", "specificity"), LEVELS)
    metrics: dict[str, Any] = {
        "classification": sections.classification(labels, probabilities, groups, threshold, resamples=resamples),
        "uncalibrated": {name: before[name] for name in ("brier", "log_loss", "ece")},
        "calibration": {
            "temperature": test.calibration.temperature,
            "shift": list(test.calibration.shift),
            "fitted_on": len(validation.rows),
            "prevalence": test.prevalence,
            "shares": dict(zip(test.classes.names, test.shares, strict=True)),
            "ece_by_chance": {"low": low, "high": high},
        },
        "operating_points": [_operating_point(*aim, chosen, test, resamples) for aim in aims],
    }
    return metrics | of_classes(everything, resamples=resamples)


def of_classes(test: Predicted, *, resamples: int) -> dict[str, Any]:
    """Returns the sections of diagnoses or own classes and of melanoma, as `of_decisions` has them; nothing of two
    classes alone.
    """
    if test.classes.num_logits == 1:
        return {}
    each = _each_class(test, resamples=resamples) if test.classes.own else _melanoma(test, resamples=resamples)
    return _diagnoses(test.diagnosed, resamples=resamples) | each


def of_own_classes(validation: Predicted, test: Predicted, *, resamples: int) -> dict[str, Any]:
    """Returns what is measured of classes none of which is looked for: how often the most probable one is right.

    These are `diagnosis`, `diagnosis_equal_shares` and `confusion`; `classes`, for each how its probability ranks; and
    `probabilities`, `uncalibrated` and `calibration`, as of the most probable class.
    """
    of_each, groups = test.of_classes, test.groups
    right = of_each.max(axis=1)
    low, high = calibration.calibrated_ece(right, groups)
    before = class_probabilities(test.logits)
    return {
        **of_classes(test, resamples=resamples),
        "probabilities": sections.probabilities(test.targets, of_each, groups, resamples=resamples),
        "uncalibrated": sections.probabilities(test.targets, before, groups, resamples=resamples),
        "calibration": {
            "temperature": test.calibration.temperature,
            "shift": list(test.calibration.shift),
            "fitted_on": len(validation.rows),
            "shares": dict(zip(test.classes.names, test.shares, strict=True)),
            "ece_by_chance": {"low": low, "high": high},
        },
    }


def _each_class(test: Predicted, *, resamples: int) -> dict[str, Any]:
    names = test.classes.names
    found = sections.against_the_rest(test.targets, test.of_classes, names, test.groups, resamples=resamples)
    return {"classes": found}


def _diagnoses(test: Predicted, *, resamples: int) -> dict[str, Any]:
    """Returns the sections of `sections.diagnosis`; nothing where fewer than two classes are there."""
    if len(set(test.targets.tolist())) < 2:
        return {}
    names = test.classes.names
    return sections.diagnosis(test.targets, test.of_classes, names, test.shares, test.groups, resamples=resamples)


def _melanoma(test: Predicted, *, resamples: int) -> dict[str, Any]:
    """Returns how well the probability of melanoma ranks; nothing without such a class or images of both kinds."""
    if "melanoma" not in test.classes.names:
        return {}
    said, labels = test.against_all("melanoma")
    if len(set(labels.tolist())) < 2:
        return {}
    own = said.of_classes[:, test.classes.names.index("melanoma")]
    return {"melanoma": sections.ranking(labels, own, said.groups, resamples=resamples)}


def of_validation(validation: Predicted, *, resamples: int) -> dict[str, Any]:
    """Returns what was promised on the images that chose weights and thresholds."""
    if not validation.classes.has_sides:
        of_each = validation.targets, validation.of_classes
        area, many = weighted.multiclass_statistics(*of_each)["macro_roc_auc"], len(validation.rows)
        value = {"macro_roc_auc": float(area(np.ones((1, many)))[0]), "n": float(many)}
        return bootstrap.entries(value, {"macro_roc_auc": area}, validation.groups, resamples=resamples)
    validation = validation.judged
    areas = weighted.roc_auc(validation.labels, validation.malignancy)
    value = {"roc_auc": float(areas(np.ones((1, len(validation.rows))))[0]), "n": float(len(validation.rows))}
    return bootstrap.entries(value, {"roc_auc": areas}, validation.groups, resamples=resamples)


def of_masks(overlaps: Overlaps, *, resamples: int) -> dict[str, Any]:
    """Returns the scores of predicted masks; nothing where there are none."""
    if not overlaps:
        return {}
    rows, per_image = zip(*overlaps, strict=True)
    return sections.segmentation(per_image, [row.group for row in rows], resamples=resamples)


def of_subgroups(
    rows: Sequence[Row],
    labels: np.ndarray,
    probabilities: np.ndarray,
    threshold: float,
    masks: Mapping[str, MaskRow],
    overlaps: Overlaps,
    *,
    min_size: int,
    resamples: int,
) -> list[dict]:
    """Returns sizes and metrics by sex, age, site and so on, see `subgroups.by_subgroup`.

    Args:
      rows: [n] the images.
      labels: [n] bool, malignant.
      probabilities: [n] of malignancy.
      threshold: probability from which an image is called malignant.
      masks: what the bridge made of each, by image id.
      overlaps: scores of their masks, where these are annotated.
      min_size: as in `subgroups.by_subgroup`.
      resamples: as in `bootstrap.intervals`.
    """
    fallbacks = [masks[row.image_id].fallback for row in rows]
    facts = {
        "sex": [row.sex for row in rows],
        "age": [subgroups.age_band(row.age) for row in rows],
        "site": [row.site for row in rows],
        "skin tone": [row.skin_tone for row in rows],
        "collection": [row.source for row in rows],
        "origin": [row.origin for row in rows],
        "confirmation": [row.confirmation for row in rows],
        "image size": [subgroups.size_band(row.width, row.height) for row in rows],
        "mask": [f"whole image ({reason})" if reason else "lesion" for reason in fallbacks],
    }
    scores = {row.image_id: score for row, score in overlaps}
    return subgroups.by_subgroup(
        facts,
        labels,
        probabilities,
        threshold,
        [row.group for row in rows],
        min_size=min_size,
        resamples=resamples,
        per_image=[scores.get(row.image_id) for row in rows],
    )


def of_evidence(
    test: Predicted, shares: Sequence[tuple[float, float]], *, places: int, resamples: int
) -> dict[str, Any]:
    """Returns means over the images that have evidence at all, see `explanation.inside_share`."""
    told = [(share, area, row) for (share, area), row in zip(shares, test.rows, strict=True) if not np.isnan(share)]
    if not told:
        return {}
    inside, area, rows = zip(*told, strict=True)
    columns = {"inside_share": np.array(inside), "area_share": np.array(area)}
    columns["excess"] = columns["inside_share"] - columns["area_share"]
    values = {name: float(column.mean()) for name, column in columns.items()}
    values |= {"n": float(len(rows)), "places": float(places)}
    statistics = {name: weighted.mean(column) for name, column in columns.items()}
    return bootstrap.entries(values, statistics, [row.group for row in rows], resamples=resamples)


def _operating_point(aim: str, level: float, validation: Predicted, test: Predicted, resamples: int) -> dict[str, Any]:
    threshold = _threshold(aim, level, validation)
    section = sections.operating_point(test.labels, test.malignancy, test.groups, threshold, resamples=resamples)
    return {"aim": aim, "level": level, "threshold": threshold} | section


def _threshold(aim: str, level: float, validation: Predicted) -> float:
    """Returns the threshold that reaches the aim on all validation images and in each collection of at least FEWEST.

    A collection is better recognised than another, and one that nobody has seen is rather like the worst of them.
    """
    choose, of_all, counted = {
        "sensitivity": (classification.threshold_for_sensitivity, min, True),
        "specificity": (classification.threshold_for_specificity, max, False),
    }[aim]
    sources = np.array([row.source for row in validation.rows])
    collections = [validation.where(sources == source) for source in sorted(set(sources.tolist()))]
    enough = [one for one in collections if len(set(one.labels)) == 2 and (one.labels == counted).sum() >= FEWEST]
    return of_all(choose(part.labels, part.malignancy, level) for part in [validation, *enough])
