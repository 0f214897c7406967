"""Images in an HDF5 file, read in a process of its own (`runtime.confined`): damaged ones crash the library."""

import functools
import json

import h5py

from segfusion_jax.runtime import confined


def main() -> None:
    """Answers "" by the names and sizes of what stands at the file's top, by name, and a name by its bytes."""
    confined.serve(lambda name, memory: _bytes(name, memory) if name else _listed())


@functools.cache
def _file() -> h5py.File:
    return h5py.File(confined.path(), "r", locking=False)  # others may write a new one meanwhile


def _listed() -> bytes:
    names: list[str] = sorted(_file().keys())
    # Half the time of `file[name]`, which counts where there are 401,059 of them: 17 s on a slow core.
    sizes = [h5py.h5d.open(_file().id, _own(name).encode()).get_storage_size() for name in names]
    return json.dumps(list(zip(names, sizes, strict=True))).encode()


def _bytes(name: str, memory: int) -> bytes:
    dataset = _file()[_own(name)]
    if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
        raise ValueError("it is no row of bytes in this file")
    if dataset.shape is None or len(dataset.shape) > 1:
        raise ValueError("it is no row of bytes in this file")
    if dataset.nbytes > memory:
        raise ValueError(f"it holds {dataset.nbytes} bytes; at most {memory} are read")
    return bytes(dataset[()])


def _own(name: str) -> str:
    """Returns the name of what lies in this file, and is no link to another one."""
    if not isinstance(_file().get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name} is a link, maybe to another file")
    return name
