"""Weight files of every kind, made by hand as their frameworks make them."""

import pathlib
import zipfile

import h5py
import numpy as np
import safetensors.numpy
from flax import serialization

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
