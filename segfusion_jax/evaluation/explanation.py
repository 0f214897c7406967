"""Whether a classifier looks at the lesion: where its evidence lies, against a mask."""

import cv2
import numpy as np


def inside_share(evidence: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """Returns the shares of the evidence for and of that against that lie in the lesion, and the lesion's of the
    picture.

    Its magnitude counts: what speaks against malignancy decides as much as what speaks for it. The second share is the
    yardstick of the first: evidence that is spread evenly, or that knows nothing of the lesion, lies inside in just
    that share. Evidence of a place counts by the part of the place's area that is lesion. So nothing is
    claimed of where within a place it lies, as interpolating it to the mask's resolution would, and a lesion smaller
    than a place counts in full, where thresholding at the evidence's resolution would lose it.

    Args:
      evidence: signed, float [rows, columns], on a grid over the picture.
      mask: [height, width] of the same picture, at least as fine: bool, or uint8 with 255 = lesion and shares of lesion
        between.

    Returns:
      Both in [0, 1]; the first is NaN where there is no evidence at all.

    Raises:
      ValueError: the mask is coarser than the evidence, or of another dtype.
    """
    if mask.dtype not in (np.uint8, np.bool_):
        raise ValueError(f"mask is {mask.dtype}: must be bool or uint8")
    if mask.ndim != 2 or mask.shape[0] < evidence.shape[0] or mask.shape[1] < evidence.shape[1]:
        raise ValueError(
            f"mask is {mask.shape}: must be (height, width), each at least that of evidence {evidence.shape}"
        )
    rows, columns = evidence.shape
    lesion = mask / np.float64(np.iinfo(np.uint8).max if mask.dtype == np.uint8 else 1)
    share = cv2.resize(lesion, (columns, rows), interpolation=cv2.INTER_AREA)
    strength = np.abs(np.asarray(evidence, np.float64))
    total = strength.sum()
    inside = float((strength * share).sum() / total) if total > 0 else float("nan")
    return inside, float(lesion.mean())
