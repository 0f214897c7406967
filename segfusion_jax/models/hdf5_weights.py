"""Keras' HDF5 files, read in a process of its own (`runtime.confined`), since the library crashes on damaged ones."""

import collections
import itertools
import json
import re

import h5py
import ml_dtypes
import numpy as np

from segfusion_jax.models.weight_files import as_number, check_expansion
from segfusion_jax.runtime import confined

_KERAS_STATE = {"seed_generator", "generator"}
"""Attributes in which layers keep the state of their random numbers."""


def main() -> None:
    """Answers what arrays the file holds: a line of JSON with name, dtype and shape of each, then their numbers."""
    confined.serve(lambda stored, memory: _answer(int(stored), memory))


def _answer(stored: int, memory: int) -> bytes:
    with h5py.File(confined.opened(), "r") as content:
        groups, datasets = _nodes(content)
        check_expansion(sum(dataset.nbytes for dataset in datasets.values()), stored)
        arrays = _arrays(groups, datasets)
    found = {name: np.ascontiguousarray(as_number(name, array)) for name, array in arrays.items()}
    head = json.dumps([[name, array.dtype.str, array.shape] for name, array in found.items()])
    return b"\n".join([head.encode(), b"".join(array.tobytes() for array in found.values())])


def _arrays(groups: dict[str, h5py.Group], datasets: dict[str, h5py.Dataset]) -> dict[str, np.ndarray]:
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
    if dataset.dtype.hasobject:  # texts and lists, of any length whatever the file declares
        return np.empty(0, object)
    array = np.asarray(dataset[()])
    return array.view(ml_dtypes.bfloat16) if dataset.attrs.get("dtype") == "bfloat16" else array


def _strings(group: h5py.Group, attribute: str) -> list[str]:
    """Reads an attribute that Keras splits over numbered ones where it is longer than HDF5 allows."""
    numbered = itertools.takewhile(group.attrs.__contains__, (f"{attribute}{i}" for i in itertools.count()))
    names = [attribute] if attribute in group.attrs else list(numbered)
    values = [value for name in names for value in np.ravel(np.asarray(group.attrs[name]))]
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]
