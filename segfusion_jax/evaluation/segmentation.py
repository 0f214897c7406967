"""Overlap of a predicted mask with its annotation, one image at a time, by the rules of ISIC 2018 Task 1.

The rules are those of https://github.com/ImageMarkup/isic-challenge-scoring: masks are compared at the annotation's own
resolution, a ratio without cases (0/0) counts as 1, and the mean is taken over images, never over pooled pixels.
"""

from collections.abc import Mapping, Sequence

import numpy as np

FAILURE_JACCARD = 0.65  # below this, ISIC 2018 counts a segmentation as failed


def overlap(prediction: np.ndarray, annotation: np.ndarray) -> dict[str, float]:
    """Scores one predicted mask.

    Args:
      prediction: [height, width] bool, True where the model sees lesion.
      annotation: [height, width] bool, True where the annotator sees lesion.

    Returns:
      `dice`, `jaccard`, `thresholded_jaccard` (the Jaccard index, or 0 where it is below 0.65), `sensitivity`,
      `specificity` and `accuracy` of the pixels, each in [0, 1].

    Raises:
      ValueError: a mask is not two-dimensional bool or is empty, or the two differ in shape.
    """
    for name, mask in (("prediction", prediction), ("annotation", annotation)):
        if mask.dtype != bool or mask.ndim != 2 or not mask.size:
            raise ValueError(f"{name}: {mask.dtype} array of shape {mask.shape}: must be bool [height, width]")
    if prediction.shape != annotation.shape:
        raise ValueError(f"prediction has shape {prediction.shape}: must be the annotation's, {annotation.shape}")
    predicted, annotated, hits = (int(mask.sum()) for mask in (prediction, annotation, prediction & annotation))
    union = predicted + annotated - hits
    rejected = annotation.size - union
    jaccard = _ratio(hits, union)
    return {
        "dice": _ratio(2 * hits, predicted + annotated),
        "jaccard": jaccard,
        "thresholded_jaccard": jaccard if jaccard >= FAILURE_JACCARD else 0.0,
        "sensitivity": _ratio(hits, annotated),
        "specificity": _ratio(rejected, annotation.size - annotated),
        "accuracy": _ratio(hits + rejected, annotation.size),
    }


def summarise(per_image: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over images of what `overlap` returned, with the share of failures and the number of images.

    Returns:
      The keys of `overlap`, `failure_rate` (share of images with a Jaccard index below 0.65) and `n`.

    Raises:
      ValueError: there are no images.
    """
    if not per_image:
        raise ValueError("per_image is empty: at least one image is needed")
    means = {name: float(np.mean([scores[name] for scores in per_image])) for name in per_image[0]}
    failures = [scores["jaccard"] < FAILURE_JACCARD for scores in per_image]
    return means | {"failure_rate": float(np.mean(failures)), "n": float(len(per_image))}


def _ratio(numerator: int, denominator: int) -> float:
    return numerator / denominator if denominator else 1.0
