"""One device, four of them, shard_map and pmap do the same arithmetic."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from segfusion_jax import config
from segfusion_jax.models import efficientnet
from segfusion_jax.models.from_config import make_unet
from segfusion_jax.models.functional import functional
from segfusion_jax.models.inverted_residual import ImageClassifier
from segfusion_jax.models.layers import TENSORFLOW, BatchNorm
from segfusion_jax.models.unet import EncoderUNet, UNet
from segfusion_jax.runtime import devices as devices_module
from segfusion_jax.runtime.devices import AXIS, make_devices
from segfusion_jax.training import steps
from segfusion_jax.training.state import create_state
from tests.training import toy

WAYS = [(1, "shard_map"), (4, "shard_map"), (1, "pmap"), (4, "pmap")]


def run(step, state, batches, count: int, api: str):
    """The state and the metrics of every step; the caller keeps its own state."""
    devices = toy.devices(count, api)
    state, history = devices.replicate(jax.tree.map(jnp.copy, state)), []
    compiled = devices.compile_train_step(step)
    for batch in batches:
        state, metrics = compiled(state, batch)
        history.append({name: float(value) for name, value in metrics.items()})
    return jax.device_get(state), history


@pytest.mark.parametrize(("count", "api"), WAYS)
def test_a_step_follows_a_gradient_worked_by_hand(count, api):
    # A wrong factor of the devices' sum, or check_vma=True, makes the step four times too long or short. Padding lies
    # on one device only, so that a mean of the devices' means would be wrong too.
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 3)).astype(np.float32), rng.normal(size=8).astype(np.float32)
    weight, w = np.array([1, 1, 1, 1, 1, 1, 0, 0], np.float32), np.array([0.3, -0.7, 1.1], np.float32)
    x[6:], y[6:] = 100, -100

    def objective(params, batch_stats, batch, key):
        return 0.5 * (batch["x"] @ params["w"] - batch["y"]) ** 2, batch_stats

    optimizer = optax.sgd(0.1)
    step = steps.make_train_step(objective, optimizer, seed=0, ema_decay=0.0)
    state = create_state({"w": jnp.array(w)}, {}, optimizer, ema_decay=0.0)
    state, (metrics,) = run(step, state, [{"x": x, "y": y, "weight": weight}], count, api)

    residual = x[:6] @ w - y[:6]
    gradient = (residual[:, None] * x[:6]).mean(0)
    np.testing.assert_allclose(state.params["w"], w - 0.1 * gradient, rtol=1e-5)
    assert metrics["loss"] == pytest.approx((residual**2).mean() / 2, rel=1e-5)
    assert metrics["gradient_norm"] == pytest.approx(np.linalg.norm(gradient), rel=1e-5)
    assert state.step == 1


@pytest.mark.parametrize(("count", "api"), WAYS)
def test_every_device_and_step_draws_its_own_noise(count, api):
    def objective(params, batch_stats, batch, key):
        return params["drawn"][jax.lax.axis_index(AXIS)] * jax.random.uniform(key, (1,)), batch_stats

    optimizer = optax.sgd(1.0)
    state = create_state({"drawn": jnp.zeros(count)}, {}, optimizer, ema_decay=0.0)
    batch = {"weight": np.ones(count, np.float32)}

    def drawn(seed):
        step = steps.make_train_step(objective, optimizer, seed=seed, ema_decay=0.0)
        first = -run(step, state, [batch], count, api)[0].params["drawn"]
        return np.concatenate([first, -run(step, state, [batch] * 2, count, api)[0].params["drawn"] - first]) * count

    numbers = drawn(seed=0)
    assert len(np.unique(np.round(numbers, 5))) == 2 * count and (numbers > 0).all() and (numbers < 1).all()
    np.testing.assert_array_equal(drawn(seed=0), numbers)
    assert not np.isclose(drawn(seed=1), numbers, atol=1e-4).any()


@pytest.mark.parametrize(("count", "api"), WAYS)
def test_without_synchronisation_running_statistics_are_the_devices_average(count, api):
    module = BatchNorm(3, epsilon=1e-3, momentum=0.9)
    norm = functional(module)

    def objective(params, batch_stats, batch, key):
        y, batch_stats = norm.apply(params, batch_stats, batch["x"], train=True)
        return y.mean(1), batch_stats

    optimizer = optax.sgd(0.1)
    step = steps.make_train_step(objective, optimizer, seed=0, ema_decay=0.0)
    state = create_state(norm.params, norm.batch_stats, optimizer, ema_decay=0.0)
    x = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32) + np.arange(8)[:, None]
    state, _ = run(step, state, [{"x": x, "weight": np.ones(8, np.float32)}], count, api)

    shares = x.reshape(count, -1, 3)
    np.testing.assert_allclose(state.batch_stats["mean"], 0.1 * shares.mean(1).mean(0), rtol=1e-5)
    np.testing.assert_allclose(state.batch_stats["var"], 0.9 + 0.1 * shares.var(1).mean(0), rtol=1e-5)


def test_one_process_agrees_without_a_device():
    answers = [toy.devices(4).any_process(flag) for flag in (True, False)]
    assert [type(answer) for answer in answers] == [np.bool_, np.bool_] and answers == [True, False]


def test_microbatches_of_one_device_are_devices_of_their_own():
    values = config.Segmenter(image_size=(16, 32), filters=2, dropout=0.0)
    unet = make_unet(values, seed=1, dtype=jnp.float32)
    objective = steps.segmentation_objective(unet, values)
    rng = np.random.default_rng(0)
    brightness = np.arange(8).reshape(8, 1, 1, 1)  # so that the parts' statistics differ
    batch = {
        "image": (rng.integers(0, 60, (8, 16, 32, 3)) + 25 * brightness).astype(np.uint8),
        "mask": rng.integers(0, 256, (8, 16, 32, 1), np.uint8),
        "weight": np.array([1, 1, 1, 1, 1, 0, 1, 0.5], np.float32),
    }
    optimizer = optax.sgd(1e-2)
    state = create_state(unet.params, unet.batch_stats, optimizer, ema_decay=0.0)
    ends, histories = [], []
    for count, microbatches in ((4, 1), (1, 4)):
        step = steps.make_train_step(objective, optimizer, seed=0, ema_decay=0.0, microbatches=microbatches)
        end, history = run(step, state, [batch] * 3, count, "shard_map")
        ends.append((end.params, end.batch_stats))
        histories.append(history)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-6), *ends)
    for one, others in zip(*histories, strict=True):
        assert one == pytest.approx(others, rel=1e-4)


SHORT_B0 = efficientnet.plan("efficientnet_b0", width=0.25, depth=0.25)
SHORT_B0 = SHORT_B0._replace(blocks=SHORT_B0.blocks[:3])


def short_unet(**options):
    unet = functional(UNet(filters=4, dropout=0.5, **options))
    return unet, steps.segmentation_objective(unet, config.Segmenter())


def short_encoder_unet(**options):
    unet = functional(EncoderUNet(SHORT_B0, filters=4, dropout=0.5, **options))
    return unet, steps.segmentation_objective(unet, config.Segmenter())


def short_classifier(**options):
    network = functional(ImageClassifier(SHORT_B0, dropout=0.5, drop_path=0.5, conventions=TENSORFLOW, **options))
    values, bridge = config.Classifier(), config.Bridge()
    return network, steps.classification_objective(network, bridge, values, class_weights=(1, 1), head_only=False)


def program_of(step, state, batch, monkeypatch) -> jax.stages.Compiled:
    """What `compile_train_step` makes for one device, to look into."""
    programs, jit = [], jax.jit
    with monkeypatch.context() as patched:
        patched.setattr(jax, "jit", lambda *args, **options: programs.append(jit(*args, **options)) or programs[-1])
        toy.devices(1).compile_train_step(step)
    (program,) = programs
    return program.lower(state, batch).compile()


@pytest.mark.parametrize("problem", [short_unet, short_encoder_unet, short_classifier])
def test_activations_that_are_computed_again_change_no_number_and_take_less_memory(problem, monkeypatch):
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (16, 64, 64, 3), np.uint8),
        "mask": rng.integers(0, 256, (16, 64, 64, 1), np.uint8),
        "label": rng.integers(0, 2, 16).astype(np.int32),
        "weight": np.ones(16, np.float32),
    }
    optimizer, programs, ends = optax.sgd(1e-2), [], []
    for remat in (False, True):
        network, objective = problem(remat=remat, axis_name=AXIS, rngs=nnx.Rngs(1))
        step = steps.make_train_step(objective, optimizer, seed=0, ema_decay=0.0)
        first = create_state(network.params, network.batch_stats, optimizer, ema_decay=0.0)
        programs.append(program_of(step, first, batch, monkeypatch))
        state, metrics = programs[-1](jax.tree.map(jnp.copy, first), batch)
        ends.append(jax.device_get((*programs[-1](state, batch), metrics)))
        moved = jax.tree.map(lambda new, old: np.abs(new - old).max() > 0, ends[-1][0].batch_stats, first.batch_stats)
        assert all(jax.tree.leaves(moved))
    # the U-Net's bits are equal; in squeeze-and-excite XLA fuses, and so rounds, in another way
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *ends)
    plain, remat = (program.memory_analysis().temp_size_in_bytes for program in programs)
    assert remat < 0.7 * plain
    messages = [program.as_text().count(" all-reduce(") for program in programs]
    assert messages[0] == messages[1] > 10


def test_batches_that_devices_cannot_share_are_refused():
    with pytest.raises(ValueError, match=r"^config.x.batch_size = 6: must be divisible by the 4 devices$"):
        toy.devices(4).check_batch_size("config.x.batch_size", 6)
    toy.devices(3).check_batch_size("config.x.batch_size", 6)
    with pytest.raises(
        ValueError, match=r"^config.x.batch_size = 12: must be divisible by the 4 devices x 2 microbatches$"
    ):
        toy.devices(4).check_batch_size("config.x.batch_size", 12, 2)
    toy.devices(3).check_batch_size("config.x.batch_size", 12, 2)
    assert [toy.devices(4).round_up(size) for size in (1, 4, 5)] == [4, 4, 8]


@pytest.mark.parametrize(("count", "api"), WAYS)
def test_outputs_are_in_the_order_of_the_batch(count, api):
    devices = toy.devices(count, api)

    def predict(variables, batch):
        return {"sum": variables["factor"] * batch["x"].sum(1), "x": batch["x"]}

    x = np.arange(24, dtype=np.float32).reshape(8, 3)
    outputs = devices.compile_predict(predict)(devices.replicate({"factor": jnp.float32(2)}), {"x": x})
    np.testing.assert_array_equal(outputs["sum"], 2 * x.sum(1))
    np.testing.assert_array_equal(outputs["x"], x)


def test_the_devices_of_this_program():
    devices = make_devices(config.Parallel(api="pmap"))
    assert (devices.mesh.size, devices.api, devices.num_processes, devices.is_lead) == (4, "pmap", 1, True)
    assert devices.describe() == "4 x cpu, 1 process(es)"
    dtypes = [devices.compute_dtype(name) for name in ("auto", "float32", "bfloat16")]
    assert dtypes == [jnp.float32, jnp.float32, jnp.bfloat16]


def test_the_devices_of_a_process_are_neighbours(monkeypatch):
    # A TPU lists its devices by place, processes interleaved; outputs are told apart by process, so that order would
    # give them to the wrong images.
    class Chip:
        platform = "tpu"

        def __init__(self, number):
            self.id, self.process_index = number, number % 2

    chips = [Chip(number) for number in range(4)]
    monkeypatch.setattr(jax, "devices", lambda: chips)
    monkeypatch.setattr(devices_module, "Mesh", lambda devices, *_, **__: list(devices))
    ordered = make_devices(config.Parallel()).mesh
    assert [chip.process_index for chip in ordered] == [0, 0, 1, 1]


def test_platforms_that_are_not_there_are_one_line_that_says_what_is():
    code = "from segfusion_jax.runtime.devices import check_platforms; check_platforms()"
    environment = {**os.environ, "JAX_PLATFORMS": "cuda", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].startswith("ValueError: JAX_PLATFORMS = 'cuda': no such device here")
    assert done.stderr.splitlines()[-1].endswith("or unset it to take the best there is")
