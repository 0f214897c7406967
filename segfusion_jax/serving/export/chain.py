"""Image in, mask and probabilities out: `SegFusion.predict` as one pure function of a batch, on the device."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from segfusion_jax.bridge import traced
from segfusion_jax.bridge.masked import WHOLE
from segfusion_jax.bridge.traced_resize import Range, crop, resize
from segfusion_jax.config import Bridge
from segfusion_jax.serving.segfusion import SegFusion
from segfusion_jax.training.steps import DeviceBatch

Chain = Callable[[jax.Array], dict[str, jax.Array]]
"""Images uint8 [batch, height, width, 3] to what `make_chain` says."""

MODES_THAT_CROP = ("crop", "crop_dilate")
MODES_THAT_DILATE = ("dilate", "crop_dilate")


def make_chain(model: SegFusion) -> Chain:
    """The chain of a model, its weights within.

    Returns:
      A function of RGB images, uint8 [batch, height, width, 3], of any one size, to a dict of
        lesion: [batch, height, width] float32, the U-Nets' probability of lesion;
        mask: [batch, height, width] float32 in [0, 1], that probability after cleaning, 1 where the whole image is
          taken; the lesion is where it reaches `config.bridge.threshold`;
        fallback: [batch] int32, why the whole image is taken, a number in `traced.FALLBACKS`;
        probabilities: [batch, classes] float32, calibrated, of the model's own prevalence;
        malignant: [batch] float32, sum of the probabilities of what counts as malignant.
    """
    bridge, size = model.config.bridge, model.config.segmenter.image_size
    positive = np.array(model.classifiers.classes.positive)
    unets, classifiers = model.segmenters.variables, model.classifiers.variables

    def chain(images):
        pixels = images.astype(jnp.float32)
        batch = {"image": resize(pixels, size).astype(jnp.uint8)}
        probability = model.segmenters.segment(unets, batch)
        levels = jnp.round(probability * WHOLE)
        mask, fallback = traced.clean(levels.astype(jnp.int32), bridge)
        bridged = _framed(pixels, mask, bridge, model.config.classifier.image_size)
        logits = model.classifiers.classify(classifiers, bridged)
        shares = _probabilities(logits / model.calibration.temperature + jnp.array(model.calibration.shift))
        return {
            "lesion": _at_size(levels, images.shape[1:3]),
            "mask": _at_size(mask.astype(jnp.float32), images.shape[1:3]),
            "fallback": fallback,
            "probabilities": shares,
            "malignant": jnp.where(positive, shares, 0).sum(-1),
        }

    return chain


def _framed(pixels: jax.Array, mask: jax.Array, bridge: Bridge, size: tuple[int, int]) -> DeviceBatch:
    """`bridge.frame` and resizing: what the classifiers take.

    Args:
      pixels: [batch, height, width, 3] float32, whole numbers.
      mask: [batch, height of the U-Nets, width of the U-Nets] int32.
      bridge: whose mode decides.
      size: (height, width) of the classifiers.
    """
    if bridge.mode in MODES_THAT_DILATE:
        mask = traced.dilate(mask, bridge)
    levels = mask.astype(jnp.float32)[..., None]
    if bridge.mode not in MODES_THAT_CROP:
        parts = resize(pixels, size), resize(levels, size)
    else:
        (height, width), (rows, columns) = mask.shape[1:], traced.box(mask, bridge)
        of_image = _scaled(rows, height, pixels.shape[1]), _scaled(columns, width, pixels.shape[2])
        parts = crop(pixels, *of_image, size), crop(levels, rows, columns, size)
    image, mask = (part.astype(jnp.uint8) for part in parts)
    return {"image": image, "mask": mask}


def _scaled(ends: Range, old: int, new: int) -> Range:
    """From first and last + 1 of `old` pixels to those of `new`, outwards, as `bridge.frame` cuts the image."""
    start, stop = ends
    return lax.div(start * new, old), lax.div(stop * new + old - 1, old)


def _at_size(levels: jax.Array, size: tuple[int, int]) -> jax.Array:
    """[batch, any height, any width] in [0, 255] to [batch, *size] in [0, 1]."""
    return resize(levels[..., None], size)[..., 0] / WHOLE


def _probabilities(logits: jax.Array) -> jax.Array:
    """As `ensembles.class_probabilities`."""
    if logits.shape[-1] == 1:
        logits = jnp.concatenate([jnp.zeros_like(logits), logits], axis=-1)
    return jax.nn.softmax(logits, axis=-1)
