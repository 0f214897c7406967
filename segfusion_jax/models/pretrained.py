"""Weight files to parameters and back: released networks of Keras, timm and torchvision, and our own files.

Reading is strict both ways: every array of the file is used once, every parameter is filled, every shape is equal.
"""

import json
import logging
import pathlib
from collections.abc import Mapping, Sequence

import jax
import numpy as np
import safetensors
import safetensors.numpy

from segfusion_jax.models import preprocessing, weight_files, weight_names
from segfusion_jax.models.functional import Functional, Variables
from segfusion_jax.models.preprocessing import Preprocessing
from segfusion_jax.models.unwrapping import unwrap
from segfusion_jax.models.weight_names import Arrays, Source
from segfusion_jax.runtime import regular, typed
from segfusion_jax.runtime.atomic import replace

_log = logging.getLogger(__name__)


def load_pretrained(
    path: str | pathlib.Path, model: Functional, *, drop: Sequence[str] = ("head",), within: str = ""
) -> Functional:
    """Fills a model with released weights.

        model = functional(EfficientNet("efficientnet_b0", num_classes=1, rngs=nnx.Rngs(0)))
        model = load_pretrained("efficientnetb0_notop.h5", model)  # all but the last layer

    Args:
      path: weights by the names of Keras, timm, torchvision, lukemelas/EfficientNet-PyTorch or our own, in any
        container that `weight_files` reads, alone or wrapped as `unwrapping` knows it.
      model: what is filled. Where it reads four channels and the file three, the fourth starts at zero.
      drop: parts that are not read from the file, by what their names start with: "head", the last layer, "hidden", the
        layer before it in MobileNetV3, "top", "blocks.15", or what a file has of its own. The model, where it has them,
        keeps its.
      within: part of the model that is filled, such as "encoder"; "" for all of it.

    Returns:
      The model with the file's arrays, and with the preprocessing that belongs to them.

    Raises:
      ValueError: the file cannot be read, follows other conventions, or has an array that is missing, superfluous or of
        another shape; all of them are named.
    """
    path = pathlib.Path(path)
    arrays = weight_files.read(path)
    try:
        source, translated = weight_names.translate(unwrap(arrays))
        expects = _preprocessing(path, source, translated, model.conventions)
        _check_conventions(path, source, model.conventions)
    except (ValueError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path}: {error}") from error
    unread = (*drop, "preprocessing")
    params, batch_stats = (tree[within] if within else tree for tree in (model.params, model.batch_stats))
    current = flatten(params) | flatten(batch_stats)
    expected = {name: array for name, array in current.items() if not _within(name, drop)}
    chosen = {name: array for name, array in translated.items() if not _within(name, unread)}
    try:
        filled = current | _checked(_with_fourth_channel(chosen, expected), expected, path)
    except ValueError as error:
        if set(chosen) <= set(expected):
            raise
        raise ValueError(
            f"{error}. If what is superfluous is its last layer, name that: config.classifier.pretrained_head "
            "(config.segmenter.pretrained_head; drop of load_pretrained)"
        ) from error
    params, batch_stats = _like(params, filled), _like(batch_stats, filled)
    if within:
        params, batch_stats = model.params | {within: params}, model.batch_stats | {within: batch_stats}
    _log.info("%s: %s's weights, for images normalised by mean %s and deviation %s", path, source, *expects[:2])
    return model._replace(params=params, batch_stats=batch_stats, preprocessing=expects)


def save_weights(path: pathlib.Path, model: Functional) -> None:
    """Writes one safetensors file of float32 arrays under their dotted paths, `blocks.0.expand.conv.kernel`.

    Args:
      path: path of the file.
      model: the model whose arrays are written; its preprocessing and its conventions become metadata.

    Raises:
      OSError: the file cannot be written, as on a full disk.
    """
    arrays = flatten(model.params) | flatten(model.batch_stats)
    metadata = {"conventions": model.conventions, "preprocessing": model.preprocessing._asdict()}
    _write_own(path, {name: np.asarray(array) for name, array in arrays.items()}, metadata)


def release_weights(path: pathlib.Path, target: pathlib.Path) -> None:
    """Copies a file that `save_weights` wrote with kernels in float16, which halves it.

    Scales, biases and batch-norm statistics, all of one axis, stay float32: a small variance would become 0. So does a
    kernel that float16 cannot hold: where an output channel, the last axis, would be off by more than 1/1024 of its
    largest weight, as by overflow, or in a channel so faint that its batch norm must enlarge it.

    Args:
      path: path of the file.
      target: path of the copy.

    Raises:
      ValueError: the file cannot be read.
      OSError: the copy cannot be written, as on a full disk.
    """
    arrays, metadata = _read_own(path)
    _write_own(target, {name: _halved(array) for name, array in arrays.items()}, metadata)


def is_unet(path: pathlib.Path) -> bool:
    """Returns whether a file is one that `save_weights` wrote of a U-Net."""
    try:
        with safetensors.safe_open(path, "numpy") as file:
            return "segfusion_jax" in (file.metadata() or {}) and any(name.startswith("up.") for name in file.keys())
    except safetensors.SafetensorError:
        return False


def stored_preprocessing(path: pathlib.Path) -> Preprocessing:
    """Returns what a file that `save_weights` wrote says of its preprocessing.

    Raises:
      ValueError: the file cannot be read.
    """
    return _stated_preprocessing(_read_own(path)[1])


def load_weights(path: pathlib.Path, model: Functional) -> Functional:
    """Fills a model of the same structure with what `save_weights` wrote, its preprocessing too.

    Raises:
      ValueError: the file cannot be read, or names every array that is missing, superfluous or of another shape.
    """
    arrays, metadata = _read_own(path)
    loaded = _checked(arrays, flatten(model.params) | flatten(model.batch_stats), path)
    params, batch_stats = _like(model.params, loaded), _like(model.batch_stats, loaded)
    return model._replace(params=params, batch_stats=batch_stats, preprocessing=_stated_preprocessing(metadata))


def flatten(variables: Variables) -> dict[str, jax.Array]:
    """Turns nested dicts into one dict with dotted names."""
    leaves = jax.tree_util.tree_flatten_with_path(variables)[0]
    return {".".join(str(key.key) for key in path): leaf for path, leaf in leaves}


def _like(variables: Variables, arrays: Mapping[str, np.ndarray | jax.Array]) -> Variables:
    return jax.tree.unflatten(
        jax.tree.structure(variables), [np.asarray(arrays[name], np.float32) for name in flatten(variables)]
    )


def _within(name: str, parts: Sequence[str]) -> bool:
    """Returns whether a name, of components between dots or slashes, starts with one of `parts`."""
    return any(f"{name}.".replace("/", ".").startswith(f"{part}.".replace("/", ".")) for part in parts)


def _check_conventions(path: pathlib.Path, source: Source, conventions: str) -> None:
    accepted = _families(path, source)
    if conventions not in accepted:
        raise ValueError(
            f"these weights, by their names {source}'s, follow the conventions {' or '.join(accepted)}; "
            f"the model follows {conventions!r}"
        )


def _families(path: pathlib.Path, source: Source) -> tuple[str, ...]:
    """Returns the families of the networks that the weights can be of; of timm's, TensorFlow's are called `tf_...`."""
    match source:
        case "torchvision":
            return ("torchvision",)
        case "timm":
            architecture = _timm_config(path).get("architecture", "")
            either = ("tensorflow", "timm")
            return (either[0 if architecture.startswith("tf_") else 1],) if architecture else either
        case "segfusion":
            metadata = _own_metadata(path)
            return (str(metadata.get("conventions", metadata.get("family", ""))),)  # "family" in files of version 0.1
        case _:
            return ("tensorflow",)


def _with_fourth_channel(arrays: Arrays, expected: Mapping) -> Arrays:
    name = "stem.conv.kernel"
    kernel = arrays.get(name, np.zeros(()))
    if name in expected and expected[name].shape[2] == 4 and kernel.ndim == 4 and kernel.shape[2] == 3:
        return arrays | {name: np.pad(kernel, ((0, 0), (0, 0), (0, 1), (0, 0)))}
    return arrays


def _checked(arrays: Arrays, expected: Mapping, path: pathlib.Path) -> Arrays:
    faults = [f"missing {name}" for name in expected if name not in arrays]
    faults += [f"superfluous {name}" for name in arrays if name not in expected]
    faults += [
        f"{name} has shape {arrays[name].shape}, not {array.shape}"
        for name, array in expected.items()
        if name in arrays and arrays[name].shape != array.shape
    ]
    faults += [f"{name} has values that are not finite" for name, array in arrays.items() if not _is_finite(array)]
    if faults:
        shown = "; ".join(faults[:10]) + (f"; and {len(faults) - 10} more" if len(faults) > 10 else "")
        raise ValueError(f"{path} does not fit the model: {shown}")
    return arrays


def _is_finite(array: np.ndarray) -> bool:
    """Returns whether all of an array is finite as float32, which it becomes."""
    with np.errstate(over="ignore"):
        return bool(np.isfinite(np.asarray(array, np.float32)).all())


def _preprocessing(path: pathlib.Path, source: Source, arrays: Arrays, conventions: str) -> Preprocessing:
    match source:
        case "keras":
            return _keras_preprocessing(arrays)
        case "timm":
            return _timm_preprocessing(path, arrays, conventions)
        case "segfusion":
            return _stated_preprocessing(_own_metadata(path))
        case _:
            return preprocessing.IMAGENET


def _keras_preprocessing(arrays: Arrays) -> Preprocessing:
    """Reads the layers inside the Keras model: EfficientNet's scale by 1/255, then normalise; MobileNetV3's centre.

    Keras' own files store ImageNet's deviation where the layer reads a variance, and `EfficientNet(weights="imagenet")`
    divides by its root a second time; both together divide by the deviation. Other variances are what they say.
    """
    if "preprocessing.mean" not in arrays:
        return preprocessing.CENTRED
    mean, variance = arrays["preprocessing.mean"], arrays["preprocessing.variance"]
    std = variance if np.allclose(variance, preprocessing.IMAGENET.std, atol=1e-6) else np.sqrt(variance)
    values = {"mean": mean.ravel().tolist(), "std": std.ravel().tolist(), "image_size": None}
    return _read_preprocessing(typed.Fields(values, "its layer Normalization"), "image_size")


def _timm_preprocessing(path: pathlib.Path, arrays: Arrays, conventions: str) -> Preprocessing:
    """Returns what its `config.json` says; without one, what most of timm's weights expect."""
    if config := _timm_config(path).get("pretrained_cfg"):
        return _read_preprocessing(typed.Fields(config, path.with_name("config.json")), "input_size", before=1)
    is_mobilenet = "hidden.kernel" in arrays
    return preprocessing.CENTRED if is_mobilenet and conventions == "tensorflow" else preprocessing.IMAGENET


def _timm_config(path: pathlib.Path) -> dict:
    """Returns what timm publishes beside its weights on Hugging Face; {} without it."""
    config = path.with_name("config.json")
    values = typed.parse(regular.read(config, 1 << 24), f"{config} beside it") if config.exists() else {}
    if "pretrained_cfg" not in values:
        return {}
    stated = values["pretrained_cfg"]
    lacking = {"mean", "std", "input_size"} - set(stated if isinstance(stated, dict) else ())
    if lacking:
        raise ValueError(f"pretrained_cfg of {config} beside it lacks {', '.join(sorted(lacking))}")
    return values


def _read_own(path: pathlib.Path) -> tuple[Arrays, dict]:
    """Reads arrays and metadata of a file that `save_weights` wrote."""
    try:
        arrays, metadata = safetensors.numpy.load_file(path), _own_metadata(path)
        _stated_preprocessing(metadata)
    except (OSError, safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a readable safetensors file of ours: {error}") from error
    return arrays, metadata


def _write_own(path: pathlib.Path, arrays: Arrays, metadata: dict) -> None:
    temporary = path.with_name(f".{path.name}")
    entry = {"segfusion_jax": json.dumps(metadata)}  # one entry: the file's order of several is random
    try:
        safetensors.numpy.save_file(arrays, temporary, entry)
    except safetensors.SafetensorError as error:
        raise OSError(f"{path} cannot be written: {error}") from error
    replace(temporary, path)


def _halved(array: np.ndarray) -> np.ndarray:
    if array.ndim < 2:
        return array
    with np.errstate(over="ignore"):
        halved = array.astype(np.float16)
    channels = tuple(range(array.ndim - 1))
    largest = np.abs(array).max(channels)
    off = np.abs(array - halved.astype(np.float32)).max(channels)
    return halved if (off <= largest / 1024).all() else array


def _own_metadata(path: pathlib.Path) -> dict:
    try:
        with safetensors.safe_open(path, "numpy") as file:
            return typed.parse((file.metadata() or {})["segfusion_jax"].encode(), f"metadata of {path}")
    except (safetensors.SafetensorError, KeyError):
        raise ValueError(
            "no safetensors file with our metadata, which say for which images its weights are: take the file that "
            "save_weights wrote, such as a released model's or a finished workdir's"
        ) from None


def _stated_preprocessing(metadata: dict) -> Preprocessing:
    values = metadata.get("preprocessing", {})
    if not isinstance(values, dict) or set(values) != set(Preprocessing._fields):
        raise ValueError(f"its metadata has no preprocessing of {', '.join(Preprocessing._fields)}")
    return _read_preprocessing(typed.Fields(values, "preprocessing in its metadata"), "image_size")


def _read_preprocessing(fields: typed.Fields, size: str, before: int = 0) -> Preprocessing:
    """Reads mean, std and the field `size`, in which `before` numbers stand before height and width, or nothing."""
    mean, std = fields.numbers("mean", 3, -1e3, 1e3), fields.numbers("std", 3, 1e-6, 1e3)
    if fields.values[size] is None:
        return Preprocessing(mean, std)
    sides = fields.numbers(size, before + 2, 1, 1 << 16)[before:]
    return Preprocessing(mean, std, tuple(int(side) for side in sides))
