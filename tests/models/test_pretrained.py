"""Weight files: released ones against a NumPy forward pass on the file itself, faulty ones, our own."""

import json

import jax
import numpy as np
import pytest
from flax import nnx

from segfusion_jax.models import efficientnet
from segfusion_jax.models.efficientnet import EfficientNet
from segfusion_jax.models.functional import Functional
from segfusion_jax.models.preprocessing import CENTRED, IMAGENET, Preprocessing
from segfusion_jax.models.pretrained import flatten, load_pretrained, save_weights
from segfusion_jax.models.unet import EncoderUNet
from segfusion_jax.runtime import locations
from tests.models import lukemelas, reference
from tests.models.filled import filled

REAL_FILE = locations.find("efficientnet_b0_imagenet_autoaug_notop_f32.npz")


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


def load(path, made: Functional, **options) -> Functional:
    return load_pretrained(path, made, **options)


def features(made: Functional, images):
    run = jax.jit(lambda *args: made.apply(*args, train=False, method="features")[0])
    return run(made.params, made.batch_stats, images)


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def test_loaded_features_are_those_of_a_numpy_forward_pass_on_the_file(small, saved):
    arrays, x = lukemelas.arrays(), images(2, 33, 40, 3)
    loaded = load(saved(arrays), small)
    expected = reference.efficientnet_features(arrays, x.astype(np.float64), lukemelas.STRIDED_BLOCKS)
    assert expected.std() > 0.1
    np.testing.assert_allclose(features(loaded, x), expected, rtol=1e-4, atol=1e-4)


def test_every_value_of_the_file_is_used_once_and_the_last_layer_is_kept(small, saved):
    arrays = lukemelas.arrays()
    params, batch_stats = load(saved(arrays), small)[1:3]
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
    kernel = load(saved(arrays), small).params["stem"]["conv"]["kernel"]
    np.testing.assert_array_equal(kernel[:, :, 3], 0)
    np.testing.assert_array_equal(kernel[1, 2, :3, 5], arrays["_conv_stem.weight"][5, :, 1, 2])


def with_head(arrays: dict) -> dict:
    rng = np.random.default_rng(3)
    return arrays | {"_fc.weight": rng.normal(size=(1, 1280)), "_fc.bias": rng.normal(size=1)}


def test_the_last_layer_is_kept_or_dropped_by_choice(small, saved):
    path = saved(arrays := with_head(lukemelas.arrays()))
    jax.tree.map(np.testing.assert_array_equal, load(path, small).params["head"], small.params["head"])
    kept = load(path, small, drop=()).params["head"]
    np.testing.assert_array_equal(kept["kernel"], arrays["_fc.weight"].T.astype(np.float32))
    np.testing.assert_array_equal(kept["bias"], arrays["_fc.bias"].astype(np.float32))
    with pytest.raises(
        ValueError, match="missing head.bias; missing head.kernel|missing head.kernel; missing head.bias"
    ):
        load(saved(lukemelas.arrays()), small, drop=())


def test_a_part_that_is_dropped_is_no_other_whose_name_begins_alike(tmp_path):
    def made(value):
        kernels = {number: {"kernel": np.full((2, 2), value, np.float32)} for number in (1, 10)}
        params = {"stem": {"conv": {"kernel": np.full((3, 3, 3, 8), value, np.float32)}}, "blocks": kernels}
        return Functional(lambda *_: (None, {}), params, {}, IMAGENET, "timm")

    save_weights(tmp_path / "own.safetensors", made(1))
    blocks = load(tmp_path / "own.safetensors", made(0), drop=("blocks.1",)).params["blocks"]
    assert not blocks[1]["kernel"].any() and blocks[10]["kernel"].all()


def test_batch_counters_are_no_weights(small, saved):
    path = saved(lukemelas.arrays() | {"_blocks.0._bn1.num_batches_tracked": np.array(7)})
    jax.tree.map(np.testing.assert_array_equal, load(path, small).params, load(saved(lukemelas.arrays()), small).params)


def test_an_encoder_is_filled_and_the_rest_of_the_unet_stays(saved):
    plan = efficientnet.plan("efficientnet_b0", width=0.25, depth=0.5)
    unet = filled(lambda: EncoderUNet(plan, filters=2, rngs=nnx.Rngs(0)))
    arrays = lukemelas.arrays()
    unread = [f"blocks.{number}" for number in range(len(unet.params["encoder"]["blocks"]), len(plan.blocks))]
    assert unread
    loaded = load(saved(arrays), unet, drop=("top", "hidden", "head", *unread), within="encoder")
    np.testing.assert_array_equal(loaded.params["encoder"]["stem"]["norm"]["scale"], arrays["_bn0.weight"])
    np.testing.assert_array_equal(
        loaded.batch_stats["encoder"]["blocks"][6]["project"]["norm"]["var"], arrays["_blocks.6._bn2.running_var"]
    )
    for before, after in zip(unet[1:3], loaded[1:3], strict=True):
        assert jax.tree.structure(before) == jax.tree.structure(after)
        before, after = ({name: part for name, part in tree.items() if name != "encoder"} for tree in (before, after))
        jax.tree.map(np.testing.assert_array_equal, before, after)


def test_weights_of_another_family_are_refused(small, saved, tmp_path):
    with pytest.raises(ValueError, match="lukemelas's, follow the conventions tensorflow; the model follows 'timm'"):
        load(saved(lukemelas.arrays()), small._replace(conventions="timm"))
    save_weights(tmp_path / "own.safetensors", small._replace(conventions="torchvision"))
    with pytest.raises(ValueError, match="segfusion's, follow the conventions torchvision; the model follows 'timm'"):
        load(tmp_path / "own.safetensors", small._replace(conventions="timm"))


def test_own_weights_start_another_training(small, tmp_path):
    expects = Preprocessing((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), (33, 44))
    save_weights(tmp_path / "own.safetensors", small._replace(preprocessing=expects))
    other = filled(lambda: EfficientNet(width=0.25, depth=0.5, rngs=nnx.Rngs(0)), seed=9)
    loaded = load(tmp_path / "own.safetensors", other)
    assert loaded.preprocessing == expects
    jax.tree.map(np.testing.assert_array_equal, loaded.batch_stats, small.batch_stats)
    jax.tree.map(np.testing.assert_array_equal, loaded.params["head"], other.params["head"])


def keras_arrays(**normalization) -> dict:
    """Layers of a tiny file of Keras, enough to be recognised."""
    layers = {"stem_conv/kernel": np.zeros((3, 3, 3, 8))}
    return layers | {f"normalization_1/{name}": np.float32(values) for name, values in normalization.items()}


@pytest.mark.parametrize(
    ("normalization", "expected"),
    [
        (dict(mean=IMAGENET.mean, variance=IMAGENET.std, count=0), IMAGENET),  # as in the files that Keras publishes
        (dict(mean=[0, 0.1, 0.2], variance=[1, 4, 9]), Preprocessing((0, 0.1, 0.2), (1, 2, 3))),
        ({"0": [0, 0.1, 0.2], "1": [1, 4, 9], "2": 0}, Preprocessing((0, 0.1, 0.2), (1, 2, 3))),
        ({}, CENTRED),  # MobileNetV3 has no such layer
    ],
    ids=["published", "own", "keras 3", "mobilenet"],
)
def test_preprocessing_inside_a_keras_model_comes_with_its_weights(saved, normalization, expected):
    stem = Functional(None, {"stem": {"conv": {"kernel": np.ones((3, 3, 3, 8))}}}, {}, IMAGENET, "tensorflow")
    loaded = load(saved(keras_arrays(**normalization)), stem)
    np.testing.assert_allclose(loaded.preprocessing[:2], expected[:2], rtol=1e-6)
    np.testing.assert_array_equal(loaded.params["stem"]["conv"]["kernel"], 0)


def timm_folder(tmp_path, **config):
    np.savez(tmp_path / "model.npz", **{"conv_stem.weight": np.zeros((8, 3, 3, 3))})
    if config:
        (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path / "model.npz"


def test_timms_config_beside_the_weights_is_read(tmp_path):
    stem = Functional(None, {"stem": {"conv": {"kernel": np.ones((3, 3, 3, 8))}}}, {}, CENTRED, "tensorflow")
    path = timm_folder(tmp_path)
    assert load(path, stem).preprocessing == load(path, stem._replace(conventions="timm")).preprocessing == IMAGENET
    values = dict(mean=[0.5, 0.4, 0.3], std=[0.1, 0.2, 0.3], input_size=[3, 240, 320])
    timm_folder(tmp_path, architecture="tf_efficientnet_b0", pretrained_cfg=values)
    assert load(path, stem).preprocessing == Preprocessing((0.5, 0.4, 0.3), (0.1, 0.2, 0.3), (240, 320))
    with pytest.raises(ValueError, match="follow the conventions tensorflow; the model follows 'timm'"):
        load(path, stem._replace(conventions="timm"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "config.json beside it is not JSON"),
        ('{"pretrained_cfg": {"mean": [0, 0, 0]}}', "config.json beside it lacks input_size, std"),
        ('{"pretrained_cfg": null}', "lacks input_size, mean, std"),
    ],
)
def test_a_config_of_timm_that_cannot_be_read_is_an_error_with_the_weights_path(tmp_path, content, message):
    stem = Functional(None, {"stem": {"conv": {"kernel": np.ones((3, 3, 3, 8))}}}, {}, CENTRED, "timm")
    path = timm_folder(tmp_path)
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match="model.npz: .*" + message):
        load(path, stem)


def test_mobilenets_of_tensorflow_from_timm_expect_centred_images(tmp_path):
    arrays = {
        "conv_stem.weight": np.zeros((8, 3, 3, 3)),
        "conv_head.bias": np.zeros(4),
        "conv_head.weight": np.zeros((4, 2)),
    }
    np.savez(tmp_path / "model.npz", **arrays)
    params = {"stem": {"conv": {"kernel": np.ones((3, 3, 3, 8))}}}
    for conventions, expected in (("tensorflow", CENTRED), ("timm", IMAGENET)):
        stem = Functional(None, params, {}, CENTRED, conventions)
        assert load(tmp_path / "model.npz", stem, drop=("hidden",)).preprocessing == expected


def test_names_of_nobody_are_refused(small, saved):
    with pytest.raises(
        ValueError, match="weights.npz: the names of its arrays are none of .* the first are conv1.weight"
    ):
        load(saved({"conv1.weight": np.zeros(3)}), small)


def edited(changes: dict) -> dict:
    arrays = lukemelas.arrays() | changes
    return {name: array for name, array in arrays.items() if array is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_blocks.3._bn1.running_var": None}, "missing blocks.3.depthwise.norm.var"),
        ({"_conv_head.weight": None}, "missing top.conv.kernel"),
        ({"_blocks.3._bn7.weight": np.zeros(3)}, "superfluous _blocks.3._bn7.weight"),
        ({"_blocks.3._bn1.average": np.zeros(3)}, "superfluous blocks.3.depthwise.norm.average"),
        ({"_swish.beta": np.zeros(3)}, "superfluous _swish.beta"),
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
        load(saved(edited(changes)), small)


def test_a_long_list_of_faults_is_cut(small, saved):
    with pytest.raises(ValueError, match=r"missing blocks.0.*; and \d+ more$") as caught:
        load(saved({"_conv_stem.weight": lukemelas.arrays()["_conv_stem.weight"]}), small)
    assert str(caught.value).count("missing") == 10


class Executed:
    """Raises when it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was executed",)


def test_pickles_are_never_executed(small, tmp_path):
    np.savez(tmp_path / "weights.npz", **lukemelas.arrays() | {"_bn0.bias": np.array([Executed()], dtype=object)})
    with pytest.raises(ValueError, match="weights.npz is not a readable weight file"):
        load(tmp_path / "weights.npz", small)


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
    with pytest.raises(ValueError, match="weights.npz is not a readable weight file"):
        load(path, small)


def test_a_single_array_is_not_a_weight_file(small, tmp_path):
    np.save(tmp_path / "weights.npy", np.zeros(3))
    with pytest.raises(ValueError, match="weights.npy is not a readable weight file"):
        load(tmp_path / "weights.npy", small)


@pytest.mark.skipif(
    REAL_FILE is None, reason="no folder of SEGFUSION_DATA holds the ImageNet weights of EfficientNet-B0"
)
def test_released_b0_weights_compute_what_numpy_computes_from_them():
    b0 = load(REAL_FILE, model())
    x = images(1, 48, 33, 3)
    with np.load(REAL_FILE) as file:
        expected = reference.efficientnet_features(dict(file), x.astype(np.float64), lukemelas.STRIDED_BLOCKS_OF_B0)
    assert expected.std() > 0.01
    np.testing.assert_allclose(features(b0, x), expected, rtol=1e-3, atol=1e-4)
