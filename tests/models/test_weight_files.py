"""What is read of weight files of every kind, made by hand as their frameworks make them."""

import json
import pathlib

import h5py
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from segfusion_jax.models import weight_files
from tests.models.weight_file_kinds import KERNEL, KINDS, save_hdf5

kinds = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def path(tmp_path) -> pathlib.Path:
    return tmp_path / "weights.pth"


@kinds
def test_the_kind_of_a_file_is_told_by_its_content(path, kind):
    KINDS[kind](path)
    (array,) = weight_files.read(path).values()
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, KERNEL)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", "i1", "i4", "i8", "u1", "?"])
@pytest.mark.parametrize("save", [np.savez, safetensors.numpy.save_file], ids=["npz", "safetensors"])
def test_floats_become_float32_and_whole_numbers_stay(path, save, dtype):
    numbers = np.array([[1, 0, 3]], dtype)
    if save is np.savez:
        np.savez(path.open("wb"), x=numbers)
    else:
        safetensors.numpy.save_file({"x": numbers}, path)
    array = weight_files.read(path)["x"]
    assert array.dtype == (np.float32 if numbers.dtype.kind == "f" else numbers.dtype)
    np.testing.assert_array_equal(array, numbers)


def save_safetensors(path: pathlib.Path, dtype: str, content: bytes) -> None:
    header = json.dumps({"x": {"dtype": dtype, "shape": [2], "data_offsets": [0, len(content)]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + content)


def test_bfloat16_of_safetensors(path):
    save_safetensors(path, "BF16", bytes.fromhex("c03f 40c1"))  # the upper halves of 1.5 and -12 as float32
    array = weight_files.read(path)["x"]
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, [1.5, -12])


def test_an_unknown_type_of_safetensors_is_refused(path):
    save_safetensors(path, "F8_E4M3", b"ab")
    with pytest.raises(ValueError, match="weights.pth is not a readable weight file: x is of type F8_E4M3, not one of"):
        weight_files.read(path)


OLD_KERAS = {
    "stem_conv": ["stem_conv/kernel:0"],
    "input_1": [],
    "block1a_dwconv": ["block1a_dwconv/depthwise_kernel:0"],
    "normalization": ["normalization/mean:0", "normalization/count:0"],
    "expanded_conv/depthwise": ["expanded_conv/depthwise/depthwise_kernel:0"],
    "expanded_conv/depthwise/BatchNorm": ["expanded_conv/depthwise/BatchNorm/gamma:0"],
    "backbone": ["stem_conv/bias:0", "backbone/top_conv/kernel", "se/conv/kernel"],
    "other": ["other/se/conv/kernel"],
    "dense_1": ["sequential/dense_1/kernel"],
    "top_level_model_weights": ["scale"],
}
OLD_KERAS_NAMES = [
    "stem_conv/kernel",
    "block1a_dwconv/depthwise_kernel",
    "normalization/mean",
    "normalization/count",
    "expanded_conv/depthwise/depthwise_kernel",
    "expanded_conv/depthwise/BatchNorm/gamma",
    "stem_conv/bias",
    "top_conv/kernel",
    "backbone/se/conv/kernel",
    "other/se/conv/kernel",
    "dense_1/kernel",
    "top_level_model_weights/scale",
]


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("encode", [list, lambda values: np.array(values, "S")], ids=["str", "bytes"])
@pytest.mark.parametrize("root", ["/", "model_weights/"])
def test_names_of_old_keras_files(path, root, encode, split):
    def attributes(name, values):
        parts = {f"{name}0": values[:3], f"{name}1": values[3:]} if split else {name: values}
        return {name: encode(part) for name, part in parts.items()}

    weights = [f"{root}{layer}/{weight}" for layer, weights in OLD_KERAS.items() for weight in weights]
    datasets = {weight: np.int64(i) if "count" in weight else np.full(2, i, "f4") for i, weight in enumerate(weights)}
    groups = {f"{root}{layer}": attributes("weight_names", weights) for layer, weights in OLD_KERAS.items()}
    groups[root] = attributes("layer_names", [layer for layer in OLD_KERAS if layer != "top_level_model_weights"])
    save_hdf5(path, datasets | {"optimizer_weights/adam/iter:0": 3}, groups)
    arrays = weight_files.read(path)
    assert list(arrays) == OLD_KERAS_NAMES
    for i, (name, array) in enumerate(arrays.items()):
        np.testing.assert_array_equal(array, i)
        assert array.dtype == (np.int64 if "count" in name else np.float32)


def test_keras_3_files_keep_the_order_of_numbered_layers_and_leave_out_what_is_no_weight(path):
    layers = ["conv2d", *(f"conv2d_{i}" for i in range(1, 12)), "dense", "functional/layers/conv2d_1"]
    kept = [f"layers/{layer}/vars/{i}" for layer in layers for i in range(2)]
    kept += ["generator/layers/dense/vars/0", "layers/attention/_query/vars/0", "vars/0"]
    other = ["optimizer/vars/0", "layers/dropout_3/seed_generator/vars/0", "layers/random_flip/generator/vars/0"]
    save_hdf5(path, {name: np.full(2, i, "f4") for i, name in enumerate([*kept, *other])}, {"layers/dropout/vars": {}})
    arrays = weight_files.read(path)
    names = [name.replace("vars/", "").removeprefix("layers/") for name in kept]
    assert {name: int(array[0]) for name, array in arrays.items()} == {name: i for i, name in enumerate(names)}
    start = list(arrays).index("conv2d/0")
    assert list(arrays)[start : start + 24] == names[:24]


def test_keras_3_layers_bear_the_names_that_their_file_gives_them(path):
    names = {"layers/conv2d_1": "stem_conv", "layers/functional/layers/conv2d": "top_conv"}
    datasets = {f"{place}/vars/{i}": np.full(2, i, "f4") for place in names for i in range(2)}
    save_hdf5(path, datasets, {f"{place}/vars": {"name": name} for place, name in names.items()})
    assert set(weight_files.read(path)) == {"stem_conv/0", "stem_conv/1", "top_conv/0", "top_conv/1"}
    save_hdf5(path, datasets, {f"{place}/vars": {"name": "conv"} for place in names})
    with pytest.raises(ValueError, match="two of its layers are called conv"):
        weight_files.read(path)


def test_a_layer_with_more_than_ten_variables_keeps_their_order(path):
    save_hdf5(path, {f"layers/gru/vars/{i}": np.full(2, i, "f4") for i in range(12)})
    assert list(weight_files.read(path)) == [f"gru/{i}" for i in range(12)]


def test_bfloat16_of_keras_3(path):
    save_hdf5(path, {"layers/dense/vars/0": np.array([1.5, -12], ml_dtypes.bfloat16).view("V2")})
    with pytest.raises(ValueError, match=r"dense/0 is of type \|V2, not a number"):
        weight_files.read(path)
    with h5py.File(path, "a") as file:
        file["layers/dense/vars/0"].attrs["dtype"] = "bfloat16"
    array = weight_files.read(path)["dense/0"]
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, [1.5, -12])
