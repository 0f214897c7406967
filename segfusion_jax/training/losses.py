"""Losses, as one value an example: [batch] float32. Weighting and averaging are the step's."""

import jax
import jax.numpy as jnp
import optax


def segmentation_loss(logits: jax.Array, mask: jax.Array, *, kind: str) -> jax.Array:
    """How far predicted masks are from annotated ones.

    Args:
      logits: [batch, height, width, 1] float32.
      mask: [batch, height, width, 1] float32 shares of lesion in [0, 1].
      kind: "bce", the mean binary cross-entropy of the pixels; "dice", 1 - soft Dice of the image (Milletari et al.,
        arXiv 1606.04797, with sums instead of squares in the denominator); "bce_dice", their sum.
    """
    bce = optax.sigmoid_binary_cross_entropy(logits, mask).mean((1, 2, 3))
    if kind == "bce":
        return bce
    probability = jax.nn.sigmoid(logits)
    overlap = 2 * (probability * mask).sum((1, 2, 3)) + 1.0
    dice = 1 - overlap / (probability.sum((1, 2, 3)) + mask.sum((1, 2, 3)) + 1.0)
    return dice if kind == "dice" else bce + dice


def classification_loss(
    logits: jax.Array, label: jax.Array, *, kind: str, focal_gamma: float, class_weights: tuple[float, float]
) -> jax.Array:
    """How far predicted probabilities are from labels.

    Args:
      logits: [batch] float32 logits of 'malignant'.
      label: [batch] int32, 0 or 1.
      kind: "bce", or "focal" (Lin et al., arXiv 1708.02002).
      focal_gamma: exponent of the focal loss.
      class_weights: of the labels 0 and 1.
    """
    target = label.astype(jnp.float32)
    if kind == "focal":
        loss = optax.sigmoid_focal_loss(logits, target, gamma=focal_gamma)
    else:
        loss = optax.sigmoid_binary_cross_entropy(logits, target)
    return loss * jnp.asarray(class_weights, jnp.float32)[label]
