"""What the training images look like to the first classifier, and which test images do not look like them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from segfusion_jax.datasets.prepared import Prepared
from segfusion_jax.datasets.table import Row
from segfusion_jax.evaluation import bootstrap, novelty, weighted
from segfusion_jax.input.examples import Examples
from segfusion_jax.pipeline.run import Run
from segfusion_jax.pipeline.split import evenly_spaced
from segfusion_jax.serving.ensembles import ClassifierEnsemble

MOST_IMAGES = 2000
"""That the Gaussian is fitted on: ten times as many as it has features, and soon done."""
FEWEST = 100
"""Validation images by which a collection has a say in the limit."""


def fit(run: Run) -> novelty.Novelty:
    """Fits the Gaussian to images that train the first classifier; its limit is of those that chose its weights.

    The limit lets pass the share `KEPT` of all of these and of each collection that has at least `FEWEST` of them.
    """
    train = evenly_spaced(run.split.training[0], MOST_IMAGES)
    _, validation = run.split.validation[0]
    fitted = novelty.fit(_features(run.prepared, run.classifiers, train))
    return limited(fitted, _features(run.prepared, run.classifiers, validation), [row.source for row in validation])


def limited(fitted: novelty.Novelty, features: np.ndarray, collections: Sequence[str]) -> novelty.Novelty:
    """Returns the Gaussian with the largest of the limits of all images and of each collection that has enough.

    Args:
      fitted: the Gaussian.
      features: [n, features] of validation images.
      collections: [n] names of their collections.
    """
    names, counts = np.unique(collections, return_counts=True)
    parts = [features[np.array(collections) == name] for name in names[counts >= FEWEST]]
    return max((fitted.limited(part) for part in [features, *parts]), key=lambda one: one.limit)


def score(
    prepared: Prepared, classifiers: ClassifierEnsemble, fitted: novelty.Novelty, rows: Sequence[Row]
) -> np.ndarray:
    """Returns how far each image is from the training images over the limit, float64 [n]."""
    return fitted.score(_features(prepared, classifiers, rows))


def metrics(scores: np.ndarray, groups: Sequence[str], *, resamples: int) -> dict[str, Any]:
    """Returns the share of images that are flagged, with its interval, and the share that the limit was set to let
    pass.
    """
    flagged = scores > 1
    values = {"flagged": float(flagged.mean()), "kept": novelty.KEPT, "n": float(flagged.size)}
    statistics = {"flagged": weighted.mean(flagged)}
    return bootstrap.entries(values, statistics, groups, resamples=resamples)


def _features(prepared: Prepared, classifiers: ClassifierEnsemble, rows: Sequence[Row]) -> np.ndarray:
    source = Examples(prepared, rows, classifiers.novelty_size)
    return np.stack([features for _, features in classifiers.describe(source)])
