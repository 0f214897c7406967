"""Train and predict steps: pure functions of one device's share of a batch, with collectives over the axis "data"."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Protocol, cast

import jax
import jax.numpy as jnp
import optax
from jax import lax

from segfusion_jax.bridge import masked
from segfusion_jax.bridge.levels import WHOLE, to_unit
from segfusion_jax.bridge.modes import MODES
from segfusion_jax.config import Bridge, Classifier, Segmenter
from segfusion_jax.models.functional import Functional, Variables
from segfusion_jax.models.malignancy import malignancy_logit
from segfusion_jax.ops.warp import recolour, warp_affine
from segfusion_jax.runtime.devices import AXIS
from segfusion_jax.training import losses
from segfusion_jax.training.state import TrainState
from segfusion_jax.training.test_time import mean_over_orientations

DeviceBatch = dict[str, jax.Array]


class Objective(Protocol):
    """Loss of each example of a batch in training mode."""

    def __call__(
        self, params: Variables, batch_stats: Variables, batch: DeviceBatch, key: jax.Array
    ) -> tuple[jax.Array, Variables]:
        """Returns the losses [batch] and the new batch-norm statistics."""
        ...


def segmentation_objective(unet: Functional, config: Segmenter) -> Objective:
    """Makes the objective of a U-Net against annotated masks."""

    def objective(params, batch_stats, batch, key):
        images = unet.preprocessing(to_unit(batch["image"]))
        logits, batch_stats = unet.apply(params, batch_stats, images, train=True, key=key)
        return losses.segmentation_loss(logits, to_unit(batch["mask"]), kind=config.loss), batch_stats

    return objective


def classification_objective(
    classifier: Functional,
    bridge: Bridge,
    config: Classifier,
    *,
    class_weights: tuple[float, ...],
    coarse: losses.Coarse = (),
    head_only: bool,
) -> Objective:
    """Makes the objective of a classifier on bridged images.

    Args:
      classifier: the network that is trained.
      bridge: how the mask meets the image.
      config: config, which names the loss.
      class_weights: weight of each label.
      coarse: the labels that leave several classes possible.
      head_only: train the last layer on features of the frozen rest, which runs in inference mode, its statistics too.
    """

    def logits_of(params, batch_stats, inputs, key):
        if not head_only:
            return classifier.apply(params, batch_stats, inputs, train=True, key=key)
        frozen = lax.stop_gradient(params)
        features, _ = classifier.apply(frozen, batch_stats, inputs, train=False, method="features")
        logits, _ = classifier.apply(params, batch_stats, features, key=key, method="classify")
        return logits, batch_stats

    def objective(params, batch_stats, batch, key):
        inputs = classifier.preprocessing(bridged(batch, bridge))
        logits, batch_stats = logits_of(params, batch_stats, inputs, key)
        options: dict[str, Any] = dict(kind=config.loss, focal_gamma=config.focal_gamma)
        options |= dict(class_weights=class_weights, coarse=coarse)
        loss = losses.classification_loss(logits, batch["label"], **options)
        return loss, batch_stats

    return objective


def make_train_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    ema_decay: float,
    microbatches: int = 1,
    skip_nonfinite: bool = False,
) -> Callable[[TrainState, DeviceBatch], tuple[TrainState, dict[str, jax.Array]]]:
    """Makes the step that updates once by the mean loss over the batches of all devices.

    The step's metrics are `loss` and `gradient_norm`, equal on all devices. Padding (weight 0) does not count.
    Randomness is a function of seed, step, device and microbatch.

    Microbatches save memory. Their gradients add up to the batch's; but batch norm sees one microbatch at a time, as in
    other frameworks, so that a network with batch norm learns as if each microbatch were on a device of its own whose
    batch norm is not synchronised. With batch norm synchronised, the i-th microbatches of all devices share their
    statistics. What saves memory and changes no number is the models' `remat`.

    Args:
      objective: the loss whose mean over the batch is made smaller.
      optimizer: optimiser of the parameters.
      seed: seed of dropout and stochastic depth.
      ema_decay: decay of the moving average, where the state has one.
      microbatches: equal parts that a device works its share of the batch through in, one after the other.
      skip_nonfinite: a step whose loss or gradient norm is not finite changes nothing but the state's counts; the
        metric `skipped`, float32, is 1 for such a step and 0 for others.

    Raises:
      ValueError: when it is traced, if a device's share cannot be cut into that many parts.
    """

    def step(state: TrainState, batch: DeviceBatch):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), state.step), lax.axis_index(AXIS))
        total = lax.psum(batch["weight"].sum(), AXIS)

        def share_of_loss(params, part, key):
            values, batch_stats = objective(params, state.batch_stats, part, key)
            return (values * part["weight"]).sum() / total, batch_stats

        differentiate = jax.value_and_grad(share_of_loss, has_aux=True)
        if microbatches > 1:
            differentiate = _over_parts(differentiate, microbatches)
        (loss, batch_stats), gradients = differentiate(state.params, batch, key)
        loss, gradients = lax.psum((loss, gradients), AXIS)
        batch_stats = lax.pmean(batch_stats, AXIS)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = cast(Variables, optax.apply_updates(state.params, updates))
        average = _averaged(state.average, (params, batch_stats), ema_decay, state.step - state.skipped)
        metrics = {"loss": loss, "gradient_norm": optax.tree.norm(gradients)}
        new = TrainState(state.step + 1, state.skipped, params, batch_stats, opt_state, average)
        if skip_nonfinite:
            is_finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["gradient_norm"])
            kept = dataclasses.replace(state, step=new.step, skipped=state.skipped + 1)
            new = jax.tree.map(functools.partial(jnp.where, is_finite), new, kept)
            metrics["skipped"] = 1 - is_finite.astype(jnp.float32)
        return new, metrics

    return step


def make_on_device_step(step: Callable) -> Callable:
    """Makes a train step on examples that are on the device: `(examples, state, draws) -> (state, metrics)`.

    Args:
      step: result of `make_train_step`.

    Returns:
      A function of `examples`, arrays [number of examples, ...] named as in a batch, and of `draws`: `index` int32
      [batch] of the examples to take, `matrix` float32 [batch, 2, 3], by which image and mask are warped, and `colours`
      float32 [batch, 3, 4], by which the image is recoloured.
    """

    def on_device_step(examples: DeviceBatch, state: TrainState, draws: DeviceBatch):
        batch = jax.tree.map(lambda array: array[draws["index"]], examples)
        pixels = warp_affine(jnp.concatenate([batch["image"], batch["mask"]], axis=-1), draws["matrix"])
        image = recolour(pixels[..., :3], draws["colours"])
        return step(state, batch | {"image": image, "mask": pixels[..., 3:]})

    return on_device_step


def make_segmentation_scores(unet: Functional) -> Callable[[Any, DeviceBatch], dict[str, jax.Array]]:
    """Makes what turns images and masks into `dice` and `loss` (cross-entropy), each [batch], at the network's
    resolution.

    The variables it takes are (params, batch_stats). Dice is that of the masks thresholded at one half; 1 where both
    are empty.
    """

    def scores(variables, batch):
        logits, _ = unet.apply(*variables, unet.preprocessing(to_unit(batch["image"])), train=False)
        mask = to_unit(batch["mask"])
        predicted, annotated = logits > 0, mask >= 0.5
        overlap, total = (predicted & annotated).sum((1, 2, 3)), predicted.sum((1, 2, 3)) + annotated.sum((1, 2, 3))
        dice = jnp.where(total > 0, 2 * overlap / jnp.maximum(total, 1), 1.0)
        return {"dice": dice, "loss": losses.segmentation_loss(logits, mask, kind="bce")}

    return scores


def make_segment(unet: Functional, orientations: int = 1) -> Callable[[Any, DeviceBatch], jax.Array]:
    """Makes what turns images into lesion probability [batch, height, width] float32, the mean over 1 or 8
    orientations.

    The variables it takes are (params, batch_stats).
    """

    def segment(variables, batch):
        def probability(images):
            logits, _ = unet.apply(*variables, images, train=False)
            return jax.nn.sigmoid(logits[..., 0])

        images = unet.preprocessing(to_unit(batch["image"]))
        return mean_over_orientations(probability, images, orientations, is_map=True)

    return segment


def make_classify(
    classifier: Functional, bridge: Bridge, orientations: int = 1
) -> Callable[[Any, DeviceBatch], jax.Array]:
    """Makes what turns images and masks into logits [batch, 1 or classes] float32, the mean over 1 or 8 orientations.

    The variables it takes are (params, batch_stats).
    """

    def classify(variables, batch):
        def logits(inputs):
            return classifier.apply(*variables, inputs, train=False)[0]

        images = classifier.preprocessing(bridged(batch, bridge))
        return mean_over_orientations(logits, images, orientations, is_map=False)

    return classify


def make_describe(classifier: Functional, bridge: Bridge) -> Callable[[Any, DeviceBatch], jax.Array]:
    """Makes what turns whole images, whatever the bridge removes, into `middle_features` [batch, features] float32.

    The variables it takes are (params, batch_stats).
    """
    unmasked = dataclasses.replace(bridge, mode=MODES[bridge.mode].unmasked)

    def describe(variables, batch):
        inputs = classifier.preprocessing(bridged(batch | {"mask": jnp.full_like(batch["mask"], WHOLE)}, unmasked))
        features, _ = classifier.apply(*variables, inputs, method="middle_features")
        return features

    return describe


def make_explain(
    classifier: Functional, bridge: Bridge, positive: tuple[bool, ...]
) -> Callable[[Any, DeviceBatch], jax.Array]:
    """Makes what turns images and masks into evidence for malignancy [batch, height, width] float32, on the last maps'
    grid.

    Evidence at a place is the sum over channels of activation times gradient of the logit of malignancy: Grad-CAM
    (Selvaraju et al., arXiv 1610.02391) before its ReLU, element by element as HiResCAM (Draelos and Carin, arXiv
    2011.08891). Behind global pooling, as here, the gradient is the same at every place, so that the two differ by the
    number of places only. It is in units of the logit: how fast the logit grows with a factor on the activations of
    that place. With an EfficientNet of one logit, all evidence and the last layer's bias add up to the logit. Where the
    logit is not linear in the maps, behind MobileNetV3's hidden layer or of several classes, evidence is what each
    place adds to first order.

    The variables it takes are (params, batch_stats).

    Args:
      classifier: a network of one logit, or of one a class.
      bridge: how the mask meets the image.
      positive: which classes count as malignant. Where none does, evidence is that for the class which this network
        finds the most probable.
    """

    def explain(variables, batch):
        inputs = classifier.preprocessing(bridged(batch, bridge))
        maps = classifier.apply(*variables, inputs, train=False, method="maps")[0].astype(jnp.float32)

        def malignancy(maps):
            features, _ = classifier.apply(*variables, maps, method="pool")
            logits, _ = classifier.apply(*variables, features, method="classify")
            return malignancy_logit(logits, positive).sum()

        return (jax.grad(malignancy)(maps) * maps).sum(-1)

    return explain


def make_ensemble(predict: Callable[[Any, DeviceBatch], jax.Array]) -> Callable[[Any, DeviceBatch], jax.Array]:
    """Makes the mean of what `predict` gives with each of the variables of several models of equal shape.

    The variables it takes are those of `predict` with a leading axis, one entry a model.
    """

    def ensemble(variables, batch):
        return lax.map(lambda one: predict(one, batch), variables).mean(0)

    return ensemble


def bridged(batch: DeviceBatch, bridge: Bridge) -> jax.Array:
    """Returns the masked images, [batch, height, width, 3 or 4] in [0, 1]."""
    return masked.apply(to_unit(batch["image"]), to_unit(batch["mask"]), bridge)


def _over_parts(differentiate, number):
    """Applies `differentiate` to a batch part by part: sums losses and gradients, averages batch-norm statistics."""

    def of_parts(params, batch, key):
        size = len(batch["weight"])
        if size % number:
            raise ValueError(f"microbatches = {number}: must divide the {size} images of a device")
        parts = jax.tree.map(lambda array: array.reshape(number, size // number, *array.shape[1:]), batch)

        def add(sums, numbered_part):
            index, part = numbered_part
            (loss, batch_stats), gradients = differentiate(params, part, jax.random.fold_in(key, index))
            return jax.tree.map(jnp.add, sums, (loss, gradients)), batch_stats

        zeros = jnp.zeros(()), jax.tree.map(jnp.zeros_like, params)
        (loss, gradients), batch_stats = lax.scan(add, zeros, (jnp.arange(number), parts))
        return (loss, jax.tree.map(_mean_of_parts, batch_stats)), gradients

    return of_parts


def _mean_of_parts(array):
    """Averages over the first axis; of equal values exactly that value, so that frozen statistics stay as they are."""
    return array[0] + (array - array[0]).mean(0)


def _averaged(average, variables, decay, updates):
    """Returns the moving average, which starts as the mean of the first updates so as to forget initial weights."""
    if not average:
        return ()
    rate = jnp.minimum(decay, updates / (updates + 1.0))
    return jax.tree.map(lambda old, new: rate * old + (1 - rate) * new, average, variables)
