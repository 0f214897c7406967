import contextlib
import json
import os
import pathlib
import resource
import shutil
import tempfile
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segfusion_jax.runtime.devices import Devices
from segfusion_jax.training import checkpoint
from segfusion_jax.training.checkpoint import Checkpoints
from segfusion_jax.training.state import create_state
from tests.training import toy
from tests.unwritable import unwritable

FACTS = {"position": {"next_step": 3}, "best": None, "name": "ø"}


def arrays(step: int, width: int = 3, count: int = 4, **extra):
    """A state of the toy model on some devices, and weights on the host; all numbers are `step`, but for some noise."""
    params, batch_stats = toy.variables()
    params |= {"weight": jnp.zeros((1, width)), "noise": jnp.zeros(3000)} | extra
    fresh = create_state(params, batch_stats, optax.adam(1e-3), ema_decay=0.5)
    state = jax.tree.map(lambda leaf: jnp.full_like(leaf, step), fresh)
    state.params["noise"] = jnp.asarray(np.random.default_rng(step).normal(size=3000), jnp.float32)
    return {"state": toy.devices(count).replicate(state), "best": jax.device_get(state.evaluated)}


def opened(folder, **options):
    return contextlib.closing(Checkpoints(folder, toy.devices(4), **options))


def equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)
    assert jax.tree.map(lambda x: x.dtype, one) == jax.tree.map(lambda x: x.dtype, other)


def steps(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with the checkpoints of steps 8 and 12. Not to be written into."""
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    with opened(folder) as checkpoints:
        for step in (4, 8, 12):
            checkpoints.save(step, arrays(step), FACTS | {"step": step})
    return folder


@pytest.fixture
def copied(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copied")


def restored(folder, like=None, **options):
    with opened(folder, **options) as checkpoints:
        return checkpoints.restore(like or arrays(0))


def test_the_newest_are_kept_and_nothing_else(saved, tmp_path):
    assert steps(saved) == {"8", "12"}
    with opened(tmp_path, keep=3) as checkpoints:
        for step in (1, 2, 3, 4):
            checkpoints.save(step, arrays(step), FACTS)
            assert checkpoints.latest_step() == step
    assert steps(tmp_path) == {"2", "3", "4"}


def test_what_was_saved_is_read(saved):
    found, facts = restored(saved)
    equal(found, arrays(12))
    assert facts == FACTS | {"step": 12}
    assert isinstance(found["best"][0]["weight"], np.ndarray)


@pytest.mark.parametrize("count", [1, 2])
def test_another_number_of_devices_reads_it(saved, count):
    found, _ = restored(saved, arrays(0, count=count))
    equal(found, arrays(12))
    assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(found["state"])} == {count}


def test_before_the_first_there_is_none(tmp_path):
    with opened(tmp_path / "new") as checkpoints:
        assert checkpoints.latest_step() is None and checkpoints.restore(arrays(0)) is None


def test_a_state_of_another_model_is_refused(copied):
    message = (
        r"12: the checkpoint is of another model: \['best'\].*\['weight'\] is float32 \[1, 3\] there, float32 \[1, 5\]"
    )
    with pytest.raises(ValueError, match=message):
        restored(copied, arrays(0, width=5))
    with pytest.raises(ValueError, match=r"\['extra'\] is missing there, float32 \[2\] here"):
        restored(copied, arrays(0, extra=jnp.zeros(2)))
    assert steps(copied) == {"8", "12"}


def test_checkpoints_of_other_versions_say_why_not(copied):
    (copied / "12/position").mkdir()  # which older ones had
    with pytest.raises(ValueError, match="12 is a checkpoint of an older version of segfusion_jax"):
        restored(copied)
    (copied / "12/position").rmdir()
    rewrite_facts(copied / "12", format=1)
    with pytest.raises(ValueError, match="12: the checkpoint has format 1, this version of segfusion_jax reads 2"):
        restored(copied)


def rewrite_facts(folder, **changes):
    from segfusion_jax.training.checkpoint import _digest_of_json

    path = folder / "facts/metadata"
    content = json.loads(path.read_text()) | changes
    content.pop("sha256")
    path.write_text(json.dumps(content | {"sha256": _digest_of_json(content)}))


def files(folder) -> list[pathlib.Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8 % len(content)] ^= 1 << bit % 8
    path.write_bytes(content)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of TensorStore, of arrays not read
def test_damage_is_found_wherever_it_is(saved, tmp_path, caplog):
    """A file cut in half, and one bit of it turned, at three places each: the numbers read are right, or the older."""
    rng, fallbacks, damages = np.random.default_rng(0), 0, 0
    for name in [path.relative_to(saved) for path in files(saved / "12")]:
        for damage in [cut, *(lambda path, bit=int(bit): flip(path, bit) for bit in rng.integers(0, 1 << 20, 3))]:
            shutil.rmtree(tmp_path / "copied", ignore_errors=True)
            shutil.copytree(saved, tmp_path / "copied")
            damage(tmp_path / "copied" / name)
            caplog.clear()
            found, facts = restored(tmp_path / "copied")
            equal(found, arrays(facts["step"]))
            damages += 1
            if facts["step"] == 8:
                fallbacks += 1
                messages = [record.getMessage() for record in caplog.records]
                (text,) = [text for text in messages if "the checkpoint of step 12 is damaged (" in text]
                assert text.startswith(str(tmp_path)) and text.endswith("; going on from the one of step 8")
                assert steps(tmp_path / "copied") == {"8", "damaged_12"}
            else:
                assert facts == FACTS | {"step": 12}
    assert damages >= 40 and fallbacks >= 15  # most of the rest are in files that nobody reads


def test_what_another_process_cannot_read_none_goes_on_from(copied, monkeypatch, caplog):
    answers = iter([True, False])
    asked = []
    say = lambda self, flag: asked.append(flag) or np.bool_(next(answers))  # noqa: E731
    monkeypatch.setattr(Devices, "any_process", say)
    assert restored(copied)[1]["step"] == 8 and asked == [False, False]
    assert "step 12 is damaged (another process cannot read it)" in caplog.text


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied"), MemoryError(), jax.errors.JaxRuntimeError("x")]
)
def test_an_error_of_the_reading_is_no_damage(copied, monkeypatch, error):
    with opened(copied) as checkpoints:

        def restore(*_, **__):
            raise error

        monkeypatch.setattr(checkpoints._manager, "restore", restore)
        with pytest.raises(type(error)):
            checkpoints.restore(arrays(0))
    assert steps(copied) == {"8", "12"}


def test_after_damage_the_step_is_saved_anew(copied):
    cut(copied / "12/facts/metadata")
    with opened(copied) as checkpoints:
        assert checkpoints.restore(arrays(0))[1]["step"] == 8
        assert checkpoints.latest_step() == 8
        checkpoints.save(12, arrays(13), FACTS)
    equal(restored(copied)[0], arrays(13))


def test_when_all_are_damaged_it_says_so(copied):
    for step in (8, 12):
        cut(copied / f"{step}/facts/metadata")
    with pytest.raises(ValueError, match="every checkpoint is damaged .of step 12: .*of step 8: .*Delete the folder"):
        restored(copied)
    assert steps(copied) == {"8", "12"}


def test_numbers_that_are_not_finite_are_not_saved(tmp_path):
    bad = arrays(1)
    bad["best"][0]["weight"] = np.array([[1, np.inf, 1]])
    with opened(tmp_path) as checkpoints:
        with pytest.raises(
            FloatingPointError, match=r"\['best'\]\[0\]\['weight'\] holds .* after step 7: it is not saved"
        ):
            checkpoints.save(7, bad, FACTS)
        assert checkpoints.latest_step() is None


def test_what_a_killed_save_leaves_is_cleared_away(copied):
    shutil.copytree(copied / "12", copied / "16.orbax-checkpoint-tmp")
    assert restored(copied)[1]["step"] == 12
    assert steps(copied) == {"8", "12"}


def test_too_little_space_is_noticed_before_writing(copied, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(free=50))
    message = r"the checkpoint of step 16 cannot be written: 0.0 MB are free, it takes 2.1 MB; that of step 12 is kept"
    with opened(copied) as checkpoints, pytest.raises(OSError, match=message):
        checkpoints.save(16, arrays(16), FACTS)
    assert steps(copied) == {"8", "12"}


def test_a_save_that_fails_leaves_the_last_good_one(copied):
    """By a limit on the size of files, which, unlike a full disk, needs no rights."""
    big = {"numbers": np.random.default_rng(0).normal(size=1 << 16)}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    checkpoints = Checkpoints(copied, toy.devices(4))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        with pytest.raises(
            OSError, match="the checkpoint of step 16 cannot be written: .*File too large.*; that of step 12 is kept"
        ):
            checkpoints.save(16, big, FACTS)
            checkpoints.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    found, facts = restored(copied)
    assert facts["step"] == 12
    equal(found, arrays(12))


def test_a_folder_that_cannot_be_written_is_read(saved):
    with tempfile.TemporaryDirectory() as base:
        os.chmod(base, 0o755)
        folder = shutil.copytree(saved, pathlib.Path(base) / "copied")
        cut(folder / "12/facts/metadata")
        with unwritable(folder):
            with pytest.raises(PermissionError):
                (folder / "new").touch()
            found, facts = restored(folder, read_only=True)
        assert facts["step"] == 8 and steps(folder) == {"8", "12"}
        equal(found, arrays(8))


def test_a_long_message_is_told_from_its_beginning_and_to_its_end():
    error = ValueError(f"Error writing {'deep/' * 300}file: Bad file descriptor [tensorstore_spec='...']")
    told = checkpoint._in_short(error)
    assert told.startswith("ValueError: Error writing deep/") and told.endswith("file: Bad file descriptor")
    assert len(told) < 700
