import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segfusion_jax.config import Training
from segfusion_jax.training.optimizer import decayed_rates, make_optimizer, make_schedule


def update(config: Training, gradient, params, steps: int = 1):
    """Params after `steps` of ten steps an epoch with the same gradient."""
    optimizer = make_optimizer(config, steps_per_epoch=10)
    state = optimizer.init(params)
    for _ in range(steps):
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


def test_cosine_with_warm_up_at_points_worked_by_hand():
    schedule = make_schedule(Training(epochs=6, learning_rate=0.4, warmup_epochs=2.0), steps_per_epoch=5)
    # 10 steps up, then 20 down: a third of the way the cosine is at (1 + cos 60 deg) / 2 = 3/4
    points = {0: 0.0, 5: 0.2, 10: 0.4, 10 + 20 // 2: 0.2, 30: 0.0, 40: 0.0}
    for step, rate in points.items():
        assert float(schedule(step)) == pytest.approx(rate, abs=1e-7), step
    assert float(schedule(10 + 5)) == pytest.approx(0.2 * (1 + np.cos(np.pi / 4)), rel=1e-5)


def test_schedules_without_warm_up_start_at_the_peak():
    cosine = make_schedule(Training(epochs=3, learning_rate=0.1), steps_per_epoch=4)
    assert [float(cosine(step)) for step in (0, 6, 12)] == pytest.approx([0.1, 0.05, 0.0], abs=1e-8)
    constant = make_schedule(Training(epochs=3, learning_rate=0.1, schedule="constant"), steps_per_epoch=4)
    assert [float(constant(step)) for step in (0, 6, 100)] == pytest.approx([0.1] * 3)


def test_warm_up_of_a_fraction_of_an_epoch_into_a_constant():
    config = Training(epochs=1, learning_rate=0.1, schedule="constant", warmup_epochs=0.4)
    schedule = make_schedule(config, steps_per_epoch=10)
    assert [float(schedule(step)) for step in (0, 1, 4, 9)] == pytest.approx([0.0, 0.025, 0.1, 0.1])


def test_a_warm_up_of_the_whole_training():
    schedule = make_schedule(Training(epochs=2, learning_rate=0.1, warmup_epochs=2.0), steps_per_epoch=5)
    assert [float(schedule(step)) for step in (0, 5, 9)] == pytest.approx([0.0, 0.05, 0.09])


@pytest.mark.parametrize(("optimizer", "factor"), [("adamw", 1 - 0.1 * 0.5), ("sgd", 1 - 1.9 * 0.1 * 0.5)])
def test_weight_decay_shrinks_kernels_and_leaves_biases_alone(optimizer, factor):
    # Nesterov's first step is (1 + momentum) times the gradient, which here is the L2 term alone
    config = Training(optimizer=optimizer, learning_rate=0.1, weight_decay=0.5, schedule="constant")
    params = {
        "kernel": jnp.array([[2.0, -4.0]]),
        "depthwise": jnp.full((3, 3, 2), 2.0),
        "bias": jnp.array([2.0, -4.0]),
        "scale": jnp.ones(2),
    }
    after = update(config, jax.tree.map(jnp.zeros_like, params), params)
    for name in ("kernel", "depthwise"):
        np.testing.assert_allclose(after[name], factor * params[name], rtol=1e-6)
    for name in ("bias", "scale"):
        np.testing.assert_array_equal(after[name], params[name])


def test_sgd_is_nesterovs_by_hand():
    params, gradient, velocity = 1.0, 0.5, 0.0
    for _ in range(4):
        velocity = 0.9 * velocity + gradient
        params -= 0.1 * (gradient + 0.9 * velocity)
    config = Training(optimizer="sgd", learning_rate=0.1, schedule="constant")
    assert float(update(config, {"w": jnp.float32(0.5)}, {"w": jnp.float32(1.0)}, 4)["w"]) == pytest.approx(params)


def test_clipping_shortens_a_long_gradient_and_keeps_a_short_one():
    config = Training(optimizer="sgd", learning_rate=0.1, schedule="constant", gradient_clip=1.0)
    zero = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    long = update(config, {"a": jnp.array([3.0]), "b": jnp.array([-4.0])}, zero)
    assert [float(long["a"][0]), float(long["b"][0])] == pytest.approx([-0.19 * 0.6, 0.19 * 0.8])
    short = update(config, {"a": jnp.array([0.3]), "b": jnp.array([-0.4])}, zero)
    assert [float(short["a"][0]), float(short["b"][0])] == pytest.approx([-0.19 * 0.3, 0.19 * 0.4])


def tree(*names):
    """One array for each dotted name."""
    params: dict = {}
    for name in names:
        *folders, last = name.split(".")
        place = params
        for folder in folders:
            place = place.setdefault(int(folder) if folder.isdigit() else folder, {})
        place[last] = jnp.ones(2)
    return params


def test_rates_decay_from_the_last_layer_down_to_the_stem():
    names = ["stem.conv.kernel", "blocks.0.project.kernel", "blocks.1.project.kernel", "blocks.1.project.bias"]
    rates = decayed_rates(tree(*names, "top.norm.scale", "head.kernel"), 0.5)
    assert rates["head"]["kernel"] == 1.0
    assert rates["top"]["norm"]["scale"] == 0.5
    assert rates["blocks"][1]["project"] == {"kernel": 0.25, "bias": 0.25}
    assert rates["blocks"][0]["project"]["kernel"] == 0.125
    assert rates["stem"]["conv"]["kernel"] == 0.0625
    with_hidden = decayed_rates(tree(*names, "top.norm.scale", "hidden.kernel", "head.kernel"), 0.5)
    assert (with_hidden["hidden"]["kernel"], with_hidden["top"]["norm"]["scale"]) == (0.5, 0.25)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_each_array_moves_at_its_own_rate(name):
    params = tree("stem.kernel", "blocks.0.kernel", "top.kernel", "head.kernel")
    config = Training(optimizer=name, learning_rate=0.1, schedule="constant")
    optimizer = make_optimizer(config, 10, decayed_rates(params, 0.5))
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    moved = {part: float(updates[part]["kernel"][0]) for part in ("stem", "top", "head")}
    plain = float(update(config, params, params)["head"]["kernel"][0]) - 1
    assert moved == pytest.approx({"head": plain, "top": plain / 2, "stem": plain / 8}, rel=1e-4)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_a_quadratic_is_minimised(name):
    config = Training(optimizer=name, epochs=20, learning_rate=0.1)
    optimizer = make_optimizer(config, steps_per_epoch=10)
    target = jnp.array([1.0, -2.0])

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(params - target, state, params)
        return optax.apply_updates(params, updates), state

    params = jnp.zeros(2)
    state = optimizer.init(params)
    for _ in range(200):
        params, state = step(params, state)
    np.testing.assert_allclose(params, target, atol=1e-3)
