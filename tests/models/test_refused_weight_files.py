"""Weight files that are damaged, of another kind, or that reach for code, memory or other files, are refused."""

import io
import pathlib
import re
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest
import safetensors.numpy

from segfusion_jax.models import weight_files
from tests.models import test_torch_pickle as torch_files
from tests.models.weight_file_kinds import KERNEL, KINDS, save_hdf5

kinds = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def path(tmp_path) -> pathlib.Path:
    return tmp_path / "weights.pth"


@kinds
@pytest.mark.parametrize("share", [0.03, 0.3, 0.6, 0.97])
def test_a_file_cut_short_is_refused(path, kind, share):
    KINDS[kind](path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match="^" + re.escape(f"{path} is not a readable weight file: ")):
        weight_files.read(path)


@kinds
def test_a_damaged_file_gives_arrays_or_a_value_error(path, kind):
    KINDS[kind](path)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    tries = 6 if "keras" in kind else 60  # each in a process of its own
    for _ in range(tries):
        damaged = np.frombuffer(content, np.uint8).copy()
        damaged[rng.integers(0, min(len(content), 1500), 8)] = rng.integers(0, 256, 8)
        path.write_bytes(damaged.tobytes())
        try:
            arrays = weight_files.read(path)
        except ValueError as error:
            assert str(error).startswith(str(path))
            refused += 1
        else:
            assert all(array.dtype.kind in "fiub" for array in arrays.values())
    assert refused > tries / 6


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "it begins with b'version h', as none of .npz"),
        (b"storages\0\0\0\0", "it begins with"),
        (b"PK", "it begins with b'PK'"),
        (np.save, "it begins with b'.*NUMPY"),
    ],
)
def test_a_file_of_another_kind_is_refused(path, content, message):
    if callable(content):
        content(path.open("wb"), KERNEL)
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=f"weights.pth is not a readable weight file: {message}"):
        weight_files.read(path)


def test_a_folder_is_refused_and_a_missing_file_is_missing(tmp_path):
    with pytest.raises(ValueError, match="is not a readable weight file: .*Is a directory"):
        weight_files.read(tmp_path)
    with pytest.raises(FileNotFoundError, match="absent.npz"):
        weight_files.read(tmp_path / "absent.npz")


@pytest.mark.parametrize(
    "save",
    [
        lambda path: safetensors.numpy.save_file({}, path),
        lambda path: path.write_bytes(torch_files.zipped({}, {})),
        lambda path: path.write_bytes(torch_files.legacy({}, {})),
        lambda path: save_hdf5(path, {}),
        lambda path: save_hdf5(path, {"optimizer/vars/0": KERNEL}),
    ],
)
def test_a_file_without_arrays_is_refused(path, save):
    save(path)
    with pytest.raises(ValueError, match="weights.pth holds no arrays"):
        weight_files.read(path)


@pytest.mark.parametrize("write", [torch_files.zipped, torch_files.legacy])
def test_a_pickle_that_asks_for_code_is_refused_with_the_path(path, write):
    made = path.with_name("made")
    attack = torch_files.Call(torch_files.Global("os", "mkdir"), (str(made),))
    path.write_bytes(write({"a": attack}, {}))
    with pytest.raises(ValueError, match="weights.pth is not a readable weight file: .*os.mkdir has no place"):
        weight_files.read(path)
    assert not made.exists()


def test_a_legacy_list_of_storages_that_is_no_list_of_names_is_refused(path):
    content = torch_files.legacy({"a": torch_files.tensor()}, {})
    path.write_bytes(content.removesuffix(torch_files.dumps([])) + torch_files.dumps([["0"]]))
    with pytest.raises(ValueError, match="weights.pth is not a readable weight file"):
        weight_files.read(path)


class Attack:
    def __init__(self, made: pathlib.Path):
        self.made = made

    def __reduce__(self):
        return pathlib.Path.mkdir, (self.made,)


def test_a_pickle_within_an_npz_file_is_not_read(path):
    np.savez(path.open("wb"), x=np.array([Attack(path.with_name("made"))], object))
    with pytest.raises(ValueError, match="weights.pth is not a readable weight file: Object arrays"):
        weight_files.read(path)
    assert not path.with_name("made").exists()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["readme.txt"], "a zip archive, but not one of NumPy, PyTorch or Keras"),
        (["a.npy", "readme.txt"], "a zip archive, but not one of NumPy, PyTorch or Keras"),
        (["a.npy"], "a is of type bytes, not a number"),
    ],
)
def test_other_archives_are_refused(path, names, message):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "text")
    with pytest.raises(ValueError, match=message):
        weight_files.read(path)


@pytest.mark.parametrize(
    ("datasets", "attributes", "message"),
    [
        ({"images": KERNEL}, {}, "images is in no group vars"),
        ({"layers/dense/0": KERNEL}, {}, "layers/dense/0 is in no group vars"),
        ({"layers/dense/vars/0": "text"}, {}, "dense/0 is of type"),
        ({"layers/dense/vars/0": h5py.Empty("f4")}, {}, "dense/0 is of type"),
        ({"layers/dense/vars/0": np.ones(2, complex)}, {}, "dense/0 is of type complex128"),
        (
            {"conv/conv/bias:0": KERNEL},
            {"/": {"layer_names": ["conv"]}, "conv": {"weight_names": ["conv/kernel:0"]}},
            "lists conv/kernel:0 of layer conv, but does not hold it",
        ),
    ],
)
def test_other_hdf5_files_are_refused(path, datasets, attributes, message):
    save_hdf5(path, datasets, attributes)
    with pytest.raises(ValueError, match=message):
        weight_files.read(path)


def test_an_hdf5_file_that_reaches_for_another_is_refused(path):
    secret = path.with_name("secret.h5")
    save_hdf5(secret, {"layers/dense/vars/0": KERNEL})
    save_hdf5(path, {"conv/bias:0": KERNEL}, {"/": {"layer_names": ["conv"]}, "conv": {"weight_names": ["kernel:0"]}})
    with h5py.File(path, "a") as file:
        file["conv/kernel:0"] = h5py.ExternalLink(str(secret), "layers/dense/vars/0")
    with pytest.raises(ValueError, match="lists kernel:0 of layer conv, but does not hold it"):
        weight_files.read(path)
    with h5py.File(path, "w") as file:
        file.create_dataset("layers/dense/vars/0", (3,), "f4", external=[(str(secret), 0, 12)])
    with pytest.raises(ValueError, match="layers/dense/vars/0 lies in another file"):
        weight_files.read(path)


def save_zip_bomb(path: pathlib.Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", bytes(100))
        archive.infolist()[0].file_size = 2**36


def save_hdf5_bomb(path: pathlib.Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("layers/dense/vars/0", (2**17, 2**17), "f4", chunks=(2**8, 2**8), compression="gzip")


@pytest.mark.parametrize(
    ("save", "message"),
    [
        (save_zip_bomb, r"its \d+ bytes declare 68719476736 bytes of arrays"),
        (save_hdf5_bomb, r"its \d+ bytes declare 68719476736 bytes of arrays"),
    ],
)
def test_a_file_that_declares_more_than_it_can_hold_is_refused_before_memory_is_taken(path, save, message):
    save(path)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message):
            weight_files.read(path)
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()


def test_an_npy_header_that_declares_more_than_its_member_holds_is_refused(path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2**50,)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", header.getvalue())
    with pytest.raises(ValueError, match="weights.pth is not a readable weight file"):
        weight_files.read(path)
