"""What the metrics of evaluate/metrics.json are called, and with how many digits they are shown."""

from collections.abc import Iterable, Mapping
from typing import Any

from segfusion_jax.report.blocks import Estimate, Scale, Table

Entries = Mapping[str, Mapping[str, float]]
"""Metric to value, and low and high of its interval, and in how many resamples it was undefined."""

SECTIONS = {
    "classification": "Classification",
    "uncalibrated": "Classification before calibration",
    "melanoma": "Melanoma against all others",
    "diagnosis": "Diagnoses",
    "diagnosis_equal_shares": "Diagnoses as if all were equally frequent",
    "probabilities": "Probabilities of classes",
    "segmentation": "Segmentation",
    "explanation": "Explanation",
}
"""The keys of metrics.json that hold a section, and what it is called."""

_LABELS = {
    "dice": "Dice",
    "jaccard": "Jaccard index",
    "thresholded_jaccard": "Jaccard index, 0 below 0.65",
    "boundary_iou": "Boundary IoU",
    "hausdorff_95": "95 % Hausdorff distance (pixels)",
    "hausdorff_95_diagonal": "95 % Hausdorff distance (% of the diagonal)",
    "surface_distance": "Mean surface distance (pixels)",
    "surface_distance_diagonal": "Mean surface distance (% of the diagonal)",
    "failure_rate": "Failures (Jaccard < 0.65)",
    "zero_rate": "Misses (Jaccard 0)",
    "roc_auc": "ROC-AUC",
    "pr_auc": "PR-AUC (average precision)",
    "partial_auc": "Partial AUC (sensitivity ≥ 0.8)",
    "macro_roc_auc": "ROC-AUC, mean over classes",
    "mcc": "Matthews correlation",
    "f1": "F1",
    "ppv": "PPV",
    "npv": "NPV",
    "brier": "Brier score",
    "log_loss": "Log loss",
    "ece": "Expected calibration error",
    "inside_share": "Evidence within the lesion",
    "area_share": "Area of the lesion",
    "places": "Places of the evidence's grid",
    "excess": "Evidence within, less the area",
    "n": "Images",
}
_DIGITS = {
    "n": 0,
    "groups": 0,
    "places": 0,
    "hausdorff_95": 1,
    "surface_distance": 1,
    "hausdorff_95_diagonal": 2,
    "surface_distance_diagonal": 2,
}
_OFF_SCALE = ("threshold", "log_loss", "partial_auc", *_DIGITS)  # not a share of 1


def label(name: str) -> str:
    """Returns what a metric is called."""
    return _LABELS.get(name, name.replace("_", " ").capitalize())


def estimate(name: str, entry: Mapping[str, float]) -> Estimate:
    """Returns the entry of a metric."""
    return Estimate(entry["value"], entry.get("low"), entry.get("high"), _DIGITS.get(name, 3))


def metrics_table(title: str, section: Entries, note: str = "") -> Table:
    """Makes a table with a row for each metric: value, interval, and both drawn between 0 and 1."""
    rows = []
    for name, entry in section.items():
        shown = estimate(name, entry)
        scale = "" if name in _OFF_SCALE else Scale(*shown[:3])
        rows.append((label(name), Estimate(shown.value, digits=shown.digits), shown.told, scale))
    undefined = [
        f"{label(name)} in {entry['undefined']:.0f}" for name, entry in section.items() if "undefined" in entry
    ]
    if undefined:
        note = f"{note} Resamples without a value, which the interval passes over: {', '.join(undefined)}.".strip()
    return Table(title, ("Metric", "Value", "95 % interval", "0 to 1"), rows, note)


def estimates(names: Iterable[str], section: Mapping[str, Any]) -> list[Estimate | None]:
    """Returns the entries of the metrics `names`; None for what the section does not have."""
    return [estimate(name, section[name]) if name in section else None for name in names]
