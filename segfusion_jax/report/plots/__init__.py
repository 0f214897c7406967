"""Figures of a run: drawings as PNG and SVG, galleries of images as PNG.

Every function writes its figure and returns it. Figures are objects of their own, without pyplot, so nothing global is
touched and threads may draw.
"""

from segfusion_jax.report.plots.comparisons import Row, forest
from segfusion_jax.report.plots.curves import Judged, decision_curve, pr_curve, roc_curve
from segfusion_jax.report.plots.galleries import (
    Explanation,
    Missed,
    augmentation_sheet,
    bridge_panels,
    explanations,
    false_negatives,
    segmentation_overlays,
)
from segfusion_jax.report.plots.scores import Reliability, confusion_matrix, probability_histogram, reliability_diagram
from segfusion_jax.report.plots.training import training_curves

__all__ = [
    "Explanation",
    "Judged",
    "Missed",
    "Reliability",
    "Row",
    "augmentation_sheet",
    "bridge_panels",
    "confusion_matrix",
    "decision_curve",
    "explanations",
    "false_negatives",
    "forest",
    "pr_curve",
    "probability_histogram",
    "reliability_diagram",
    "roc_curve",
    "segmentation_overlays",
    "training_curves",
]
