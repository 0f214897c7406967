"""Weight files of our own: what they hold, and that they come back as they were."""

import json
import resource

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from segfusion_jax.models.efficientnet import EfficientNet
from segfusion_jax.models.functional import Functional
from segfusion_jax.models.preprocessing import IMAGENET, Preprocessing
from segfusion_jax.models.pretrained import flatten, load_weights, release_weights, save_weights
from tests.models.filled import filled


def model(seed: int = 0) -> Functional:
    return filled(lambda: EfficientNet(width=0.25, depth=0.25, rngs=nnx.Rngs(0)), seed=seed)


@pytest.fixture(scope="module")
def small() -> Functional:
    return model()


def test_own_weights_return_exactly(small, tmp_path):
    other = model(seed=9)
    expects = Preprocessing((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), (33, 44))
    save_weights(tmp_path / "weights.safetensors", small._replace(preprocessing=expects))
    loaded = load_weights(tmp_path / "weights.safetensors", other)
    assert loaded.preprocessing == expects
    assert jax.tree.structure(loaded[1:3]) == jax.tree.structure(small[1:3])
    jax.tree.map(np.testing.assert_array_equal, loaded[1:3], small[1:3])


def test_own_files_of_equal_weights_are_equal(small, tmp_path):
    contents = set()
    for number in range(8):
        save_weights(tmp_path / f"{number}.safetensors", small)
        contents.add((tmp_path / f"{number}.safetensors").read_bytes())
    assert len(contents) == 1


def test_own_weights_are_dotted_float32_arrays_that_anyone_can_read(small, tmp_path):
    save_weights(tmp_path / "weights.safetensors", small)
    arrays = safetensors.numpy.load_file(tmp_path / "weights.safetensors")
    kernel = small.params["blocks"][4]["expand"]["conv"]["kernel"]
    np.testing.assert_array_equal(arrays["blocks.4.expand.conv.kernel"], kernel)
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}


def test_released_kernels_are_halved_only_where_float16_holds_them(tmp_path):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 3, 4, 5)).astype(np.float32)
    faint = kernel * np.array([1, 1, 1, 1, 1e-6], np.float32)  # its batch norm may make it as large as the others
    arrays = {
        "plain": kernel,
        "small": 1e-3 * kernel,
        "dead": kernel * np.array([1, 1, 1, 1, 0], np.float32),
        "faint": faint,
        "huge": 1e5 * kernel,
        "variance": np.array([1e-9, 1.0, 1e6], np.float32),
    }
    model = Functional(lambda *_: (None, {}), arrays, {}, IMAGENET)
    save_weights(tmp_path / "trained.safetensors", model)
    release_weights(tmp_path / "trained.safetensors", tmp_path / "released.safetensors")
    released = safetensors.numpy.load_file(tmp_path / "released.safetensors")
    halved = {name for name, array in released.items() if array.dtype == np.float16}
    assert halved == {"plain", "small", "dead"}
    loaded = load_weights(tmp_path / "released.safetensors", model)
    assert loaded.preprocessing == IMAGENET and {array.dtype for array in loaded.params.values()} == {np.dtype("f")}
    for name in arrays:
        scale = np.abs(arrays[name]).max()
        np.testing.assert_allclose(loaded.params[name], arrays[name], rtol=0, atol=scale / 1024 * (name in halved))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda arrays: arrays.pop("stem.norm.mean"), "does not fit the model: missing stem.norm.mean"),
        (lambda arrays: arrays.update(extra=np.zeros(1)), "does not fit the model: superfluous extra"),
        (lambda arrays: arrays.update({"head.bias": np.zeros(2)}), r"head.bias has shape \(2,\), not \(1,\)"),
    ],
    ids=["missing", "superfluous", "misshaped"],
)
def test_own_weights_that_do_not_fit_are_refused_by_name(small, tmp_path, edit, message):
    arrays = {name: np.asarray(array) for name, array in (flatten(small.params) | flatten(small.batch_stats)).items()}
    edit(arrays)
    metadata = {"segfusion_jax": json.dumps({"conventions": "tensorflow", "preprocessing": IMAGENET._asdict()})}
    safetensors.numpy.save_file(arrays, tmp_path / "weights.safetensors", metadata)
    with pytest.raises(ValueError, match=message):
        load_weights(tmp_path / "weights.safetensors", small)


@pytest.mark.parametrize(
    "damaged",
    [lambda content: content[: len(content) // 2], lambda _: b"", lambda _: b"not found"],
    ids=["truncated", "empty", "text"],
)
def test_damaged_own_weights_are_refused(small, tmp_path, damaged):
    path = tmp_path / "weights.safetensors"
    save_weights(path, small)
    path.write_bytes(damaged(path.read_bytes()))
    with pytest.raises(ValueError, match="is not a readable safetensors file"):
        load_weights(path, small)


def test_weights_that_cannot_be_written_say_so(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    model = Functional(lambda *_: (None, {}), {"kernel": np.zeros(5000, np.float32)}, {}, IMAGENET)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 12, limits[1]))
    try:
        with pytest.raises(OSError, match="a.safetensors cannot be written: .*File too large"):
            save_weights(tmp_path / "a.safetensors", model)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "a.safetensors").exists()
