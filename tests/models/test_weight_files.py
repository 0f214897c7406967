"""Weight files of every kind: made by hand as their frameworks make them, by the frameworks themselves, and damaged."""

import io
import json
import pathlib
import re
import tracemalloc
import zipfile

import h5py
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from flax import serialization

from segfusion_jax.models import weight_files
from tests.models import test_torch_pickle as torch_files

KERNEL = np.arange(12, dtype=np.float32).reshape(3, 4) / 8


def save_hdf5(path: pathlib.Path, datasets: dict, attributes: dict | None = None) -> None:
    """Datasets by their path; attributes of groups by the group's path."""
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name] = values
        for name, values in (attributes or {}).items():
            file.require_group(name).attrs.update(values)


def save_keras_zip(path: pathlib.Path) -> None:
    save_hdf5(path, {"layers/dense/vars/0": KERNEL})
    content = path.read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", content)


def torch_bytes(write) -> bytes:
    value = {"kernel": torch_files.tensor(size=12, shape=(3, 4), strides=(4, 1))}
    return write(value, {"0": KERNEL.tobytes()})


KINDS = {
    "npz": lambda path: np.savez(path.open("wb"), kernel=KERNEL),
    "compressed npz": lambda path: np.savez_compressed(path.open("wb"), kernel=KERNEL),
    "safetensors": lambda path: safetensors.numpy.save_file({"kernel": KERNEL}, path),
    "torch": lambda path: path.write_bytes(torch_bytes(torch_files.zipped)),
    "old torch": lambda path: path.write_bytes(torch_bytes(torch_files.legacy)),
    "old keras": lambda path: save_hdf5(
        path,
        {"dense/dense/kernel:0": KERNEL},
        {"/": {"layer_names": ["dense"]}, "dense": {"weight_names": ["dense/kernel:0"]}},
    ),
    "keras": lambda path: save_hdf5(path, {"layers/dense/vars/0": KERNEL}),
    "keras archive": save_keras_zip,
    "msgpack": lambda path: path.write_bytes(serialization.to_bytes({"kernel": KERNEL})),
}
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


@kinds
@pytest.mark.parametrize("share", [0.03, 0.3, 0.6, 0.97])
def test_a_file_cut_short_is_refused(path, kind, share):
    KINDS[kind](path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match="^" + re.escape(f"{path} is not a readable weight file: ")):
        weight_files.read(path)


@kinds
def test_a_damaged_file_gives_arrays_or_a_value_error(path, kind):
    KINDS[kind](path)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        damaged = np.frombuffer(content, np.uint8).copy()
        damaged[rng.integers(0, min(len(content), 1500), 8)] = rng.integers(0, 256, 8)
        path.write_bytes(damaged.tobytes())
        try:
            arrays = weight_files.read(path)
        except ValueError as error:
            assert str(error).startswith(str(path))
            refused += 1
        else:
            assert all(array.dtype.kind in "fiub" for array in arrays.values())
    assert refused > 10


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "it begins with b'version h', as none of .npz"),
        (b"storages\0\0\0\0", "it begins with"),
        (b"PK", "it begins with b'PK'"),
        (np.save, "it begins with b'.*NUMPY"),
    ],
)
def test_a_file_of_another_kind_is_refused(path, content, message):
    if callable(content):
        content(path.open("wb"), KERNEL)
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=f"weights.pth is not a readable weight file: {message}"):
        weight_files.read(path)


def test_a_folder_is_refused_and_a_missing_file_is_missing(tmp_path):
    with pytest.raises(ValueError, match="is not a readable weight file: .*Is a directory"):
        weight_files.read(tmp_path)
    with pytest.raises(FileNotFoundError, match="absent.npz"):
        weight_files.read(tmp_path / "absent.npz")


@pytest.mark.parametrize(
    "save",
    [
        lambda path: safetensors.numpy.save_file({}, path),
        lambda path: path.write_bytes(torch_files.zipped({}, {})),
        lambda path: path.write_bytes(torch_files.legacy({}, {})),
        lambda path: save_hdf5(path, {}),
        lambda path: save_hdf5(path, {"optimizer/vars/0": KERNEL}),
    ],
)
def test_a_file_without_arrays_is_refused(path, save):
    save(path)
    with pytest.raises(ValueError, match="weights.pth holds no arrays"):
        weight_files.read(path)


@pytest.mark.parametrize("write", [torch_files.zipped, torch_files.legacy])
def test_a_pickle_that_asks_for_code_is_refused_with_the_path(path, write):
    made = path.with_name("made")
    attack = torch_files.Call(torch_files.Global("os", "mkdir"), (str(made),))
    path.write_bytes(write({"a": attack}, {}))
    with pytest.raises(ValueError, match="weights.pth is not a readable weight file: .*os.mkdir has no place"):
        weight_files.read(path)
    assert not made.exists()


def test_a_legacy_list_of_storages_that_is_no_list_of_names_is_refused(path):
    content = torch_files.legacy({"a": torch_files.tensor()}, {})
    path.write_bytes(content.removesuffix(torch_files.dumps([])) + torch_files.dumps([["0"]]))
    with pytest.raises(ValueError, match="weights.pth is not a readable weight file"):
        weight_files.read(path)


class Attack:
    def __init__(self, made: pathlib.Path):
        self.made = made

    def __reduce__(self):
        return pathlib.Path.mkdir, (self.made,)


def test_a_pickle_within_an_npz_file_is_not_read(path):
    np.savez(path.open("wb"), x=np.array([Attack(path.with_name("made"))], object))
    with pytest.raises(ValueError, match="weights.pth is not a readable weight file: Object arrays"):
        weight_files.read(path)
    assert not path.with_name("made").exists()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["readme.txt"], "a zip archive, but not one of NumPy, PyTorch or Keras"),
        (["a.npy", "readme.txt"], "a zip archive, but not one of NumPy, PyTorch or Keras"),
        (["a.npy"], "a is of type bytes, not a number"),
    ],
)
def test_other_archives_are_refused(path, names, message):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "text")
    with pytest.raises(ValueError, match=message):
        weight_files.read(path)


@pytest.mark.parametrize(
    ("datasets", "attributes", "message"),
    [
        ({"images": KERNEL}, {}, "images is in no group vars"),
        ({"layers/dense/0": KERNEL}, {}, "layers/dense/0 is in no group vars"),
        ({"layers/dense/vars/0": "text"}, {}, "dense/0 is of type"),
        ({"layers/dense/vars/0": h5py.Empty("f4")}, {}, "dense/0 is of type"),
        ({"layers/dense/vars/0": np.ones(2, complex)}, {}, "dense/0 is of type complex128"),
        (
            {"conv/conv/bias:0": KERNEL},
            {"/": {"layer_names": ["conv"]}, "conv": {"weight_names": ["conv/kernel:0"]}},
            "lists conv/kernel:0 of layer conv, but does not hold it",
        ),
    ],
)
def test_other_hdf5_files_are_refused(path, datasets, attributes, message):
    save_hdf5(path, datasets, attributes)
    with pytest.raises(ValueError, match=message):
        weight_files.read(path)


def test_an_hdf5_file_that_reaches_for_another_is_refused(path):
    secret = path.with_name("secret.h5")
    save_hdf5(secret, {"layers/dense/vars/0": KERNEL})
    save_hdf5(path, {"conv/bias:0": KERNEL}, {"/": {"layer_names": ["conv"]}, "conv": {"weight_names": ["kernel:0"]}})
    with h5py.File(path, "a") as file:
        file["conv/kernel:0"] = h5py.ExternalLink(str(secret), "layers/dense/vars/0")
    with pytest.raises(ValueError, match="lists kernel:0 of layer conv, but does not hold it"):
        weight_files.read(path)
    with h5py.File(path, "w") as file:
        file.create_dataset("layers/dense/vars/0", (3,), "f4", external=[(str(secret), 0, 12)])
    with pytest.raises(ValueError, match="layers/dense/vars/0 lies in another file"):
        weight_files.read(path)


def save_zip_bomb(path: pathlib.Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", bytes(100))
        archive.infolist()[0].file_size = 2**36


def save_hdf5_bomb(path: pathlib.Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("layers/dense/vars/0", (2**17, 2**17), "f4", chunks=(2**8, 2**8), compression="gzip")


@pytest.mark.parametrize(
    ("save", "message"),
    [
        (save_zip_bomb, r"its \d+ bytes declare 68719476736 bytes of arrays"),
        (save_hdf5_bomb, r"its \d+ bytes declare 68719476736 bytes of arrays"),
    ],
)
def test_a_file_that_declares_more_than_it_can_hold_is_refused_before_memory_is_taken(path, save, message):
    save(path)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message):
            weight_files.read(path)
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()


def test_an_npy_header_that_declares_more_than_its_member_holds_is_refused(path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2**50,)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", header.getvalue())
    with pytest.raises(ValueError, match="weights.pth is not a readable weight file"):
        weight_files.read(path)


@pytest.fixture
def keras(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    return pytest.importorskip("keras")


def filled(model):
    """A model all of whose weights differ."""
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(1, 2, weight.shape).astype(weight.dtype) for weight in model.weights])
    return model


def expected_keras_3(model) -> dict[str, np.ndarray]:
    """The names that `read` promises, from the model's layers."""
    expected = {}
    for layer in model.layers:
        if hasattr(layer, "layers"):
            expected |= expected_keras_3(layer)
        else:
            expected |= {f"{layer.name}/{i}": np.asarray(weight) for i, weight in enumerate(layer.weights)}
    return expected


def nested_model(keras):
    inputs = keras.Input((8, 8, 3))
    inner = keras.Sequential([keras.Input((8, 8, 4)), keras.layers.Conv2D(2, 3), keras.layers.BatchNormalization()])
    features = inner(keras.layers.Conv2D(4, 1)(keras.layers.RandomFlip(seed=1)(inputs)))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Dropout(0.1, seed=1)(features))
    model = keras.Model(inputs, keras.layers.Dense(2)(pooled))
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(np.zeros((4, 8, 8, 3)), np.zeros((4, 2)), verbose=0)
    return model


@pytest.mark.parity
@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
@pytest.mark.parametrize("net", ["EfficientNetB0", "MobileNetV3Small", "nested"])
def test_files_that_keras_3_writes(tmp_path, keras, net, suffix):
    make = nested_model if net == "nested" else lambda keras: getattr(keras.applications, net)(weights=None)
    model = filled(make(keras))
    path = tmp_path / f"net{suffix}"
    (model.save if suffix == ".keras" else model.save_weights)(path)
    arrays, expected = weight_files.read(path), expected_keras_3(model)
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array)


@pytest.mark.parity
@pytest.mark.parametrize("net", ["EfficientNetB0", "MobileNetV3Small", "nested"])
def test_old_files_that_keras_writes(tmp_path, keras, net):
    make = nested_model if net == "nested" else lambda keras: getattr(keras.applications, net)(weights=None)
    model = filled(make(keras))
    model.save(tmp_path / "net.h5")
    arrays = weight_files.read(tmp_path / "net.h5")
    expected = {}
    for layer in model.layers:
        for weight in layer.trainable_weights + layer.non_trainable_weights:
            expected[f"{layer.name}/{weight.path.removeprefix(layer.name + '/')}"] = np.asarray(weight)
    assert list(arrays) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array)


@pytest.mark.parity
def test_bfloat16_that_keras_3_writes(tmp_path, keras):
    model = filled(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, dtype="bfloat16")]))
    model.save_weights(tmp_path / "net.weights.h5")
    arrays = weight_files.read(tmp_path / "net.weights.h5")
    np.testing.assert_array_equal(arrays[f"{model.layers[0].name}/0"], np.asarray(model.weights[0]).astype(np.float32))


@pytest.mark.parity
def test_bfloat16_that_torch_writes(tmp_path):
    torch = pytest.importorskip("torch")
    safetensors_torch = pytest.importorskip("safetensors.torch")
    value = {"x": torch.linspace(-3, 3, 7).bfloat16(), "n": torch.tensor(3)}
    torch.save(value, tmp_path / "net.bin")
    safetensors_torch.save_file(value, tmp_path / "net.safetensors")
    for name in ("net.bin", "net.safetensors"):
        arrays = weight_files.read(tmp_path / name)
        assert arrays["x"].dtype == np.float32 and arrays["n"].dtype == np.int64
        np.testing.assert_array_equal(arrays["x"], value["x"].float().numpy())
