"""The section that sets beside each other what a run reaches on each of its collections."""

from segfusion_jax.report import labels
from segfusion_jax.report.blocks import Cell, Section, Table
from segfusion_jax.report.finished_run import FinishedRun

_COLUMNS = (
    ("novelty", "n", "Held-out images"),
    ("segmentation", "dice", "Dice"),
    ("classification", "roc_auc", "ROC-AUC, malignant"),
    ("melanoma", "roc_auc", "ROC-AUC, melanoma"),
    ("diagnosis_equal_shares", "balanced_accuracy", "Balanced accuracy of diagnoses"),
    ("classification", "ece", "Expected calibration error"),
    ("classification", "sensitivity", "Sensitivity"),
    ("classification", "specificity", "Specificity"),
    ("sensitive", "sensitivity", "Sensitivity, sensitive point"),
    ("sensitive", "specificity", "Specificity, sensitive point"),
    ("novelty", "flagged", "Flagged as unfamiliar"),
)
"""Section of a collection, metric in it, heading."""


def by_collection(run: FinishedRun) -> Section:
    """Makes the section, which is empty where there is one collection only."""
    collections = run.metrics.get("collections", {})
    if not collections:
        return Section("Collections", [])
    rows: list[tuple[Cell, ...]] = []
    for name, sections in collections.items():
        entries = [sections.get(section, {}).get(metric) for section, metric, _ in _COLUMNS]
        named = zip(_COLUMNS, entries, strict=True)
        rows.append((name, *(labels.estimate(metric, entry) if entry else None for (_, metric, _), entry in named)))
    note = (
        "Held-out images of each. A dash: its labels or masks do not say, or images of one kind are missing. "
        "Sensitivity and specificity are at the model's threshold; the sensitive point was chosen for a sensitivity of "
        "95 % on validation images, in each collection that has enough."
    )
    return Section("Collections", [Table("By collection", ("Collection", *(h for *_, h in _COLUMNS)), rows, note)])
