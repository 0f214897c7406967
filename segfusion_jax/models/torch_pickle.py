"""PyTorch state dicts without torch: both formats of `torch.save`, read opcode by opcode and running nothing.

A state dict is a pickle whose tensors name their storage by a persistent id. The numbers lie beside the pickle, in
members of a zip archive (torch 1.6 and newer), or after it (before). Layouts: torch/serialization.py of PyTorch 2.13.
"""

import io
import math
import pickle
import zipfile
from typing import IO, Any, NamedTuple

import ml_dtypes
import numpy as np

from segfusion_jax.models.pickle_machine import INERT, Lent, Machine, state_dict
from segfusion_jax.runtime import zips

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001

_PICKLE_BYTES = 1 << 26

_DEPTH = 8
"""Dicts in dicts that tensors are looked for in; real checkpoints have four."""


class _StorageType(NamedTuple):
    dtype: np.dtype


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype
    size: int  # in elements


class _Tensor(NamedTuple):
    """The description of a tensor as the pickle gives it, all but the storage unchecked."""

    storage: _Storage
    offset: Any
    shape: Any
    strides: Any


def _tensor(
    storage: object, offset: object, shape: object, strides: object, _grad=False, _hooks=None, metadata: object = None
) -> _Tensor:
    if not isinstance(storage, _Storage) or metadata:
        raise pickle.UnpicklingError("a tensor without a storage, or a conjugated or negated one")
    return _Tensor(storage, offset, shape, strides)


def _parameter(data: object, _grad=False, _hooks=None) -> object:
    return data


_INERT = (
    *(("argparse", "Namespace"), ("_codecs", "encode"), ("numpy", "dtype"), ("torch", "Size"), ("torch", "device")),
    *(("torch", name) for name in ("float64", "float32", "float16", "bfloat16", "int64", "int32", "uint8", "bool")),
    *((module, "scalar") for module in ("numpy.core.multiarray", "numpy._core.multiarray")),
    *((module, name) for module in ("pathlib", "pathlib._local") for name in ("PosixPath", "WindowsPath")),
    *(("collections", name) for name in ("Counter", "defaultdict", "deque")),
    *((module, name) for module in ("builtins", "__builtin__") for name in ("set", "frozenset", "complex")),
    ("pytorch_lightning.utilities.parsing", "AttributeDict"),
    ("lightning.fabric.utilities.data", "AttributeDict"),
    ("lightning_fabric.utilities.data", "AttributeDict"),
)
"""Globals of options, metrics and counters, which timm, Lightning and training loops save beside the weights."""

_GLOBALS: dict[tuple[str, str], object] = {
    **dict.fromkeys(_INERT, INERT),
    ("collections", "OrderedDict"): Lent(state_dict),
    ("torch._utils", "_rebuild_tensor"): Lent(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): Lent(_tensor),
    ("torch._utils", "_rebuild_parameter"): Lent(_parameter),
    ("torch", "DoubleStorage"): _StorageType(np.dtype("<f8")),
    ("torch", "FloatStorage"): _StorageType(np.dtype("<f4")),
    ("torch", "HalfStorage"): _StorageType(np.dtype("<f2")),
    ("torch", "BFloat16Storage"): _StorageType(np.dtype(ml_dtypes.bfloat16)),
    ("torch", "LongStorage"): _StorageType(np.dtype("<i8")),
    ("torch", "IntStorage"): _StorageType(np.dtype("<i4")),
    ("torch", "ShortStorage"): _StorageType(np.dtype("<i2")),
    ("torch", "CharStorage"): _StorageType(np.dtype("i1")),
    ("torch", "ByteStorage"): _StorageType(np.dtype("u1")),
    ("torch", "BoolStorage"): _StorageType(np.dtype("?")),
}


def read_zip(archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    """Reads an archive that torch 1.6 or newer has written.

    Args:
      archive: members `NAME/data.pkl`, `NAME/data/0`, ..., the declared sizes of which the caller has found plausible.

    Returns:
      Read-only arrays of the file's types: all tensors in nested dicts, by their keys joined with dots, such as
      "state_dict.conv_stem.weight". Options, metrics and counters beside them are left out.

    Raises:
      ValueError: for anything but a sound state dict of dense tensors. Its pickle has then run nothing.
      KeyError: for a missing member, besides what `zipfile` raises for a damaged archive.
    """
    pickles = [name for name in archive.namelist() if name.split("/")[-1] == "data.pkl"]
    if len(pickles) != 1:
        raise ValueError(f"the archive has {len(pickles)} members data.pkl, not one")
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}byteorder" in archive.namelist() and _member(archive, f"{root}byteorder", 100) != b"little":
        raise ValueError("its numbers are not little-endian")
    tensors = _tensors(_unpickle(io.BytesIO(_member(archive, pickles[0], _PICKLE_BYTES)))[0])
    contents = {}
    for storage in {tensor.storage for tensor in tensors.values()}:
        member = archive.getinfo(f"{root}data/{storage.key}")
        if member.file_size != _nbytes(storage):
            raise ValueError(f"storage {storage.key} has {member.file_size} bytes, not {_nbytes(storage)}")
        contents[storage.key] = zips.read(archive, member, member.file_size)
    return {name: _view(name, tensor, contents[tensor.storage.key]) for name, tensor in tensors.items()}


def _member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    return zips.read(archive, archive.getinfo(name), limit)


def read_legacy(content: bytes) -> dict[str, np.ndarray]:
    """Reads a whole file that torch before 1.6 has written: five pickles, then the storages, each after its length.

    Returns and raises what `read_zip` does.
    """
    stream = io.BytesIO(content)
    if _unpickle(stream)[0] != _MAGIC or _unpickle(stream)[0] != _PROTOCOL:
        raise ValueError("it is a pickle, but not one that torch.save has written")
    system = _unpickle(stream)[0]
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("its numbers are not little-endian")
    loaded, storages = _unpickle(stream)
    tensors = _tensors(loaded)
    keys = _unpickle(stream)[0]
    if not isinstance(keys, list) or not all(type(key) is str for key in keys):
        raise ValueError("its list of storages is not that of its tensors")
    if len(keys) != len(storages) or set(keys) != set(storages):
        raise ValueError("its list of storages is not that of its tensors")
    contents = {key: _legacy_storage(stream, storages[key]) for key in keys}
    return {name: _view(name, tensor, contents[tensor.storage.key]) for name, tensor in tensors.items()}


def _legacy_storage(stream: IO[bytes], storage: _Storage) -> bytes:
    size = int.from_bytes(stream.read(8), "little", signed=True)
    if size != storage.size:
        raise ValueError(f"storage {storage.key} has {size} elements, not {storage.size}")
    content = stream.read(_nbytes(storage))
    if len(content) != _nbytes(storage):
        raise ValueError(f"the file ends within storage {storage.key}")
    return content


def _unpickle(stream: IO[bytes]) -> tuple[object, dict[str, _Storage]]:
    """Reads the next object of the stream, and the storages it mentions."""
    storages: dict[str, _Storage] = {}

    def persistent(pid: object) -> _Storage:
        match pid:
            case ("storage", _StorageType(dtype), str(key), str(), int(size), *view) if size >= 0 and not any(view):
                storage = _Storage(key, dtype, size)
                if storages.setdefault(key, storage) != storage:
                    raise pickle.UnpicklingError(f"storage {key} has two types or sizes")
                return storage
        raise pickle.UnpicklingError("a persistent id that is no whole storage of a known type")

    try:
        return Machine(stream, _GLOBALS, persistent).load(), storages
    except Exception as error:  # from damaged opcodes: nearly any
        raise ValueError(f"its pickle cannot be read as a state dict: {error}") from error


def _tensors(loaded: object) -> dict[str, _Tensor]:
    """Returns the tensors in nested dicts, by their keys (texts) joined with dots; of a dict met twice, once."""
    if not isinstance(loaded, dict):
        raise ValueError(f"it holds a {type(loaded).__name__}, not a state dict of names and tensors")
    tensors: dict[str, _Tensor] = {}
    met: set[int] = set()

    def add(values: dict, prefix: str, depth: int) -> None:
        met.add(id(values))
        for key, value in values.items():
            if not isinstance(key, str):  # of the state of an optimizer
                continue
            if isinstance(value, _Tensor):
                if tensors.setdefault(f"{prefix}{key}", value) is not value:
                    raise ValueError(f"two of its tensors are called {prefix}{key}")
            elif isinstance(value, dict) and depth < _DEPTH and id(value) not in met:
                add(value, f"{prefix}{key}.", depth + 1)

    add(loaded, "", 0)
    if loaded and not tensors:
        shown = ", ".join(str(key) for key in list(loaded)[:5])
        raise ValueError(f"it holds no tensors by names in dicts; its keys are {shown}")
    return tensors


def _view(name: str, tensor: _Tensor, content: bytes) -> np.ndarray:
    storage, offset, shape, strides = tensor
    if not _sizes(shape) or not _sizes(strides) or not _sizes((offset,)) or len(shape) != len(strides):
        raise ValueError(f"the offset, shape or strides of {name} are not whole numbers >= 0")
    last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    count = math.prod(shape)
    # An expanded tensor could be larger than any memory.
    if count > storage.size or (count and last >= storage.size):
        raise ValueError(f"{name}, of shape {shape}, is not within its storage of {storage.size} elements")
    width = storage.dtype.itemsize
    return np.ndarray(shape, storage.dtype, content, offset * width, [stride * width for stride in strides])


def _sizes(numbers: object) -> bool:
    return isinstance(numbers, tuple) and all(type(number) is int and number >= 0 for number in numbers)


def _nbytes(storage: _Storage) -> int:
    return storage.size * storage.dtype.itemsize
