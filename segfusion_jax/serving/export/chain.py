"""Image in, mask and probabilities out: `SegFusion.predict` as one pure function of a batch, on the device."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from segfusion_jax.bridge.levels import WHOLE, to_levels, to_unit
from segfusion_jax.bridge.traced import frame, place
from segfusion_jax.bridge.traced_clean import clean
from segfusion_jax.bridge.traced_resize import resize
from segfusion_jax.models.malignancy import malignancy_logit
from segfusion_jax.serving.segfusion import SegFusion
from segfusion_jax.training.steps import DeviceBatch, bridged

Chain = Callable[[jax.Array], dict[str, jax.Array]]
"""Images uint8 [batch, height, width, 3] to what `make_chain` says."""


def make_chain(model: SegFusion, *, explain: bool = False) -> Chain:
    """Makes the chain of a model, its weights within.

    Args:
      model: the model.
      explain: whether the chain also says where the evidence is.

    Returns:
      A function of RGB images, uint8 [batch, height, width, 3], of any one size, to a dict of
        lesion: [batch, height, width] float32, the U-Nets' probability of lesion;
        mask: [batch, height, width] float32 in [0, 1], that probability after cleaning, 1 where the whole image is
          taken; the lesion is where it reaches `config.bridge.threshold`;
        fallback: [batch] int32, why the whole image is taken, a number in `traced_clean.FALLBACKS`;
        probabilities: [batch, classes] float32, calibrated, of the model's own prevalence;
        malignant: [batch] float32, the probability of what counts as malignant; not there where no class does;
        novelty: [batch] float32, how far the image is from those of the training: above 1 it is not familiar.
      With `explain` also
        evidence: [batch, rows, columns] float32, that of `SegFusion.explain` on its coarse grid, which lies over
        frame: [batch, 4] int32, the part of the image that the classifiers see: top, left, bottom and right, of which
          the latter two are not in it;
        bridged: [batch, *classifier's size, 3] uint8, that part as the bridge shows it to them.
    """
    bridge, size = model.config.bridge, model.config.segmenter.image_size
    positive = model.classifiers.classes.positive
    unets, classifiers = model.segmenters.variables, model.classifiers.variables

    def chain(images):
        pixels = images.astype(jnp.float32)
        levels = to_levels(model.segmenters.segment(unets, {"image": resize(pixels, size).astype(jnp.uint8)}))
        mask, fallback = clean(levels.astype(jnp.int32), bridge)
        image, shown = frame(pixels, mask, bridge, model.config.classifier.image_size)
        framed: DeviceBatch = {"image": image, "mask": shown}
        logits = model.classifiers.classify(classifiers, framed)
        calibrated = logits / model.calibration.temperature + jnp.array(model.calibration.shift)
        sought = {"malignant": jax.nn.sigmoid(malignancy_logit(calibrated, positive))} if any(positive) else {}
        said = {
            "lesion": _at_size(levels, images.shape[1:3]),
            "mask": _at_size(mask, images.shape[1:3]),
            "fallback": fallback,
            "probabilities": _probabilities(calibrated),
            **sought,
            "novelty": _novelty(model, pixels),
        }
        if not explain:
            return said
        return said | {
            "evidence": model.classifiers.attribute(classifiers, framed),
            "frame": place(mask, bridge, images.shape[1:3]),
            "bridged": jnp.round(WHOLE * bridged(framed, bridge)[..., :3]).astype(jnp.uint8),
        }

    return chain


def _novelty(model: SegFusion, pixels: jax.Array) -> jax.Array:
    """Does what `SegFusion.novelty` does, with images [batch, height, width, 3] float32."""
    ours, first = model.familiarity, jax.tree.map(lambda leaf: leaf[:1], model.classifiers.variables)
    images = resize(pixels, model.classifiers.novelty_size).astype(jnp.uint8)
    whole = jnp.full((*images.shape[:3], 1), WHOLE, jnp.uint8)
    features = model.classifiers.characterise(first, {"image": images, "mask": whole})
    whitened = jnp.dot(features - ours.mean, ours.whitening, precision="highest")
    return jnp.sqrt(jnp.square(whitened).sum(-1)) / ours.limit


def _at_size(levels: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Brings [batch, any height, any width] in [0, 255] to [batch, *size] in [0, 1]."""
    return to_unit(resize(levels.astype(jnp.float32)[..., None], size)[..., 0])


def _probabilities(logits: jax.Array) -> jax.Array:
    """Turns logits into probabilities of the classes, as `ensembles.class_probabilities` does."""
    if logits.shape[-1] == 1:
        logits = jnp.concatenate([jnp.zeros_like(logits), logits], axis=-1)
    return jax.nn.softmax(logits, axis=-1)
