"""Weight files: released ones against a NumPy forward pass on the file itself, faulty ones, our own."""

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from segfusion_jax import config
from segfusion_jax.models.efficientnet import EfficientNet
from segfusion_jax.models.functional import Functional
from segfusion_jax.models.pretrained import flatten, load_efficientnet, load_weights, save_weights
from tests.models import lukemelas, reference
from tests.models.filled import filled

REAL_FILE = config.find("efficientnet_b0_imagenet_autoaug_notop_f32.npz")


def model(**options) -> Functional:
    return filled(lambda: EfficientNet(**options, rngs=nnx.Rngs(0)))


@pytest.fixture(scope="module")
def small() -> Functional:
    return model(width=0.25, depth=0.5)


@pytest.fixture
def saved(tmp_path):
    """Writes arrays to a file and returns its path."""

    def save(arrays):
        np.savez(tmp_path / "weights.npz", **arrays)
        return tmp_path / "weights.npz"

    return save


def features(made: Functional, params, batch_stats, images):
    run = jax.jit(lambda *args: made.apply(*args, train=False, method="features")[0])
    return run(params, batch_stats, images)


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def test_loaded_features_are_those_of_a_numpy_forward_pass_on_the_file(small, saved):
    arrays, x = lukemelas.arrays(), images(2, 33, 40, 3)
    params, batch_stats = load_efficientnet(saved(arrays), small.params, small.batch_stats)
    expected = reference.efficientnet_features(arrays, x.astype(np.float64), lukemelas.STRIDED_BLOCKS)
    assert expected.std() > 0.1
    np.testing.assert_allclose(features(small, params, batch_stats, x), expected, rtol=1e-4, atol=1e-4)


def test_every_value_of_the_file_is_used_once_and_the_last_layer_is_kept(small, saved):
    arrays = lukemelas.arrays()
    params, batch_stats = load_efficientnet(saved(arrays), small.params, small.batch_stats)
    jax.tree.map(np.testing.assert_array_equal, params["head"], small.params["head"])
    loaded = [
        leaf for name, leaf in flatten(params | {"statistics": batch_stats}).items() if not name.startswith("head.")
    ]
    assert len(loaded) == len(arrays)
    sums = (sorted(np.asarray(leaf, np.float64).sum() for leaf in leaves) for leaves in (loaded, arrays.values()))
    np.testing.assert_allclose(*sums, atol=1e-4)


def test_a_fourth_channel_starts_at_zero(saved):
    small = model(width=0.25, depth=0.5, channels=4)
    arrays = lukemelas.arrays()
    params, _ = load_efficientnet(saved(arrays), small.params, small.batch_stats)
    kernel = params["stem"]["conv"]["kernel"]
    np.testing.assert_array_equal(kernel[:, :, 3], 0)
    np.testing.assert_array_equal(kernel[1, 2, :3, 5], arrays["_conv_stem.weight"][5, :, 1, 2])


def edited(changes: dict) -> dict:
    arrays = lukemelas.arrays() | changes
    return {name: array for name, array in arrays.items() if array is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_blocks.3._bn1.running_var": None}, "missing blocks.3.depthwise.norm.var"),
        ({"_conv_stem.weight": None}, "missing stem.conv.kernel"),
        ({"_fc.weight": np.zeros((1000, 1280))}, "superfluous _fc.weight"),
        ({"_bn0.num_batches_tracked": np.zeros(())}, "superfluous stem.norm.num_batches_tracked"),
        ({"_blocks.10._bn2.bias": np.zeros(80)}, "superfluous blocks.10.project.norm.bias"),
        ({"_conv_head.weight": np.zeros((1280, 81, 1, 1))}, r"top.conv.kernel has shape \(1, 1, 81, 1280\), not"),
        ({"_conv_stem.weight": np.zeros((8, 1, 3, 3))}, r"stem.conv.kernel has shape \(3, 3, 1, 8\), not"),
        ({"_blocks.0._depthwise_conv.weight": np.zeros((8, 1, 5, 5))}, r"blocks.0.depthwise.conv.kernel has shape"),
        ({"_blocks.0._depthwise_conv.weight": np.zeros((8, 8, 3, 3))}, r"blocks.0.depthwise.conv.kernel has shape"),
        ({"_bn1.bias": np.zeros(())}, r"top.norm.bias has shape \(\), not \(1280,\)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_does_not_fit_is_refused_by_name(small, saved, changes, message):
    with pytest.raises(ValueError, match=r"weights.npz does not fit the model: .*" + message):
        load_efficientnet(saved(edited(changes)), small.params, small.batch_stats)


def test_a_long_list_of_faults_is_cut(small, saved):
    with pytest.raises(ValueError, match=r"missing blocks.0.depthwise.*; and \d+ more$") as caught:
        load_efficientnet(saved({}), small.params, small.batch_stats)
    assert str(caught.value).count("missing") == 10


class Executed:
    """Raises when it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was executed",)


def test_pickles_are_never_executed(small, tmp_path):
    np.savez(tmp_path / "weights.npz", **lukemelas.arrays() | {"_bn0.bias": np.array([Executed()], dtype=object)})
    with pytest.raises(ValueError, match="weights.npz is not a readable .npz weight file"):
        load_efficientnet(tmp_path / "weights.npz", small.params, small.batch_stats)


def damaged(content: bytes, how: str) -> bytes:
    def flipped(start):
        return content[:start] + bytes(255 - b for b in content[start : start + 64]) + content[start + 64 :]

    return {
        "truncated": content[: len(content) // 2],
        "empty": b"",
        "text": b"not found",
        "flipped first": flipped(80),  # of a compressed file the tables: it cannot be unpacked
        "flipped middle": flipped(len(content) // 2),
    }[how]


@pytest.mark.parametrize("how", ["truncated", "empty", "text", "flipped first", "flipped middle"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damaged_npz_files_are_refused(small, tmp_path, save, how):
    path = tmp_path / "weights.npz"
    save(path, **lukemelas.arrays())
    path.write_bytes(damaged(path.read_bytes(), how))
    with pytest.raises(ValueError, match="weights.npz is not a readable .npz weight file"):
        load_efficientnet(path, small.params, small.batch_stats)


def test_a_single_array_is_not_a_weight_file(small, tmp_path):
    np.save(tmp_path / "weights.npy", np.zeros(3))
    with pytest.raises(ValueError, match="weights.npy is not a readable .npz weight file"):
        load_efficientnet(tmp_path / "weights.npy", small.params, small.batch_stats)


def test_own_weights_return_exactly(small, tmp_path):
    save_weights(tmp_path / "weights.safetensors", small.params, small.batch_stats)
    other = filled(lambda: EfficientNet(width=0.25, depth=0.5, rngs=nnx.Rngs(0)), seed=9)
    loaded = load_weights(tmp_path / "weights.safetensors", other.params, other.batch_stats)
    assert jax.tree.structure(loaded) == jax.tree.structure((small.params, small.batch_stats))
    jax.tree.map(np.testing.assert_array_equal, loaded, (small.params, small.batch_stats))


def test_own_weights_are_dotted_float32_arrays_that_anyone_can_read(small, tmp_path):
    save_weights(tmp_path / "weights.safetensors", small.params, small.batch_stats)
    arrays = safetensors.numpy.load_file(tmp_path / "weights.safetensors")
    kernel = small.params["blocks"][4]["expand"]["conv"]["kernel"]
    np.testing.assert_array_equal(arrays["blocks.4.expand.conv.kernel"], kernel)
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}


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
    arrays = flatten(small.params) | flatten(small.batch_stats)
    edit(arrays)
    safetensors.numpy.save_file(arrays, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=message):
        load_weights(tmp_path / "weights.safetensors", small.params, small.batch_stats)


@pytest.mark.parametrize("how", ["truncated", "empty", "text"])
def test_damaged_own_weights_are_refused(small, tmp_path, how):
    path = tmp_path / "weights.safetensors"
    save_weights(path, small.params, small.batch_stats)
    path.write_bytes(damaged(path.read_bytes(), how))
    with pytest.raises(ValueError, match="is not a readable safetensors file"):
        load_weights(path, small.params, small.batch_stats)


@pytest.mark.skipif(
    REAL_FILE is None, reason="no folder of SEGFUSION_DATA holds the ImageNet weights of EfficientNet-B0"
)
def test_released_b0_weights_compute_what_numpy_computes_from_them():
    b0 = model()
    params, batch_stats = load_efficientnet(REAL_FILE, b0.params, b0.batch_stats)
    x = images(1, 48, 33, 3)
    with np.load(REAL_FILE) as file:
        expected = reference.efficientnet_features(dict(file), x.astype(np.float64), lukemelas.STRIDED_BLOCKS_OF_B0)
    assert expected.std() > 0.01
    np.testing.assert_allclose(features(b0, params, batch_stats, x), expected, rtol=1e-3, atol=1e-4)
