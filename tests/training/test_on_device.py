"""Training on examples that are on the devices against training on streamed ones."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segfusion_jax.config import Augmentation, Checkpointing, Input
from segfusion_jax.input.loader import STEPS_PER_BLOCK, TrainStream, decode_all
from segfusion_jax.training import metric_log, on_device, steps
from segfusion_jax.training.fit import fit
from segfusion_jax.training.state import create_state
from segfusion_jax.training.task import Task
from tests.training import toy

STILL = Augmentation(rotation=0, shift_height=0, shift_width=0, zoom=0, flip_horizontal=False, flip_vertical=False)
FLIPS = dataclasses.replace(STILL, flip_horizontal=True, flip_vertical=True)
OPTIMIZER = optax.adam(1e-2)
INPUT = Input(num_threads=2, log_seconds=1e9)
STEP = steps.make_train_step(toy.objective, OPTIMIZER, seed=1, ema_decay=0.5)
WAYS = [(1, "shard_map"), (4, "shard_map"), (4, "pmap")]


def validate(*_) -> dict[str, float]:
    return {"auc": 0.5, "loss": 0.7}


@dataclasses.dataclass(frozen=True)
class Pictures(toy.Examples):
    """Toy pictures whose masks are not plain."""

    def __getitem__(self, index: int) -> dict:
        example = super().__getitem__(index)
        return example | {"mask": example["image"][..., 1:2]}


def stream(*, is_resident: bool, augmentation: Augmentation = STILL) -> TrainStream:
    return TrainStream(Pictures(toy.examples(16).rows), augmentation, batch_size=4, seed=3, on_device=is_resident)


def fresh():
    return create_state(*toy.variables(), OPTIMIZER, ema_decay=0.5)


def seen_batches(count: int, api: str, augmentation: Augmentation, num_steps: int, most: int) -> dict:
    """What the devices get in each step of one call of `num_steps` steps, as arrays [steps, batch, ...]."""
    devices, a_stream = toy.devices(count, api), stream(is_resident=True, augmentation=augmentation)

    def show(state, batch):
        return state, jax.lax.all_gather(batch, toy.AXIS, tiled=True)

    compiled = devices.compile_train_steps(steps.make_on_device_step(show), most)
    examples = devices.replicate(decode_all(a_stream.examples, INPUT, length=20))
    (draws,) = a_stream.batches(0, num_steps, INPUT)
    _, batches = compiled(examples, devices.replicate(fresh()), draws)
    return jax.device_get(batches)


@pytest.mark.parametrize(("count", "api"), WAYS)
def test_devices_see_the_very_batches_of_the_stream_where_nothing_is_interpolated(count, api):
    streamed = list(stream(is_resident=False, augmentation=FLIPS).batches(0, 5, INPUT))
    batches = seen_batches(count, api, FLIPS, 5, most=7)
    for name in ("image", "mask", "label", "weight"):
        np.testing.assert_array_equal(batches[name], np.stack([batch[name] for batch in streamed]))


def test_augmented_images_differ_by_less_than_a_grey_level():
    streamed = np.stack(
        [batch["image"] for batch in stream(is_resident=False, augmentation=Augmentation()).batches(0, 9, INPUT)]
    )
    on_device = seen_batches(4, "shard_map", Augmentation(), 9, most=9)["image"]
    difference = on_device.astype(int) - streamed
    assert np.abs(difference).mean() < 1 and abs(difference.mean()) < 0.1
    assert np.abs(streamed - streamed.mean()).mean() > 20


@pytest.mark.parametrize(("count", "api"), WAYS)
def test_many_steps_in_one_call_are_that_many_single_steps(count, api):
    devices, a_stream = toy.devices(count, api), stream(is_resident=True, augmentation=Augmentation())
    compiled = devices.compile_train_steps(steps.make_on_device_step(STEP), 8)
    examples = devices.replicate(decode_all(a_stream.examples, INPUT))
    (draws,) = a_stream.batches(0, 6, INPUT)
    together, history = compiled(examples, devices.replicate(fresh()), draws)
    state, losses = devices.replicate(fresh()), []
    for step in range(6):
        state, metrics = compiled(examples, state, {name: array[step : step + 1] for name, array in draws.items()})
        assert metrics["loss"].shape == (1,)
        losses.append(float(metrics["loss"][0]))
    assert int(together.step) == 6 and history["loss"].shape == (6,)
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), together, state)


@pytest.mark.parametrize(("count", "api"), WAYS[1:])
def test_microbatches_and_skipped_steps_are_those_of_the_stream(count, api):
    def objective(params, batch_stats, batch, key):
        losses, batch_stats = toy.objective(params, batch_stats, batch, key)
        return jnp.where(batch_stats["mean"].sum() > 0.25, jnp.nan, losses), batch_stats

    options: dict = dict(seed=1, ema_decay=0.5, microbatches=2, skip_nonfinite=True)
    step, devices = steps.make_train_step(objective, OPTIMIZER, **options), toy.devices(count, api)
    ends = []
    for is_resident in (False, True):
        a_stream = dataclasses.replace(stream(is_resident=is_resident, augmentation=FLIPS), batch_size=8)
        compiled = on_device.compile_step(step, devices, on_device=is_resident)
        train_step = on_device.with_examples(compiled, a_stream, devices, INPUT)
        state, history = devices.replicate(fresh()), []
        for batch in a_stream.batches(0, 6, INPUT):
            state, metrics = train_step(state, batch)
            history.append(jax.device_get(metrics))
        ends.append((jax.device_get(state), [np.hstack([m[name] for m in history]) for name in sorted(metrics)]))
    skipped = ends[0][1][-1]
    assert skipped.shape == (6,) and skipped[0] == 0 and 0 < skipped.sum() < 6
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *ends)


def test_blocks_of_any_length_are_one_program():
    traced = []

    def step(state, batch):
        traced.append(None)
        return STEP(state, batch)

    devices, a_stream = toy.devices(4), stream(is_resident=True)
    train_step = on_device.with_examples(
        on_device.compile_step(step, devices, on_device=True), a_stream, devices, INPUT
    )
    state, tracings = devices.replicate(fresh()), []
    for stop in (STEPS_PER_BLOCK, 3, 1):
        (draws,) = a_stream.batches(0, stop, INPUT)
        state, metrics = train_step(state, draws)
        tracings.append(len(traced))
        assert metrics["loss"].shape == (stop,)
    assert len(set(tracings)) == 1 and int(state.step) == STEPS_PER_BLOCK + 4


@pytest.mark.parametrize(("count", "api"), WAYS)
def test_trainings_are_alike(tmp_path, count, api):
    """One epoch of 40 steps, hence of two blocks, on the same images."""
    devices, ends = toy.devices(count, api), []
    for is_resident in (False, True):
        a_stream, folder = stream(is_resident=is_resident, augmentation=FLIPS), tmp_path / str(is_resident)
        compiled = on_device.compile_step(STEP, devices, on_device=is_resident)
        train_step = on_device.with_examples(compiled, a_stream, devices, INPUT, length=18)
        task = Task("toy", folder, train_step, a_stream, validate, "auc", epochs=1, steps_per_epoch=40)
        best = fit(task, fresh(), devices, INPUT, Checkpointing())
        *lines, validation = metric_log.read(folder / "metrics.jsonl")
        assert [line["step"] for line in lines] == [*range(1, 41)] and validation["step"] == 40
        ends.append((best, [[line["epoch"], line["loss"], line["gradient_norm"]] for line in lines]))
    assert float(np.abs(ends[0][0][0]["weight"]).max()) > 0.05
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *ends)


def test_a_loss_that_is_not_a_number_within_a_block_is_of_its_step_and_images(tmp_path):
    devices, a_stream = toy.devices(4), stream(is_resident=True)

    def step(state, batch):
        return STEP(state, batch | {"weight": jax.numpy.where(state.step == 37, np.nan, batch["weight"])})

    compiled = on_device.compile_step(step, devices, on_device=True)
    train_step = on_device.with_examples(compiled, a_stream, devices, INPUT)
    task = Task("toy", tmp_path, train_step, a_stream, validate, "auc", epochs=1, steps_per_epoch=40)
    with pytest.raises(FloatingPointError) as error:
        fit(task, fresh(), devices, INPUT, Checkpointing())
    images = ", ".join(stream(is_resident=False).image_ids(37))
    assert str(error.value) == f"toy: gradient_norm is nan at step 38; there is no checkpoint yet; images: {images}"


def test_a_stopped_training_goes_on(tmp_path):
    devices, a_stream = toy.devices(4), stream(is_resident=True, augmentation=Augmentation())
    compiled = on_device.compile_step(STEP, devices, on_device=True)
    train_step = on_device.with_examples(compiled, a_stream, devices, INPUT)

    def task(name, epochs):
        scores = iter((0.1, 0.2, 0.3))  # a training that goes on validates the epoch's end again
        validate = lambda *_: {"auc": next(scores), "loss": 0.7}  # noqa: E731
        return Task("toy", tmp_path / name, train_step, a_stream, validate, "auc", epochs=epochs, steps_per_epoch=5)

    whole = fit(task("whole", 3), fresh(), devices, INPUT, Checkpointing())
    fit(task("parts", 1), fresh(), devices, INPUT, Checkpointing())
    parts = fit(task("parts", 3), fresh(), devices, INPUT, Checkpointing())
    jax.tree.map(np.testing.assert_array_equal, parts, whole)
    metrics = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "parts")]
    assert metrics[0] == metrics[1]
