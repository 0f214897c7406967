"""Malignancy of several classes: the sum over those that count as malignant, on the host and on the device.

Of somebody's own classes it is the sum over those that are looked for.
"""

from collections.abc import Sequence

import jax
import numpy as np


def malignancy(probabilities: np.ndarray, positive: Sequence[bool] | np.ndarray) -> np.ndarray:
    """Returns the probability that an image is malignant, float64 [...], at most 1.

    Args:
      probabilities: [..., classes], which sum to 1.
      positive: [classes] bool, True for the malignant classes.

    Raises:
      ValueError: `positive` is not bool or not of as many classes.
    """
    probabilities, chosen = np.asarray(probabilities, dtype=np.float64), np.asarray(positive)
    if chosen.dtype != bool or chosen.shape != probabilities.shape[-1:]:
        raise ValueError(
            f"positive: {chosen.dtype} array of shape {chosen.shape}: must be bool, one a class of probabilities"
            f" {probabilities.shape}"
        )
    return np.minimum(probabilities[..., chosen].sum(axis=-1), 1.0)  # a sum may round to just above 1


def malignancy_logit(logits: jax.Array, positive: Sequence[bool]) -> jax.Array:
    """Returns log(p / (1 - p)) of the probability p that `malignancy` gives, on the device.

    Args:
      logits: float32, [batch, 1] of class 1 against class 0, which is the result, or [batch, classes].
      positive: whether each class counts as malignant, at least one of each kind; or none does, and of each image its
        most probable class counts.

    Returns:
      [batch] float32, finite however small p or 1 - p is.
    """
    if logits.shape[-1] == 1:
        return logits[:, 0]
    chosen = np.array(positive)
    if not chosen.any():
        chosen = jax.nn.one_hot(logits.argmax(-1), logits.shape[-1]) == 1
    return jax.nn.logsumexp(logits, axis=-1, where=chosen) - jax.nn.logsumexp(logits, axis=-1, where=~chosen)
