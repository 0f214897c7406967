"""Networks of Keras on its JAX backend."""

import functools
import os
import pathlib
import re
from collections.abc import Mapping
from unittest import mock

os.environ.setdefault("KERAS_BACKEND", "jax")

import h5py  # noqa: E402
import jax  # noqa: E402
import keras  # noqa: E402
import numpy as np  # noqa: E402
from keras import layers  # noqa: E402
from keras.src.legacy.saving import legacy_h5_format  # noqa: E402
from keras.src.utils import file_utils  # noqa: E402

from tests.models.drawn import draw  # noqa: E402
from tests.parity.networks import Outputs  # noqa: E402

PUBLISHED_NORMALISATION = {
    "normalization/mean": np.array([0.485, 0.456, 0.406], np.float32),
    "normalization/variance": np.array([0.229, 0.224, 0.225], np.float32),
}
"""In Keras' released files of EfficientNet: the 'variance' is ImageNet's standard deviation."""


class KerasPeer:
    """A network of `keras.applications`, with the layers that normalise the image and with drawn weights.

    Args:
      application: its function there, `EfficientNetB0`.
      gain: of the weights.
      arrays: instead of drawn ones.
    """

    version = keras.__version__

    def __init__(self, application: str, gain: float, arrays: Mapping[str, np.ndarray] | None = None):
        self._application = getattr(keras.applications, application)
        weights = self._build((64, 64, 3)).weights
        self.shapes = {variable.path: tuple(variable.shape) for variable in weights}
        self._arrays = draw(self.shapes, gain) | dict(arrays or {})

    def save(self, folder: pathlib.Path) -> pathlib.Path:
        """Writes the weights as Keras' released files have them."""
        path = folder / "legacy.h5"
        with h5py.File(path, "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(file, self._filled((64, 64, 3)))
        return path

    def save_keras_3(self, folder: pathlib.Path) -> pathlib.Path:
        """Writes the weights as Keras 3 does."""
        path = folder / "keras_3.weights.h5"
        self._filled((64, 64, 3)).save_weights(path)
        return path

    def run(self, images: np.ndarray, *, train: bool) -> tuple[Outputs, dict[str, np.ndarray]]:
        """What it makes of `images` [batch, height, width, 3] in [0, 1], and its arrays after that."""
        made, arrays = _run(_with_stages(self._filled(images.shape[1:])), 255 * images, train=train)
        return _outputs(made), {name: arrays[name] for name in self.shapes}

    def run_imagenet(self, images: np.ndarray, folder: pathlib.Path) -> Outputs:
        """What Keras' own `weights="imagenet"` makes of images [batch, 224, 224, 3], our file for the download."""
        path = str(self.save(folder))
        with mock.patch.object(file_utils, "get_file", lambda *args, **options: path):
            keras.utils.clear_session()
            model = self._application(weights="imagenet", classifier_activation=None)
        return _outputs(_run(_with_stages(model), 255 * images, train=False)[0])

    def _build(self, shape):
        keras.utils.clear_session()  # numbers the layers from the start
        return self._application(weights=None, input_shape=shape, classifier_activation=None)

    def _filled(self, shape):
        model = self._build(shape)
        for variable in model.weights:
            variable.assign(self._arrays[variable.path])
        for layer in model.layers:
            if isinstance(layer, layers.Normalization):
                layer.finalize_state()
            if isinstance(layer, layers.BatchNormalization):
                layer.momentum = 0.9
            if isinstance(layer, layers.Dropout):
                layer.rate = 0.0
        return model


class KerasUNet:
    """The U-Net of the SegFusion paper from Keras' layers, with our weights.

    Args:
      filters: at the first level.
      arrays: our weights by their dotted names, `down.0.conv1.kernel`.
    """

    version = keras.__version__

    def __init__(self, filters: int, arrays: Mapping[str, jax.Array]):
        self._filters = filters
        self._arrays = {name: np.asarray(array) for name, array in arrays.items()}

    def run(self, images: np.ndarray, *, train: bool) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Its logits [batch, height, width, 1], and its batch-norm statistics by our names after that."""
        model = self._build(images.shape[1:])
        for layer in model.layers:
            if layer.weights:
                arrays = [self._arrays[_our_name(variable.path)] for variable in layer.weights]
                if isinstance(layer, layers.Conv2DTranspose):  # [height, width, out, in]
                    arrays[0] = arrays[0].swapaxes(2, 3)
                layer.set_weights(arrays)
        made, arrays = _run(model, images, train=train)
        return made[0], {_our_name(path): array for path, array in arrays.items() if "/moving_" in path}

    def _build(self, shape):
        keras.utils.clear_session()
        widths = [self._filters * 2**level for level in range(5)]
        inputs = x = layers.Input(shape)
        skips = []
        for level in range(4):
            skips.append(_double_conv(x, widths[level], f"down.{level}"))
            x = layers.Dropout(0.0)(layers.MaxPooling2D(2, padding="same")(skips[-1]))
        x = _double_conv(x, widths[4], "bottom")
        for level in range(4):
            skip, filters = skips[3 - level], widths[3 - level]
            x = layers.Conv2DTranspose(filters, 3, strides=2, padding="same", name=f"upsample.{level}")(x)
            surplus = [[0, ours - theirs] for ours, theirs in zip(x.shape[1:3], skip.shape[1:3], strict=True)]
            x = layers.Concatenate()([layers.Cropping2D(surplus)(x), skip])
            x = _double_conv(layers.Dropout(0.0)(x), filters, f"up.{level}")
        return keras.Model(inputs, [layers.Conv2D(1, 1, name="head")(x)])


def _double_conv(x, filters, name):
    for number in "12":
        x = layers.Conv2D(filters, 3, padding="same", name=f"{name}.conv{number}")(x)
        x = layers.BatchNormalization(momentum=0.9, name=f"{name}.norm{number}")(x)
        x = layers.Activation("relu")(x)
    return x


_OUR_KINDS = {"gamma": "scale", "beta": "bias", "moving_mean": "mean", "moving_variance": "var"}


def _our_name(path: str) -> str:
    layer, kind = path.split("/")
    return f"{layer}.{_OUR_KINDS.get(kind, kind)}"


def _with_stages(model: keras.Model) -> keras.Model:
    """The same layers, with what `Outputs` holds as outputs."""
    names = [layer.name for layer in model.layers]
    stem = names.index("stem_bn" if "stem_bn" in names else "conv_bn") + 1
    blocks = {}
    for name in names:
        if match := re.fullmatch(r"(block\d[a-z]|expanded_conv(?:_\d+)?)_(?:project_bn|add)", name):
            blocks[match[1]] = name  # the addition, where there is one, comes later
    head = model.get_layer("logits" if "logits" in names else "predictions")
    stages = [model.layers[stem].output, *(model.get_layer(name).output for name in blocks.values())]
    return keras.Model(model.input, [*stages, head.input, model.output])


def _outputs(stages_and_rest: list[np.ndarray]) -> Outputs:
    *stages, features, logits = stages_and_rest
    return Outputs(stages, features.reshape(len(features), -1), logits)


def _run(model: keras.Model, images: np.ndarray, *, train: bool) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    step = jax.jit(functools.partial(model.stateless_call, training=train))
    variables = [*model.trainable_variables, *model.non_trainable_variables]
    trainable, fixed = (
        [v.value for v in group] for group in (model.trainable_variables, model.non_trainable_variables)
    )
    made, new_fixed = step(trainable, fixed, images)
    arrays = {v.path: np.asarray(value) for v, value in zip(variables, [*trainable, *new_fixed], strict=True)}
    return [np.asarray(output) for output in jax.tree.leaves(made)], arrays
