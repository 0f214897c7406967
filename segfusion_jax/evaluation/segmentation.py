"""How well a predicted mask meets its annotation, one image at a time: overlap, boundary and distances.

Overlap follows the rules of ISIC 2018 Task 1 (https://github.com/ImageMarkup/isic-challenge-scoring): masks are
compared at the annotation's own resolution, a ratio without cases (0/0) counts as 1, and the mean is taken over images,
never over pooled pixels. Distances are those of MONAI: exact Euclidean distances between the centres of surface pixels,
where the surface of a mask is what an erosion with the four neighbours takes away, and all outside of the image counts
as skin.
"""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from scipy.spatial import KDTree

from segfusion_jax.annotations.lesion import AmbiguousMask
from segfusion_jax.annotations.lesion import lesion as annotated_lesion

FAILURE_JACCARD = 0.65  # below this, ISIC 2018 counts a segmentation as failed
BOUNDARY = 0.02  # width of the boundary of the boundary IoU, as a share of the image's diagonal


def binarise(mask: np.ndarray, lesion: str = "auto", *, ignored: int = -1) -> np.ndarray:
    """Returns the lesion of a mask as it is stored in a PNG file; `prepare` reads masks by the same function.

    Args:
      mask: [height, width] uint8, of 0 and 1, of 0 and 255, or soft.
      lesion: which levels are lesion: "auto", "above_128" (the official rule of ISIC), "nonzero", "inverted", or a
        level such as "1"; see `annotations.lesion`.
      ignored: level of pixels that nobody judged, which count as skin; -1 = there are none.

    Returns:
      [height, width] bool.

    Raises:
      ValueError: the mask is not two-dimensional uint8, or "auto" can read it in two ways; says which.
    """
    try:
        return annotated_lesion(mask, lesion, ignored=ignored)
    except AmbiguousMask as error:
        raise ValueError(f"mask whose lesion cannot be told: {error}; say so by the argument `lesion`") from error


def score(prediction: np.ndarray, annotation: np.ndarray) -> dict[str, float]:
    """Scores one predicted mask.

    Two empty masks agree perfectly: distances are 0 and all else is 1. Where one of the two is empty, the distances are
    the image's diagonal, and the boundary IoU is 0.

    Args:
      prediction: [height, width] bool, True where the model sees lesion.
      annotation: [height, width] bool, True where the annotator sees lesion.

    Returns:
      `dice`, `jaccard`, `thresholded_jaccard` (the Jaccard index, or 0 where it is below 0.65), `sensitivity`,
      `specificity` and `accuracy` of the pixels and `boundary_iou` (of Cheng et al., CVPR 2021: the Jaccard index of
      what lies within 2 % of the image's diagonal of the masks' own border, by chessboard distance, as in their code),
      each in [0, 1]; `hausdorff_95` (the larger of the 95th percentiles of the distances from each surface to the
      other) and `surface_distance` (average symmetric: the mean of all these distances together) in pixels, and the
      same as `hausdorff_95_diagonal` and `surface_distance_diagonal` in % of the image's diagonal.

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
    diagonal = float(np.hypot(*annotation.shape))
    lesions = _cut(prediction, annotation)
    hausdorff_95, surface_distance = _distances(lesions, diagonal)
    return {
        "dice": _ratio(2 * hits, predicted + annotated),
        "jaccard": jaccard,
        "thresholded_jaccard": jaccard if jaccard >= FAILURE_JACCARD else 0.0,
        "sensitivity": _ratio(hits, annotated),
        "specificity": _ratio(rejected, annotation.size - annotated),
        "accuracy": _ratio(hits + rejected, annotation.size),
        "boundary_iou": _boundary_iou(lesions, max(1, round(BOUNDARY * diagonal))),
        "hausdorff_95": hausdorff_95,
        "hausdorff_95_diagonal": 100 * hausdorff_95 / diagonal,
        "surface_distance": surface_distance,
        "surface_distance_diagonal": 100 * surface_distance / diagonal,
    }


def columns(per_image: Sequence[Mapping[str, float]]) -> dict[str, np.ndarray]:
    """Turns what `score` returned for each of n images into the columns whose means are the summary.

    Returns:
      Float64 [n] for each key of `score`, for `failure_rate` (1 where the Jaccard index is below 0.65, else 0) and for
      `zero_rate` (1 where it is 0, else 0).

    Raises:
      ValueError: there are no images.
    """
    if not per_image:
        raise ValueError("per_image is empty: at least one image is needed")
    values = {name: np.array([scores[name] for scores in per_image], dtype=np.float64) for name in per_image[0]}
    failed, missed = values["jaccard"] < FAILURE_JACCARD, values["jaccard"] == 0
    return values | {"failure_rate": failed.astype(np.float64), "zero_rate": missed.astype(np.float64)}


def summarise(per_image: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Returns the means of `columns` over images, and the number of images, `n`.

    Raises:
      ValueError: there are no images.
    """
    return {name: float(values.mean()) for name, values in columns(per_image).items()} | {"n": float(len(per_image))}


def _ratio(numerator: int, denominator: int) -> float:
    return numerator / denominator if denominator else 1.0


def _cut(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the masks as uint8, cut to the box around both with a margin of one pixel of skin."""
    left, top, width, height = cv2.boundingRect((first | second).astype(np.uint8))
    box = np.s_[top : top + height, left : left + width]
    return np.pad(first[box].astype(np.uint8), 1), np.pad(second[box].astype(np.uint8), 1)


def _boundary_iou(lesions: tuple[np.ndarray, np.ndarray], width: int) -> float:
    square = np.ones((3, 3), np.uint8)
    first, second = (lesion - cv2.erode(lesion, square, iterations=width) for lesion in lesions)
    return _ratio(int(np.minimum(first, second).sum()), int(np.maximum(first, second).sum()))


def _distances(lesions: tuple[np.ndarray, np.ndarray], diagonal: float) -> tuple[float, float]:
    """Returns the 95th percentile of the Hausdorff distance and the average symmetric surface distance, in pixels."""
    present = [lesion.any() for lesion in lesions]
    if not all(present):
        distance = diagonal if any(present) else 0.0
        return distance, distance
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    surfaces = [np.argwhere(lesion - cv2.erode(lesion, cross)) for lesion in lesions]
    there, back = (KDTree(goal).query(start)[0] for start, goal in (surfaces, surfaces[::-1]))
    return (float(max(np.percentile(there, 95), np.percentile(back, 95))), float(np.concatenate([there, back]).mean()))
