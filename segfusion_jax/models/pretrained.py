"""Weight files: released EfficientNet-B0 weights to parameters, and our own safetensors files.

Loading is strict both ways: every array of the file is used once, every parameter is filled, every shape is equal.
"""

import pathlib
import re
import zipfile
import zlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from segfusion_jax.models.functional import Variables

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Of red, green and blue in [0, 1], over ImageNet's training images."""
IMAGENET_STD = (0.229, 0.224, 0.225)

_NORMS = {"_bn0": "expand", "_bn1": "depthwise", "_bn2": "project"}
_CONVS = {"_expand_conv": "expand", "_depthwise_conv": "depthwise", "_project_conv": "project"}
_STATISTICS = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}


def load_efficientnet(path: pathlib.Path, params: Variables, batch_stats: Variables) -> tuple[Variables, Variables]:
    """Fills an EfficientNet with weights named and laid out as in lukemelas/EfficientNet-PyTorch; keeps its last layer.

    Args:
      path: an `.npz` of float arrays: `_conv_stem.weight` [out, in, height, width], `_blocks.0._bn1.running_mean`, ...
      params: of `models.efficientnet.EfficientNet`, TensorFlow family. A fourth input channel starts at zero.
      batch_stats: its batch-norm statistics.

    Returns:
      New params and batch_stats.

    Raises:
      ValueError: names every array of the file that is missing, superfluous or of another shape.
    """
    try:
        with path.open("rb") as content, np.lib.npyio.NpzFile(content, allow_pickle=False) as file:
            arrays = {_translate(name): _transpose(name, file[name]) for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is not a readable .npz weight file: {error}") from error
    flat = flatten(params)
    expected = {name: array for name, array in (flat | flatten(batch_stats)).items() if not name.startswith("head.")}
    stem = "stem.conv.kernel"
    if stem in arrays and expected[stem].shape[2] == 4 and arrays[stem].shape[2] == 3:
        arrays[stem] = np.pad(arrays[stem], ((0, 0), (0, 0), (0, 1), (0, 0)))
    loaded = _checked(arrays, expected, path)
    head = {name: array for name, array in flat.items() if name.startswith("head.")}
    return _like(params, loaded | head), _like(batch_stats, loaded)


def save_weights(path: pathlib.Path, params: Variables, batch_stats: Variables) -> None:
    """Writes one safetensors file of float32 arrays under their dotted paths, `blocks.0.expand.conv.kernel`."""
    arrays = flatten(params) | flatten(batch_stats)
    temporary = path.with_name(f".{path.name}")
    safetensors.numpy.save_file({name: np.asarray(array) for name, array in arrays.items()}, temporary)
    temporary.replace(path)


def load_weights(path: pathlib.Path, params: Variables, batch_stats: Variables) -> tuple[Variables, Variables]:
    """Reads what `save_weights` wrote into trees of the same structure.

    Raises:
      ValueError: names every array that is missing, superfluous or of another shape.
    """
    try:
        arrays = safetensors.numpy.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from error
    loaded = _checked(arrays, flatten(params) | flatten(batch_stats), path)
    return _like(params, loaded), _like(batch_stats, loaded)


def flatten(variables: Variables) -> dict[str, jax.Array]:
    """Nested dicts to dotted names."""
    leaves = jax.tree_util.tree_flatten_with_path(variables)[0]
    return {".".join(str(key.key) for key in path): leaf for path, leaf in leaves}


def _like(variables: Variables, arrays: Mapping[str, np.ndarray | jax.Array]) -> Variables:
    return jax.tree.unflatten(
        jax.tree.structure(variables), [jnp.asarray(arrays[name], jnp.float32) for name in flatten(variables)]
    )


def _checked(arrays: dict, expected: Mapping, path: pathlib.Path) -> dict:
    faults = [f"missing {name}" for name in expected if name not in arrays]
    faults += [f"superfluous {name}" for name in arrays if name not in expected]
    faults += [
        f"{name} has shape {arrays[name].shape}, not {array.shape}"
        for name, array in expected.items()
        if name in arrays and arrays[name].shape != array.shape
    ]
    if faults:
        shown = "; ".join(faults[:10]) + (f"; and {len(faults) - 10} more" if len(faults) > 10 else "")
        raise ValueError(f"{path} does not fit the model: {shown}")
    return arrays


def _translate(name: str) -> str:
    """lukemelas' name of an array -> the dotted path of ours; a name it does not know stays as it is."""
    if match := re.fullmatch(r"_blocks\.(\d+)\.(_bn[012])\.(\w+)", name):
        index, norm, kind = match.groups()
        return f"blocks.{index}.{_NORMS[norm]}.norm.{_STATISTICS.get(kind, kind)}"
    if match := re.fullmatch(r"_blocks\.(\d+)\.(_\w+_conv)\.weight", name):
        index, conv = match.groups()
        return f"blocks.{index}.{_CONVS.get(conv, conv)}.conv.kernel"
    if match := re.fullmatch(r"_blocks\.(\d+)\._se_(reduce|expand)\.(weight|bias)", name):
        index, conv, kind = match.groups()
        return f"blocks.{index}.excite.{conv}.{'kernel' if kind == 'weight' else 'bias'}"
    if match := re.fullmatch(r"_bn([01])\.(\w+)", name):
        part = "stem" if match[1] == "0" else "top"
        return f"{part}.norm.{_STATISTICS.get(match[2], match[2])}"
    return {"_conv_stem.weight": "stem.conv.kernel", "_conv_head.weight": "top.conv.kernel"}.get(name, name)


def _transpose(name: str, array: np.ndarray) -> np.ndarray:
    if array.ndim != 4:
        return array
    kernel = array.transpose(2, 3, 1, 0)
    return kernel[:, :, 0] if "_depthwise_conv" in name and kernel.shape[2] == 1 else kernel
