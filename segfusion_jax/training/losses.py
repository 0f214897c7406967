"""Losses, as one value an example: [batch] float32. Weighting and averaging are the step's."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from segfusion_jax.config import is_plugin
from segfusion_jax.runtime import plugins

Coarse = tuple[tuple[bool, ...], ...]
"""The classes that each coarse label leaves possible; as labels their numbers follow those of the classes."""


def segmentation_loss(logits: jax.Array, mask: jax.Array, *, kind: str) -> jax.Array:
    """Returns how far predicted masks are from annotated ones.

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
    logits: jax.Array,
    label: jax.Array,
    *,
    kind: str,
    focal_gamma: float,
    class_weights: tuple[float, ...],
    coarse: Coarse = (),
) -> jax.Array:
    """Returns how far predicted probabilities are from labels.

    The probability p of a coarse label is the sum of those of its classes.

    Args:
      logits: float32, [batch, 1] of class 1 against class 0 (sigmoid), or [batch, classes] (softmax).
      label: [batch] int32 numbers of classes, from 0, and of coarse labels.
      kind: "cross_entropy", -log p of the label; or "focal", (1 - p)^gamma times that (Lin et al.,
        arXiv 1708.02002); or somebody's own, by "package.module:name", see `plugins.protocols.Loss`.
      focal_gamma: exponent of the focal loss.
      class_weights: weight of each label.
      coarse: the coarse labels; with a softmax only, and none of them of all classes.
    """
    if is_plugin(kind):
        loss = _own_loss(logits, label, kind, coarse)
    elif logits.shape[-1] == 1:
        loss = _sigmoid_loss(logits, label, kind, focal_gamma)
    else:
        loss = _softmax_loss(logits, label, kind, focal_gamma, coarse)
    return loss * jnp.asarray(class_weights, jnp.float32)[label]


def _own_loss(logits, label, kind, coarse):
    if logits.shape[-1] == 1:
        logits = jnp.concatenate([jnp.zeros_like(logits), logits], axis=-1)
    return plugins.load(kind, "classifier.loss")(logits, _possible(logits.shape[-1], coarse)[label])


def _possible(classes: int, coarse: Coarse) -> jax.Array:
    """Returns the classes that each label leaves possible, [labels, classes] bool."""
    return jnp.asarray(np.concatenate([np.eye(classes, dtype=bool), np.array(coarse, bool).reshape(-1, classes)]))


def _sigmoid_loss(logits, label, kind, gamma):
    target = label.astype(jnp.float32)
    if kind == "focal":
        return optax.sigmoid_focal_loss(logits[:, 0], target, gamma=gamma)
    return optax.sigmoid_binary_cross_entropy(logits[:, 0], target)


def _softmax_loss(logits, label, kind, gamma, coarse):
    if coarse:
        inside = _possible(logits.shape[-1], coarse)[label]
        others = ~inside
        within, without = (jax.nn.logsumexp(logits, axis=-1, where=where) for where in (inside, others))
        loss = jax.nn.softplus(without - within)  # -log(within / (within + without)), to the last digit
    else:
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, label)
        others = jax.nn.one_hot(label, logits.shape[-1]) == 0
    if kind == "cross_entropy":
        return loss
    # 1 - p as a ratio of sums: finite gradients where p rounds to 1
    log_rest = jax.nn.logsumexp(logits, axis=-1, where=others) - jax.nn.logsumexp(logits, axis=-1)
    return jnp.exp(gamma * log_rest) * loss
