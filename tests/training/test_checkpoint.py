import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segfusion_jax.training.checkpoint import Checkpoints
from segfusion_jax.training.state import create_state
from tests.training import toy


def state(step: int, width: int = 3):
    """A state of the toy model, all of whose numbers are `step`."""
    params, batch_stats = toy.variables()
    params["weight"] = jnp.zeros((1, width))
    fresh = create_state(params, batch_stats, optax.adam(1e-3), ema_decay=0.5)
    return toy.devices(4).replicate(jax.tree.map(lambda leaf: jnp.full_like(leaf, step), fresh))


@pytest.fixture
def checkpoints(tmp_path):
    """Of three epochs, the second of which was the best."""
    opened = Checkpoints(tmp_path / "new", best_metric="dice")
    for step, dice in ((4, 0.2), (8, 0.9), (12, 0.5)):
        opened.save(state(step), {"next_step": step, "seed": 7, "images": "ab"}, {"dice": dice, "loss": float(step)})
    yield opened
    opened.close()


def equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)
    assert jax.tree.map(lambda x: x.dtype, one) == jax.tree.map(lambda x: x.dtype, other)


def test_the_newest_and_the_best_are_kept(tmp_path, checkpoints):
    newest, position = checkpoints.restore_latest(state(0))
    equal(newest, state(12))
    assert position == {"next_step": 12, "seed": 7, "images": "ab"}
    equal(checkpoints.restore_best(state(0)), state(8))
    checkpoints.close()
    assert {path.name for path in (tmp_path / "new").iterdir() if path.is_dir()} == {"8", "12"}


def test_another_process_finds_them(tmp_path, checkpoints):
    checkpoints.close()
    again = Checkpoints(tmp_path / "new", best_metric="dice")
    assert again.latest_step() == 12
    equal(again.restore_latest(state(0))[0], state(12))
    equal(again.restore_best(state(0)), state(8))
    again.close()


def test_before_the_first_there_is_none(tmp_path):
    empty = Checkpoints(tmp_path / "new", best_metric="dice")
    assert empty.latest_step() is None
    empty.close()


def test_a_state_of_another_shape_is_refused(checkpoints):
    with pytest.raises(ValueError, match=r"\(1, 5\) is not compatible with the stored shape: \(1, 3\)"):
        checkpoints.restore_latest(state(0, width=5))


def test_a_state_with_other_arrays_is_refused(checkpoints):
    params, batch_stats = toy.variables()
    other = create_state(params | {"extra": jnp.zeros(2)}, batch_stats, optax.adam(1e-3), ema_decay=0.5)
    with pytest.raises(ValueError, match="extra"):
        checkpoints.restore_latest(other)
