"""Released weight files to NumPy arrays under the file's own names. No file is trusted; none needs its framework."""

import io
import json
import math
import pathlib
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from typing import IO

import ml_dtypes
import msgpack
import numpy as np
import safetensors

from segfusion_jax.models import torch_pickle
from segfusion_jax.runtime import regular, zips
from segfusion_jax.runtime.confined import Confined

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

_BYTES = 1 << 32
"""Size of the largest file that is read."""
_NAME = 500
"""Characters of the longest name of an array."""
_SECONDS = 60
"""Time for an HDF5 file."""


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
        arrays = {name: as_number(name, array) for name, array in _read(path).items()}
    except FileNotFoundError:
        raise
    except _FAULTS as error:
        raise ValueError(f"{path} is not a readable weight file: {error}") from error
    if not arrays:
        raise ValueError(f"{path} holds no arrays")
    return arrays


def _read(path: pathlib.Path) -> Mapping[str, np.ndarray | bytes]:
    with regular.opened(path) as file:
        head = file.read(9)
        size = file.seek(0, io.SEEK_END)
        if size > _BYTES:
            raise ValueError(f"{size} bytes; at most {_BYTES} are read")
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


def _read_archive(file: IO[bytes], size: int) -> Mapping[str, np.ndarray | bytes]:
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        check_expansion(sum(member.file_size for member in members), size)
        names = [member.filename for member in members]
        if "model.weights.h5" in names:
            content = zips.read(archive, archive.getinfo("model.weights.h5"), _BYTES)
            with tempfile.TemporaryFile() as unpacked:
                unpacked.write(content)
                unpacked.flush()
                return _read_hdf5(unpacked, len(content))
        if any(name.split("/")[-1] == "data.pkl" for name in names):
            return torch_pickle.read_zip(archive)
        if not all(name.endswith(".npy") for name in names):
            raise ValueError("it is a zip archive, but not one of NumPy, PyTorch or Keras")
        return {
            member.filename.removesuffix(".npy"): _npy(zips.read(archive, member, member.file_size))
            for member in members
        }


def _npy(content: bytes) -> np.ndarray | bytes:
    """Returns the array in a file of NumPy, which takes no more memory than the file; what is none, as it is."""
    stream = io.BytesIO(content)
    if not content.startswith(np.lib.format.MAGIC_PREFIX):
        return content
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(stream)
    if version not in readers:
        raise ValueError(f"an array of NumPy's format {version}: must be (1, 0) or (2, 0)")
    shape, is_fortran, dtype = readers[version](stream)
    if dtype.hasobject:
        raise ValueError("Object arrays are not read: they are pickles")
    if any(side < 0 for side in shape) or math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise ValueError(f"an array of shape {shape} and {dtype} in {len(content) - stream.tell()} bytes")
    return np.ndarray(shape, dtype, content, stream.tell(), order="F" if is_fortran else "C")


def _read_hdf5(file: IO[bytes], size: int) -> dict[str, np.ndarray]:
    child = Confined("segfusion_jax.models.hdf5_weights", file, memory=_expanded(size) + (1 << 26), seconds=_SECONDS)
    try:
        answer = child.ask(str(size))
    finally:
        child.close()
    arrays, place = {}, answer.index(b"\n") + 1
    for name, dtype, shape in json.loads(answer[:place]):
        if np.dtype(dtype).kind not in "fiub":
            raise ValueError(f"{name} is of type {dtype}, not a number")
        arrays[name] = np.ndarray(shape, dtype, answer, place)
        place += arrays[name].nbytes
    return arrays


def check_expansion(declared: int, stored: int) -> None:
    """Refuses, before memory is taken for it, what no file of weights compresses to."""
    if declared > _expanded(stored):
        raise ValueError(f"its {stored} bytes declare {declared} bytes of arrays")


def _expanded(stored: int) -> int:
    return max(2**28, 100 * stored)


def as_number(name: str, array: object) -> np.ndarray:
    """Returns an array of floats as float32, of whole numbers or booleans as it is.

    Raises:
      ValueError: it holds something else, or its name is too long.
    """
    if len(name) > _NAME:
        raise ValueError(f"{name[:50]}... is a name of {len(name)} characters; at most {_NAME} are read")
    if not isinstance(array, np.ndarray) or (array.dtype.kind not in "fiub" and array.dtype != ml_dtypes.bfloat16):
        raise ValueError(f"{name} is of type {getattr(array, 'dtype', type(array).__name__)}, not a number")
    return array if array.dtype.kind in "iub" else array.astype(np.float32, copy=False)
