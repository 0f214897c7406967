import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segfusion_jax.config import BRIDGE_MODES, Bridge, Classifier, Segmenter
from segfusion_jax.models import preprocessing
from segfusion_jax.models.functional import Functional
from segfusion_jax.training import losses, steps
from segfusion_jax.training.state import create_state
from tests.training import toy


def red_above(params, batch_stats, image, *, train, **_):
    assert not train
    return 100 * (image[..., :1] - params), batch_stats


THRESHOLDING = Functional(red_above, {}, {}, preprocessing.NONE)
"""A segmenter without weights but one: lesion is where red is above `params`."""


@pytest.mark.parametrize("decay", [0.5, 0.9])
def test_moving_average_is_that_of_a_loop_by_hand(decay):
    params, batch_stats = toy.variables()
    optimizer = optax.sgd(0.5)
    step = steps.make_train_step(toy.objective, optimizer, seed=0, ema_decay=decay)
    devices = toy.devices(2)
    compiled = devices.compile_train_step(step)
    state = devices.replicate(create_state(params, batch_stats, optimizer, ema_decay=decay))
    batch, seen = toy.batch(toy.examples(4)), []
    for _ in range(5):
        state, _ = compiled(state, batch)
        seen.append(jax.device_get((state.params, state.batch_stats)))
    average = seen[0]  # initial weights are forgotten at once, and early steps count alike
    for number, new in enumerate(seen[1:], start=1):
        rate = min(decay, number / (number + 1))
        average = jax.tree.map(lambda a, b, rate=rate: rate * a + (1 - rate) * b, average, new)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), state.evaluated, average)
    assert abs(average[0]["bias"] - state.params["bias"]) > 1e-3


def test_without_an_average_the_weights_themselves_are_evaluated():
    state = create_state(*toy.variables(), optax.sgd(0.1), ema_decay=0.0)
    assert state.average == () and state.evaluated[0] is state.params and state.evaluated[1] is state.batch_stats


def quietly(params, batch_stats, batch, key):
    """The toy objective without its noise, each class with its own weight."""
    colour = batch["image"].astype(jnp.float32).mean((1, 2)) / 255
    mean = 0.9 * batch_stats["mean"] + 0.1 * jax.lax.pmean(colour.mean(0), toy.AXIS)
    values = optax.sigmoid_binary_cross_entropy((colour - 0.5) @ params["weight"][0] + params["bias"], batch["label"])
    return values * jnp.where(batch["label"] == 1, 2.0, 0.5), {"mean": mean}


def train(objective, batches, *, count=1, api="shard_map", **options):
    """The state and the metrics after a step on each of the batches."""
    optimizer = optax.adam(0.1)
    step = steps.make_train_step(objective, optimizer, seed=0, ema_decay=0.9, **options)
    devices = toy.devices(count, api)
    compiled, states, history = devices.compile_train_step(step), [], []
    state = devices.replicate(create_state(*toy.variables(), optimizer, ema_decay=0.9))
    for batch in batches:
        state, metrics = compiled(state, batch)
        states.append(jax.device_get(state))
        history.append(jax.device_get(metrics))
    return states, history


def padded_batch() -> dict:
    """Sixteen examples, of which the last five are padding."""
    batch = toy.batch(toy.examples(16))
    batch["weight"][11:] = 0
    return batch


def colours(params, batch_stats, images, **_):
    """A segmenter whose logit is linear in a pixel's colour."""
    return images @ params, batch_stats


def mean_colours(params, batch_stats, x, *, method="__call__", **_):
    """A classifier whose logits are linear in the image's mean colour."""
    x = x if method == "classify" else x.mean((1, 2))
    return x if method == "features" else x @ params, batch_stats


def of_classes(loss: str, logits: int, *, head_only: bool) -> steps.Objective:
    model = Functional(mean_colours, {}, {}, preprocessing.NONE)
    weights = tuple(np.linspace(0.5, 3, max(logits, 2)))
    config = Classifier(loss=loss)
    return steps.classification_objective(model, Bridge(mode="dim"), config, class_weights=weights, head_only=head_only)


def test_a_frozen_body_predicts_and_only_the_head_drops_out():
    calls = []

    def apply(params, batch_stats, x, *, method, train=None, key=None):
        calls.append((method, train, key))
        return mean_colours(params, batch_stats, x, method=method)

    model, options = Functional(apply, {}, {}, preprocessing.NONE), dict(class_weights=(1.0, 1.0), head_only=True)
    batch = {"image": np.zeros((2, 4, 4, 3), np.uint8), "mask": np.zeros((2, 4, 4, 1), np.uint8)}
    batch["label"] = np.zeros(2, np.int32)
    objective = steps.classification_objective(model, Bridge(mode="dim"), Classifier(), **options)
    objective(np.zeros((3, 1), np.float32), {}, batch, "key")
    assert calls == [("features", False, None), ("classify", None, "key")]


def test_statistics_that_are_each_devices_own_are_averaged():
    def objective(params, batch_stats, batch, key):
        return params * batch["weight"], {"mean": batch["weight"].mean()}

    step = steps.make_train_step(objective, optax.sgd(1.0), seed=0, ema_decay=0.0)
    devices = toy.devices(2)
    state = devices.replicate(create_state(jnp.zeros(()), {"mean": jnp.zeros(())}, optax.sgd(1.0), ema_decay=0.0))
    state, _ = devices.compile_train_step(step)(state, {"weight": np.array([1, 1, 3, 5], np.float32)})
    assert float(state.batch_stats["mean"]) == 2.5


def test_the_objectives_have_the_configs_loss():
    rng = np.random.default_rng(0)
    batch = {"image": rng.integers(0, 256, (3, 4, 4, 3), np.uint8), "mask": np.full((3, 4, 4, 1), 255, np.uint8)}
    batch["label"] = np.array([0, 1, 1], np.int32)
    params = rng.normal(size=(3, 1)).astype(np.float32)
    for kind in ("bce", "dice", "bce_dice"):
        model = Functional(colours, {}, {}, preprocessing.NONE)
        found, _ = steps.segmentation_objective(model, Segmenter(loss=kind))(params, {}, batch, None)
        logits = batch["image"] / np.float32(255) @ params
        expected = losses.segmentation_loss(logits, np.ones_like(logits), kind=kind)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    model, config = Functional(mean_colours, {}, {}, preprocessing.NONE), Classifier(loss="focal", focal_gamma=5.0)
    options = dict(class_weights=(1.0, 3.0), head_only=False)
    found, _ = steps.classification_objective(model, Bridge(mode="black"), config, **options)(params, {}, batch, None)
    logits = (batch["image"].mean((1, 2)) / 255 @ params).astype(np.float32)
    options = dict(kind="focal", focal_gamma=5.0, class_weights=(1.0, 3.0))
    np.testing.assert_allclose(found, losses.classification_loss(logits, batch["label"], **options), rtol=1e-4)


@pytest.mark.parametrize(
    ("objective", "logits"),
    [
        (steps.segmentation_objective(Functional(colours, {}, {}, preprocessing.NONE), Segmenter(loss="bce_dice")), 1),
        (of_classes("cross_entropy", 1, head_only=True), 1),
        (of_classes("focal", 1, head_only=False), 1),
        (of_classes("cross_entropy", 7, head_only=False), 7),
        (of_classes("focal", 7, head_only=False), 7),
    ],
    ids=["masks", "head", "focal", "classes", "focal classes"],
)
def test_the_loss_is_the_mean_of_the_examples_that_are_no_padding(objective, logits):
    """Two devices with two microbatches each, one of which is padding only."""
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (16, 4, 4, 3), np.uint8),
        "mask": rng.integers(0, 256, (16, 4, 4, 1), np.uint8),
        "label": rng.integers(0, max(logits, 2), 16).astype(np.int32),
        "weight": np.ones(16, np.float32),
    }
    batch["weight"][[1, 5, 8, 9, 10, 11, 15]] = 0
    real = {name: array[batch["weight"] > 0] for name, array in batch.items()}
    params = rng.normal(size=(3, logits)).astype(np.float32)
    expected, gradient = jax.value_and_grad(lambda params: objective(params, {}, real, None)[0].mean())(params)
    step = steps.make_train_step(objective, optax.sgd(1.0), seed=0, ema_decay=0.0, microbatches=2)
    devices = toy.devices(2)
    state = devices.replicate(create_state(params, {}, optax.sgd(1.0), ema_decay=0.0))
    state, metrics = devices.compile_train_step(step)(state, batch)
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(params - state.params, gradient, rtol=1e-4, atol=1e-6)
    assert np.abs(gradient).max() > 0.01


@pytest.mark.parametrize(("count", "api", "microbatches"), [(1, "shard_map", 8), (2, "shard_map", 2), (2, "pmap", 2)])
def test_microbatches_add_up_to_the_batch(count, api, microbatches):
    batches = [padded_batch()] * 4
    whole, parts = (train(quietly, batches, count=count, api=api, microbatches=k) for k in (1, microbatches))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), whole, parts)
    assert np.abs(whole[0][-1].params["weight"]).max() > 0.1


def test_each_microbatch_draws_its_own_noise_and_the_whole_batch_what_it_always_drew():
    def objective(params, batch_stats, batch, key):
        return params["drawn"][batch["part"]] * jax.random.uniform(key, (1,)), batch_stats

    def drawn(microbatches):
        step = steps.make_train_step(objective, optax.sgd(1.0), seed=3, ema_decay=0.0, microbatches=microbatches)
        state = create_state({"drawn": jnp.zeros(4)}, {}, optax.sgd(1.0), ema_decay=0.0)
        batch = {"part": np.arange(8, dtype=np.int32) // 2, "weight": np.ones(8, np.float32)}
        state, _ = toy.devices(1).compile_train_step(step)(state, batch)
        return -4 * np.asarray(state.params["drawn"])

    numbers = drawn(4)
    assert len(np.unique(np.round(numbers, 4))) == 4 and (numbers > 0).all() and (numbers < 1).all()
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(3), 0), 0)  # of seed, step and device
    np.testing.assert_allclose(drawn(1), np.full(4, jax.random.uniform(key, (1,))), rtol=1e-6)


def test_statistics_that_the_objective_leaves_alone_stay_bit_for_bit():
    def objective(params, batch_stats, batch, key):
        return params["weight"] * batch["weight"], batch_stats

    step = steps.make_train_step(objective, optax.sgd(1.0), seed=0, ema_decay=0.0, microbatches=7)
    statistics = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    state = create_state({"weight": jnp.zeros(())}, {"mean": jnp.array(statistics)}, optax.sgd(1.0), ema_decay=0.0)
    state, _ = toy.devices(1).compile_train_step(step)(state, {"weight": np.ones(7, np.float32)})
    np.testing.assert_array_equal(state.batch_stats["mean"], statistics)


def test_a_share_that_cannot_be_cut_into_microbatches_is_refused():
    with pytest.raises(ValueError, match="^microbatches = 3: must divide the 8 images of a device"):
        train(quietly, [padded_batch()], count=2, microbatches=3)


def broken(kind: str) -> dict:
    """A batch whose loss, or only the gradient of it, is not finite because of one example, of the last device's."""
    batch = toy.batch(toy.examples(16))
    batch["flaw"] = np.zeros(16, np.float32)
    batch["flaw"][13] = {"none": 0, "loss": np.nan, "gradient": 1}[kind]
    return batch


def flawed(params, batch_stats, batch, key):
    values, batch_stats = quietly(params, batch_stats, batch, key)
    return values + jnp.sqrt(
        1 - batch["flaw"] + 0 * params["bias"]
    ), batch_stats  # of a flaw of 1 the slope is infinite


@pytest.mark.parametrize(("count", "api", "microbatches"), [(1, "shard_map", 1), (4, "shard_map", 2), (4, "pmap", 1)])
@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(count, api, microbatches, kind):
    batches = [broken("none"), broken("none"), broken(kind), broken("none")]
    states, history = train(flawed, batches, count=count, api=api, microbatches=microbatches, skip_nonfinite=True)
    _, before, after, later = states
    assert (before.step, after.step, later.step) == (2, 3, 4)
    for name in ("params", "batch_stats", "opt_state", "average"):
        jax.tree.map(np.testing.assert_array_equal, getattr(before, name), getattr(after, name))
    assert [metrics["skipped"] for metrics in history] == [0, 0, 1, 0] and history[2]["skipped"].dtype == np.float32
    assert np.isfinite(history[2]["loss"]) == (kind == "gradient") and not np.isfinite(history[2]["gradient_norm"])
    assert np.abs(later.params["weight"] - after.params["weight"]).max() > 1e-3


def test_unless_asked_for_steps_that_are_not_finite_are_made_and_nothing_is_counted():
    states, history = train(flawed, [broken("none"), broken("loss")])
    assert [set(metrics) for metrics in history] == [{"loss", "gradient_norm"}] * 2
    assert np.isnan(states[-1].params["bias"])
    skipping, _ = train(flawed, [broken("none")], skip_nonfinite=True)
    jax.tree.map(np.testing.assert_array_equal, skipping[0], states[0])


def test_segmentation_scores_by_hand():
    red = np.array([[255, 255, 0, 0], [0, 0, 0, 0]], np.uint8)
    image = np.zeros((3, 2, 4, 3), np.uint8)
    image[0, ..., 0], image[1, ..., 0] = red, red
    mask = np.zeros((3, 2, 4, 1), np.uint8)
    mask[0, 0, :3] = 255
    mask[1, 1] = 255
    scores = steps.make_segmentation_scores(THRESHOLDING)((0.5, {}), {"image": image, "mask": mask})
    np.testing.assert_allclose(scores["dice"], [2 * 2 / (2 + 3), 0.0, 1.0], rtol=1e-6)
    # logits are +-50: a wrong pixel of eight costs 50 / 8
    np.testing.assert_allclose(scores["loss"], [50 / 8, 6 * 50 / 8, 0.0], rtol=1e-6, atol=1e-6)


def test_masks_of_several_unets_are_the_mean_of_their_probabilities():
    image = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), dtype=np.uint8)
    thresholds = np.array([0.2, 0.5, 0.6], np.float32)
    together = steps.make_ensemble(steps.make_segment(THRESHOLDING))((thresholds, {}), {"image": image})
    single = [1 / (1 + np.exp(-100 * (image[..., 0] / 255 - threshold))) for threshold in thresholds]
    assert together.shape == (2, 4, 6) and together.dtype == jnp.float32
    np.testing.assert_allclose(together, np.mean(single, axis=0), atol=1e-4)


def mean_inputs(params, batch_stats, images, *, train, **_):
    """A classifier whose logit is the mean of the first channel."""
    return images.mean((1, 2))[:, :1] + params, batch_stats


def shares_of(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def test_logits_and_losses_of_seven_diagnoses():
    def diagnose(params, batch_stats, images, *, train, **_):
        return images.mean((1, 2, 3))[:, None] * params, batch_stats

    weights = np.linspace(-3, 4, 7, dtype=np.float32)
    image = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    batch = {"image": image, "mask": np.full((5, 4, 4, 1), 255, np.uint8), "label": np.arange(5, dtype=np.int32) + 2}
    model, bridge = Functional(diagnose, {}, {}, preprocessing.NONE), Bridge(mode="black")
    logits = image.mean((1, 2, 3), keepdims=False)[:, None] / 255 * weights
    shares = shares_of(logits)
    np.testing.assert_allclose(steps.make_classify(model, bridge)((weights, {}), batch), logits, rtol=1e-5)
    options = dict(class_weights=(1.0,) * 7, head_only=False)
    loss, _ = steps.classification_objective(model, bridge, Classifier(), **options)(weights, {}, batch, None)
    np.testing.assert_allclose(loss, -np.log(shares[np.arange(5), batch["label"]]), rtol=1e-4)


@pytest.mark.parametrize("mode", BRIDGE_MODES)
def test_whatever_the_bridge_removes_the_whole_image_is_described(mode):
    def describe(params, batch_stats, x, method):
        return x.mean((1, 2)), batch_stats

    image = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    mask = np.zeros((2, 4, 4, 1), np.uint8)
    mask[:, 1:3] = 255
    model = Functional(describe, {}, {}, preprocessing.NONE)
    found = steps.make_describe(model, Bridge(mode=mode))(({}, {}), {"image": image, "mask": mask})
    np.testing.assert_allclose(found[:, :3], image.mean((1, 2)) / 255, rtol=1e-5)
    np.testing.assert_array_equal(found[:, 3:], np.ones((2, 1 if mode == "channel" else 0)))


@pytest.mark.parametrize("expects", [preprocessing.IMAGENET, preprocessing.CENTRED])
def test_models_see_images_as_their_weights_expect(expects):
    image, mask = np.full((1, 2, 2, 3), 51, np.uint8), np.full((1, 2, 2, 1), 255, np.uint8)
    model = Functional(mean_inputs, {}, {}, expects)
    batch = {"image": image, "mask": mask, "label": np.ones(1, np.int32)}
    logits = steps.make_classify(model, Bridge(mode="black"))((0.0, {}), batch)
    red = (0.2 - expects.mean[0]) / expects.std[0]
    np.testing.assert_allclose(logits, [[red]], rtol=1e-5)
    objective = steps.classification_objective(
        model, Bridge(mode="black"), Classifier(), class_weights=(1.0, 1.0), head_only=False
    )
    loss, _ = objective(0.0, {}, batch, None)
    np.testing.assert_allclose(loss, np.log1p(np.exp(-red)), rtol=1e-5)


def test_segmenters_see_images_as_their_weights_expect():
    image = np.full((1, 2, 2, 3), 51, np.uint8)
    centred = THRESHOLDING._replace(preprocessing=preprocessing.CENTRED)
    probability = steps.make_segment(centred)((0.0, {}), {"image": image})
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(60.0)), rtol=1e-3)  # 0.2 becomes -0.6
    scores = steps.make_segmentation_scores(centred)((0.0, {}), {"image": image, "mask": 0 * image[..., :1]})
    np.testing.assert_allclose(scores["dice"], 1.0)
    uncentred = steps.make_segmentation_scores(THRESHOLDING)((0.0, {}), {"image": image, "mask": 0 * image[..., :1]})
    np.testing.assert_allclose(uncentred["dice"], 0.0)


def test_the_bridge_gives_the_mask_as_a_fourth_channel():
    image = np.full((1, 2, 2, 3), 51, np.uint8)
    mask = np.array([[0, 255], [255, 102]], np.uint8).reshape(1, 2, 2, 1)
    inputs = steps.bridged({"image": image, "mask": mask}, Bridge(mode="channel"))
    np.testing.assert_allclose(inputs[0, 0, 0, :3], 0.2, rtol=1e-5)
    np.testing.assert_allclose(inputs[0, :, :, 3], [[0, 1], [1, 0.4]], rtol=1e-6)
    black = steps.bridged({"image": image, "mask": mask}, Bridge(mode="black"))
    assert black.shape == (1, 2, 2, 3)
    np.testing.assert_array_equal(black[0, 0, 0], 0)


def test_the_moving_average_starts_with_the_first_update_that_is_not_skipped():
    states, _ = train(flawed, [broken("loss"), broken("loss"), broken("none")], skip_nonfinite=True)
    assert [int(state.skipped) for state in states] == [1, 2, 2]
    jax.tree.map(np.testing.assert_array_equal, states[-1].average, (states[-1].params, states[-1].batch_stats))
    assert np.abs(states[-1].params["weight"]).max() > 0
