"""Figures of a run: drawings as PNG and SVG, galleries of images as PNG.

Every function writes its figure and returns it. Figures are objects of their own, without pyplot, so nothing global is
touched and threads may draw.
"""

from segfusion_jax.report.plots.comparisons import Row as Row
from segfusion_jax.report.plots.comparisons import forest as forest
from segfusion_jax.report.plots.curves import Judged as Judged
from segfusion_jax.report.plots.curves import decision_curve as decision_curve
from segfusion_jax.report.plots.curves import pr_curve as pr_curve
from segfusion_jax.report.plots.curves import roc_curve as roc_curve
from segfusion_jax.report.plots.galleries import Explanation as Explanation
from segfusion_jax.report.plots.galleries import Missed as Missed
from segfusion_jax.report.plots.galleries import augmentation_sheet as augmentation_sheet
from segfusion_jax.report.plots.galleries import bridge_panels as bridge_panels
from segfusion_jax.report.plots.galleries import explanations as explanations
from segfusion_jax.report.plots.galleries import false_negatives as false_negatives
from segfusion_jax.report.plots.galleries import segmentation_overlays as segmentation_overlays
from segfusion_jax.report.plots.protocols import Line as Line
from segfusion_jax.report.plots.protocols import Stated as Stated
from segfusion_jax.report.plots.protocols import ladder as ladder
from segfusion_jax.report.plots.protocols import stated_curves as stated_curves
from segfusion_jax.report.plots.scores import MALIGNANT as MALIGNANT
from segfusion_jax.report.plots.scores import Reliability as Reliability
from segfusion_jax.report.plots.scores import confusion_matrix as confusion_matrix
from segfusion_jax.report.plots.scores import probability_histogram as probability_histogram
from segfusion_jax.report.plots.scores import reliability_diagram as reliability_diagram
from segfusion_jax.report.plots.training import training_curves as training_curves
