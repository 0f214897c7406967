"""Weight files that Keras and PyTorch themselves write."""

import numpy as np
import pytest

from segfusion_jax.models import weight_files


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
