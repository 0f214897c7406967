"""One device, four of them, shard_map and pmap do the same arithmetic."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segfusion_jax import config, parallel
from segfusion_jax.models.functional import functional
from segfusion_jax.models.layers import BatchNorm
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
        return params["drawn"][jax.lax.axis_index(parallel.AXIS)] * jax.random.uniform(key, (1,)), batch_stats

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


def test_batches_that_devices_cannot_share_are_refused():
    with pytest.raises(ValueError, match=r"^config.x.batch_size = 6: must be divisible by the 4 devices$"):
        toy.devices(4).check_batch_size("config.x.batch_size", 6)
    toy.devices(3).check_batch_size("config.x.batch_size", 6)
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
    devices = parallel.make_devices(config.Parallel(api="pmap"))
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
    monkeypatch.setattr(parallel, "Mesh", lambda devices, *_, **__: list(devices))
    ordered = parallel.make_devices(config.Parallel()).mesh
    assert [chip.process_index for chip in ordered] == [0, 0, 1, 1]
