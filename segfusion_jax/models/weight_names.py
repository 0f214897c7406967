"""Names and layouts of released weights -> those of `models.inverted_residual.ImageClassifier`.

Ours are dotted: `stem`, `blocks.<n>`, `top`, `hidden`, `head`; in a block `expand`, `depthwise`, `excite.reduce`,
`excite.expand`, `project`; of a convolution with its batch norm `conv.kernel`, `norm.scale`, `norm.bias`, `norm.mean`
and `norm.var`. Of Keras' layer that normalises images come `preprocessing.mean`, `.variance` and `.count`. A name that
is not known stays as it is, for the caller to refuse.
"""

import re
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

import numpy as np

Arrays = dict[str, np.ndarray]
Source = Literal["keras", "lukemelas", "segfusion", "timm", "torchvision"]


class Translated(NamedTuple):
    """Arrays by our names, in our layouts, and who named them before."""

    source: Source
    arrays: Arrays


def translate(arrays: Arrays) -> Translated:
    """Recognises whose names the arrays bear.

    Args:
      arrays: arrays by foreign names, as `weight_files.read` returns them.

    Raises:
      ValueError: nobody's whose names are known here.
    """
    if "_conv_stem.weight" in arrays:
        return Translated("lukemelas", _from_torch(arrays, _lukemelas_module))
    if "conv_stem.weight" in arrays:
        return Translated("timm", _from_torch(arrays, _timm_modules(arrays)))
    if "features.0.0.weight" in arrays:
        return Translated("torchvision", _from_torch(arrays, _torchvision_modules(arrays)))
    if any(re.match(r"(stem_)?conv/", name, re.IGNORECASE) for name in arrays):
        return Translated("keras", _from_keras(arrays))
    if "stem.conv.kernel" in arrays:
        return Translated("segfusion", arrays)
    raise ValueError(
        "the names of its arrays are none of EfficientNet or MobileNetV3 in Keras, timm, torchvision, "
        f"lukemelas/EfficientNet-PyTorch or segfusion_jax; the first are {', '.join(list(arrays)[:3]) or 'missing'}"
    )


def _from_torch(arrays: Arrays, module_of: Callable[[str], str | None]) -> Arrays:
    """Translates names by `module_of`, which takes the part before the last dot. Counters of batches are no weights."""
    translated = {}
    for name, array in arrays.items():
        module, _, kind = name.rpartition(".")
        ours = module_of(module)
        if kind == "num_batches_tracked" and ours is not None:
            continue
        if ours is None:
            translated[name] = array
        elif ours.endswith("norm"):
            translated[f"{ours}.{_TORCH_NORM.get(kind, kind)}"] = array
        elif kind == "weight":
            translated[f"{ours}.kernel"] = _torch_kernel(array, ours)
        else:
            translated[f"{ours}.{kind}"] = array
    return translated


_TORCH_NORM = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}


def _torch_kernel(array: np.ndarray, module: str) -> np.ndarray:
    """Turns [out, in, height, width] into [height, width, in, out]; depthwise into no 'in', linear into [in, out]."""
    if array.ndim == 4:
        array = array.transpose(2, 3, 1, 0)
        if module.endswith("depthwise.conv") and array.shape[2] == 1:
            return array[:, :, 0]
        return array[0, 0] if module in ("hidden", "head") and array.shape[:2] == (1, 1) else array
    return array.T


_LUKEMELAS = {
    "_conv_stem": "stem.conv",
    "_bn0": "stem.norm",
    "_conv_head": "top.conv",
    "_bn1": "top.norm",
    "_fc": "head",
}
_LUKEMELAS_BLOCK = {
    "_expand_conv": "expand.conv",
    "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm",
    "_se_reduce": "excite.reduce",
    "_se_expand": "excite.expand",
    "_project_conv": "project.conv",
    "_bn2": "project.norm",
}


def _lukemelas_module(module: str) -> str | None:
    if match := re.fullmatch(r"_blocks\.(\d+)\.(\w+)", module):
        return _within(match[1], _LUKEMELAS_BLOCK.get(match[2]))
    return _LUKEMELAS.get(module)


def _within(block: str | int, part: str | None) -> str | None:
    return f"blocks.{block}.{part}" if part else None


_TIMM = {"conv_stem": "stem.conv", "bn1": "stem.norm", "bn2": "top.norm", "classifier": "head"}
_TIMM_EXCITE = {"se.conv_reduce": "excite.reduce", "se.conv_expand": "excite.expand"}
_TIMM_SEPARABLE = {
    "conv_dw": "depthwise.conv",
    "bn1": "depthwise.norm",
    "conv_pw": "project.conv",
    "bn2": "project.norm",
}
_TIMM_INVERTED = {
    "conv_pw": "expand.conv",
    "bn1": "expand.norm",
    "conv_dw": "depthwise.conv",
    "bn2": "depthwise.norm",
    "conv_pwl": "project.conv",
    "bn3": "project.norm",
}


def _timm_modules(arrays: Arrays) -> Callable[[str], str | None]:
    """Returns the translation of timm's names; MobileNetV3's last stage is our top, `conv_head` our hidden layer."""
    top = _TIMM | {"conv_head": "top.conv" if "bn2.weight" in arrays else "hidden"}
    matches = [re.fullmatch(r"(blocks\.\d+\.\d+)\.conv_dw\.weight", name) for name in arrays]
    numbers = _numbered(match[1] for match in matches if match)

    def module_of(module: str) -> str | None:
        match = re.fullmatch(r"(blocks\.\d+\.\d+)\.(.+)", module)
        if match is None:
            return top.get(module)
        prefix, part = match.groups()
        if prefix not in numbers:
            return {"conv": "top.conv", "bn1": "top.norm"}.get(part)
        parts = _TIMM_INVERTED if f"{prefix}.conv_pwl.weight" in arrays else _TIMM_SEPARABLE
        return _within(numbers[prefix], (parts | _TIMM_EXCITE).get(part))

    return module_of


def _torchvision_modules(arrays: Arrays) -> Callable[[str], str | None]:
    """Returns the translation of torchvision's names, which tell a block's convolutions apart by their order alone."""
    convs: dict[str, list[str]] = {}
    for name in arrays:
        if match := re.fullmatch(rf"({_TORCHVISION_BLOCK})\.block\.(\d)\.0\.weight", name):
            convs.setdefault(match[1], []).append(match[2])
    numbers = _numbered(convs)
    last = max(int(name.split(".")[1]) for name in arrays if name.startswith("features."))
    top = {"features.0.0": "stem.conv", "features.0.1": "stem.norm"}
    top |= {f"features.{last}.0": "top.conv", f"features.{last}.1": "top.norm"}
    has_hidden = "classifier.0.weight" in arrays
    top |= {"classifier.0": "hidden", "classifier.3": "head"} if has_hidden else {"classifier.1": "head"}

    def module_of(module: str) -> str | None:
        match = re.fullmatch(rf"({_TORCHVISION_BLOCK})\.block\.(\d)\.(0|1|fc1|fc2)", module)
        if match is None or match[1] not in numbers:
            return top.get(module)
        prefix, part, kind = match.groups()
        roles = dict(zip(sorted(convs[prefix], reverse=True), ("project", "depthwise", "expand"), strict=False))
        if kind in ("fc1", "fc2"):
            return _within(numbers[prefix], "excite.reduce" if kind == "fc1" else "excite.expand")
        role = roles.get(part)
        return _within(numbers[prefix], role and f"{role}.{'conv' if kind == '0' else 'norm'}")

    return module_of


_TORCHVISION_BLOCK = r"features\.\d+(?:\.\d+)?"


def _numbered(prefixes: Iterable[str]) -> dict[str, int]:
    """Numbers the prefixes consecutively, in the order of the numbers in them, then of the letters."""

    def order(prefix: str) -> tuple[list[int], str]:
        return [int(number) for number in re.findall(r"\d+", prefix)], prefix

    return {prefix: index for index, prefix in enumerate(sorted(set(prefixes), key=order))}


def _from_keras(arrays: Arrays) -> Arrays:
    """Translates the layers of `keras.applications`; their variables by name, or by number in Keras 3."""
    module_of = _keras_modules({name.rpartition("/")[0] for name in arrays})
    translated = {}
    for name, array in arrays.items():
        layer, _, kind = name.rpartition("/")
        ours = module_of(layer)
        if ours is None:
            translated[name] = array
        elif ours == "preprocessing":
            translated[f"{ours}.{_KERAS_PREPROCESSING.get(kind, kind)}"] = array
        elif ours.endswith("norm"):
            translated[f"{ours}.{_KERAS_NORM.get(kind, kind)}"] = array
        else:
            our_kind = _KERAS_CONV.get(kind, kind)
            translated[f"{ours}.{our_kind}"] = _keras_kernel(array, ours) if our_kind == "kernel" else array
    return translated


_KERAS_NORM = {"gamma": "scale", "beta": "bias", "moving_mean": "mean", "moving_variance": "var"}
_KERAS_NORM |= {"0": "scale", "1": "bias", "2": "mean", "3": "var"}
_KERAS_PREPROCESSING = {"0": "mean", "1": "variance", "2": "count"}
_KERAS_CONV = {"depthwise_kernel": "kernel", "0": "kernel", "1": "bias"}


def _keras_kernel(array: np.ndarray, module: str) -> np.ndarray:
    if module.endswith("depthwise.conv") and array.ndim == 4 and array.shape[3] == 1:
        return array[..., 0]
    return array[0, 0] if module in ("hidden", "head") and array.ndim == 4 and array.shape[:2] == (1, 1) else array


_KERAS = {
    "stem_conv": "stem.conv",
    "stem_bn": "stem.norm",
    "top_conv": "top.conv",
    "top_bn": "top.norm",
    "predictions": "head",
    "conv": "stem.conv",
    "conv_bn": "stem.norm",
    "conv_1": "top.conv",
    "conv_1_bn": "top.norm",
    "conv_2": "hidden",
    "logits": "head",
}
_KERAS_BLOCK = {
    "expand_conv": "expand.conv",
    "expand_bn": "expand.norm",
    "dwconv": "depthwise.conv",
    "bn": "depthwise.norm",
    "se_reduce": "excite.reduce",
    "se_expand": "excite.expand",
    "project_conv": "project.conv",
    "project_bn": "project.norm",
    "expand": "expand.conv",
    "depthwise": "depthwise.conv",
    "depthwise_bn": "depthwise.norm",
    "squeeze_excite_conv": "excite.reduce",
    "squeeze_excite_conv_1": "excite.expand",
    "project": "project.conv",
}


def _keras_modules(layers: Iterable[str]) -> Callable[[str], str | None]:
    """Returns the translation of Keras' names, such as `block2a_dwconv` or `expanded_conv_1_depthwise`."""

    def split(layer: str) -> tuple[str, str]:
        flat = layer.lower().replace("/", "_").replace("batchnorm", "bn")
        match = re.fullmatch(r"(block\d+[a-z]|expanded_conv(?:_\d+)?)_(\w+)", flat)
        return (match[1], match[2]) if match else ("", flat)

    numbers = _numbered({split(layer)[0] for layer in layers} - {""})

    def module_of(layer: str) -> str | None:
        prefix, part = split(layer)
        if re.fullmatch(r"normalization(_\d+)?", part):
            return "preprocessing"
        return _within(numbers[prefix], _KERAS_BLOCK.get(part)) if prefix else _KERAS.get(part)

    return module_of
