"""Containers that unpack to more than they declare, crash their library, or reach for other files."""

import os
import pathlib
import resource
import struct
import zipfile
import zlib

import h5py
import numpy as np
import pytest

from segfusion_jax.datasets.files import hdf5_members
from segfusion_jax.models import weight_files
from tests.models.weight_file_kinds import KERNEL, save_hdf5

MB = 1 << 20


@pytest.fixture
def path(tmp_path) -> pathlib.Path:
    return tmp_path / "weights"


def grown(read) -> int:
    """MB that this process grows by at its peak while it refuses a file."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="is not a readable weight file"):
        read()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024


@pytest.mark.parametrize("member", ["a.npy", "net/data.pkl", "model.weights.h5"])
def test_a_member_that_unpacks_to_more_than_it_declares_is_not_unpacked(path, member):
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(member, "w") as file,
    ):
        for _ in range(200):
            file.write(bytes(MB))
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x01\x02") + 24
    content[at : at + 4] = struct.pack("<I", 1000)
    path.write_bytes(content)
    assert grown(lambda: weight_files.read(path)) < 100


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(path, method):
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a.npy", b"")
    with pytest.raises(ValueError, match="must be stored or deflated"):
        weight_files.read(path)


def npy(shape: str, dtype: str = "<f4", content: bytes = bytes(8)) -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


@pytest.mark.parametrize(
    "content",
    [
        npy("(1000000000000,)"),
        npy("(-1, -2)"),
        npy("(2,)", "V0"),
        npy("(3,)"),
        npy("(1,)"),
        npy("(2,)", "|O"),
        npy("(" + "1, " * 100 + ")"),
        npy("(" + "9" * 5000 + ",)"),
        b"\x93NUMPY\x03\x00" + bytes(100),
        b"\x93NUMPY",
    ],
)
def test_an_array_that_is_not_as_large_as_it_says_is_refused(path, content):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", content)
    assert grown(lambda: weight_files.read(path)) < 100


def test_a_chunk_of_hdf5_that_inflates_is_refused(path):
    compressor = zlib.compressobj(1)
    chunk = b"".join(compressor.compress(bytes(16 * MB)) for _ in range(60)) + compressor.flush()
    with h5py.File(path, "w") as file:
        made = file.create_dataset("layers/conv2d/vars/0", (1024,), "f4", chunks=(1024,), compression="gzip")
        made.id.write_direct_chunk((0,), chunk)
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    assert grown(lambda: weight_files.read(path)) < 200
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024 < max(children + 100, 1300)


def test_texts_of_any_length_in_hdf5_are_not_read(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("layers/dense/vars/0", data=["a" * MB], dtype=h5py.string_dtype())
    with pytest.raises(ValueError, match="dense/0 is of type object, not a number"):
        weight_files.read(path)


def test_a_crash_of_the_library_is_an_error(path, monkeypatch):
    save_hdf5(path, {"layers/dense/vars/0": KERNEL})
    monkeypatch.setattr(weight_files, "_SECONDS", 0.001)
    with pytest.raises(ValueError, match="is not a readable weight file: reading it takes longer"):
        weight_files.read(path)


@pytest.mark.parametrize("kind", ["fifo", "device"])
def test_what_is_no_regular_file_is_not_opened(path, kind):
    os.mkfifo(path) if kind == "fifo" else path.symlink_to("/dev/zero")
    with pytest.raises(ValueError, match="no regular file"):
        weight_files.read(path)


def test_names_are_bounded(path):
    np.savez(path.open("wb"), **{"a" * 501: KERNEL})
    with pytest.raises(ValueError, match="a name of 501 characters; at most 500 are read"):
        weight_files.read(path)


def test_images_in_hdf5_are_of_that_file_and_one_that_is_not_leaves_the_others(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["secret"] = np.void(b"of somebody else")
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["good"] = np.void(b"an image")
        file["numbers"] = np.zeros((3, 3))
        file["text"] = "a text of its own"
    members = {member.name: member for member in hdf5_members(tmp_path / "a.hdf5")}
    assert members["good"].read() == b"an image"
    with pytest.raises(ValueError, match="a.hdf5/numbers: it is no row of bytes"):
        members["numbers"].read()
    with h5py.File(tmp_path / "b.hdf5", "w") as file:
        file["linked"] = h5py.ExternalLink("other.h5", "secret")
    with pytest.raises(ValueError, match="b.hdf5: no readable HDF5 file of images: linked is a link"):
        hdf5_members(tmp_path / "b.hdf5")
    assert members["good"].read() == b"an image"
