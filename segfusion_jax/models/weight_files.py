"""Released weight files to NumPy arrays under the file's own names. No file is trusted; none needs its framework."""

import collections
import io
import itertools
import math
import pathlib
import re
import zipfile
import zlib
from typing import IO

import h5py
import ml_dtypes
import msgpack
import numpy as np
import safetensors

from segfusion_jax.models import torch_pickle

_FAULTS = (
    *(OSError, ValueError, KeyError, TypeError, RuntimeError, EOFError, MemoryError),
    *(zipfile.BadZipFile, zlib.error, safetensors.SafetensorError),
)

_SAFETENSORS_TYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}

_KERAS_STATE = {"seed_generator", "generator"}
"""Attributes in which layers keep the state of their random numbers."""


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads a weight file, the kind of which is told by its content and not by its name.

    Args:
      path: one of
        - `.npz`, `.safetensors`;
        - PyTorch `.pth`: see `torch_pickle`;
        - Flax' `.msgpack`: names are keys joined with dots, `params.stem.conv.kernel`;
        - Keras' old `.h5`, weights or whole model: names are "layer/variable", `stem_conv/kernel`, without ":0", in the
          order of the model's layers; layers of a nested model are called as if they were not nested, unless others are
          called so;
        - Keras 3 `.weights.h5` or `.keras`: names are the layer's and the variable's index, `stem_conv/0`; where the
          file does not name its layers, their places, `conv2d_3/0` for the kernel of the fourth Conv2D, and
          `functional/layers/conv2d/0` within a nested model. Optimizer and random state are left out.

    Returns:
      Floats as float32, whole numbers and booleans as they are; at least one array. They may be read-only.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if it is of another kind, damaged, without arrays, or asks for code to be run. None is ever run.
    """
    try:
        arrays = {name: _as_number(name, array) for name, array in _read(path).items()}
    except FileNotFoundError:
        raise
    except _FAULTS as error:
        raise ValueError(f"{path} is not a readable weight file: {error}") from error
    if not arrays:
        raise ValueError(f"{path} holds no arrays")
    return arrays


def _read(path: pathlib.Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file:
        head = file.read(9)
        size = file.seek(0, io.SEEK_END)
        if head.startswith(b"\x89HDF\r\n\x1a\n"):
            return _read_hdf5(file, size)
        if head.startswith(b"PK\x03\x04"):
            return _read_archive(file, size)
        file.seek(0)
        if head.endswith(b"{") and len(head) == 9:
            return _read_safetensors(file.read())
        if head.startswith(b"\x80"):
            return torch_pickle.read_legacy(file.read())
        if head and (0x81 <= head[0] <= 0x8F or head[0] in (0xDE, 0xDF)):  # a map that is not empty
            return _read_msgpack(file.read())
    accepted = ".npz, .safetensors, PyTorch's .pth, Flax' .msgpack, Keras' .h5 and .keras"
    raise ValueError(f"it begins with {head!r}, as none of {accepted} does" if head else "it is empty")


def _read_safetensors(content: bytes) -> dict[str, np.ndarray]:
    arrays = {}
    for name, tensor in safetensors.deserialize(content):
        if tensor["dtype"] not in _SAFETENSORS_TYPES:
            raise ValueError(f"{name} is of type {tensor['dtype']}, not one of {', '.join(_SAFETENSORS_TYPES)}")
        arrays[name] = np.frombuffer(tensor["data"], _SAFETENSORS_TYPES[tensor["dtype"]]).reshape(tensor["shape"])
    return arrays


def _read_msgpack(content: bytes) -> dict[str, np.ndarray]:
    """Reads what `flax.serialization.to_bytes` wrote: maps, in which arrays are (shape, dtype, bytes), packed again."""

    def array(kind: int, packed: bytes) -> np.ndarray:
        if kind != 1:
            raise ValueError(f"an extension of type {kind}, no array")
        shape, dtype, numbers = msgpack.unpackb(packed, raw=True)
        dtype = np.dtype(ml_dtypes.bfloat16 if dtype == b"bfloat16" else dtype.decode())
        if not all(type(side) is int and side >= 0 for side in shape) or math.prod(shape) * dtype.itemsize != len(
            numbers
        ):
            raise ValueError(f"an array of shape {shape} and {dtype} in {len(numbers)} bytes")
        return np.frombuffer(numbers, dtype).reshape(shape)

    arrays: dict[str, np.ndarray] = {}

    def add(values: dict, prefix: str) -> None:
        for key, value in values.items():
            if isinstance(value, dict):
                add(value, f"{prefix}{key}.")
            elif isinstance(value, np.ndarray):
                arrays[f"{prefix}{key}"] = value

    loaded = msgpack.unpackb(content, ext_hook=array, raw=False)
    add(loaded, "")
    return arrays


def _read_archive(file: IO[bytes], size: int) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        _check_expansion(sum(member.file_size for member in members), size)
        names = [member.filename for member in members]
        if "model.weights.h5" in names:
            content = archive.read("model.weights.h5")
            return _read_hdf5(io.BytesIO(content), len(content))
        if any(name.split("/")[-1] == "data.pkl" for name in names):
            return torch_pickle.read_zip(archive)
    if not all(name.endswith(".npy") for name in names):
        raise ValueError("it is a zip archive, but not one of NumPy, PyTorch or Keras")
    with np.lib.npyio.NpzFile(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _read_hdf5(file: IO[bytes], size: int) -> dict[str, np.ndarray]:
    with h5py.File(file, "r") as content:
        groups, datasets = _nodes(content)
        _check_expansion(sum(dataset.nbytes for dataset in datasets.values()), size)
        for root in ("/", "/model_weights/"):
            if root in groups and _strings(groups[root], "layer_names"):
                return _legacy_keras(root, groups, datasets)
        return _keras(groups, datasets)


def _nodes(content: h5py.File) -> tuple[dict[str, h5py.Group], dict[str, h5py.Dataset]]:
    """Lists all groups, `/layers/`, and datasets, `/layers/conv2d/vars/0`; follows no link, maybe to elsewhere."""
    groups: dict[str, h5py.Group] = {"/": content}
    datasets: dict[str, h5py.Dataset] = {}

    def add(path: str, node: object) -> None:
        if isinstance(node, h5py.Group):
            groups[f"/{path}/"] = node
        elif isinstance(node, h5py.Dataset):
            if node.external or node.is_virtual:
                raise ValueError(f"{path} lies in another file")
            datasets[f"/{path}"] = node

    content.visititems(add)
    return groups, datasets


def _legacy_keras(root: str, groups: dict[str, h5py.Group], datasets: dict[str, h5py.Dataset]) -> dict[str, np.ndarray]:
    found: list[tuple[str, str, h5py.Dataset]] = []
    for layer in [*_strings(groups[root], "layer_names"), "top_level_model_weights"]:
        folder = f"{root}{layer}/"
        for weight in _strings(groups[folder], "weight_names") if folder in groups else []:
            path = f"{folder}{weight}"
            if path not in datasets:
                raise ValueError(f"it lists {weight} of layer {layer}, but does not hold it")
            # A weight's name mostly repeats its layer's, at times after the model's.
            variable = f"/{weight}".partition(f"/{layer}/")[2] or weight
            found.append((layer, variable.removesuffix(":0"), datasets[path]))
    nested = collections.Counter(name for layer, variable, _ in found for name in {variable, f"{layer}/{variable}"})
    return {
        variable if "/" in variable and nested[variable] == 1 else f"{layer}/{variable}": _values(dataset)
        for layer, variable, dataset in found
    }


def _keras(groups: dict[str, h5py.Group], datasets: dict[str, h5py.Dataset]) -> dict[str, np.ndarray]:
    arrays = {}
    for path in sorted(datasets, key=_numbered):
        *layer, folder, index = path.split("/")
        if folder != "vars":
            raise ValueError(f"it is an HDF5 file, but not of Keras: {path} is in no group vars")
        if layer[1:2] == ["optimizer"] or _KERAS_STATE & set(layer[-1:]):
            continue
        place = "/".join(layer[1:]).removeprefix("layers/")
        own = groups[path.removesuffix(index)].attrs.get("name")
        name = "/".join(filter(None, [own if isinstance(own, str) else place, index]))
        if name in arrays:
            raise ValueError(f"two of its layers are called {own}")
        arrays[name] = _values(datasets[path])
    return arrays


def _numbered(path: str) -> list[tuple[str, int]]:
    """Returns a sort key that puts conv2d before conv2d_1, and conv2d_2 before conv2d_10."""
    return [(name, int(number or 0)) for name, number in re.findall(r"([^/]*?)_?(\d*)(?:/|$)", path)]


def _values(dataset: h5py.Dataset) -> np.ndarray:
    array = np.asarray(dataset[()])
    return array.view(ml_dtypes.bfloat16) if dataset.attrs.get("dtype") == "bfloat16" else array


def _strings(group: h5py.Group, attribute: str) -> list[str]:
    """Reads an attribute that Keras splits over numbered ones where it is longer than HDF5 allows."""
    numbered = itertools.takewhile(group.attrs.__contains__, (f"{attribute}{i}" for i in itertools.count()))
    names = [attribute] if attribute in group.attrs else list(numbered)
    values = [value for name in names for value in np.ravel(np.asarray(group.attrs[name]))]
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def _check_expansion(declared: int, stored: int) -> None:
    """Refuses, before memory is taken for it, what no file of weights compresses to."""
    if declared > max(2**28, 100 * stored):
        raise ValueError(f"its {stored} bytes declare {declared} bytes of arrays")


def _as_number(name: str, array: object) -> np.ndarray:
    if not isinstance(array, np.ndarray) or (array.dtype.kind not in "fiub" and array.dtype != ml_dtypes.bfloat16):
        raise ValueError(f"{name} is of type {getattr(array, 'dtype', type(array).__name__)}, not a number")
    return array if array.dtype.kind in "iub" else array.astype(np.float32, copy=False)
