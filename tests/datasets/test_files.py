"""Files in folders, archives and HDF5: read alike, and damaged ones named."""

import os
import pathlib
import pickle
import time
import zipfile

import h5py
import numpy as np
import pytest

from segfusion_jax.datasets import files
from segfusion_jax.datasets.files import Folder

TREE = {
    "table.csv": b"a,b\n",
    "one/b.jpg": b"picture b",
    "one/a.jpg": b"picture a",
    "one/deep/er/c.jpg": b"picture c",
    "two/a.jpg": b"another a",
}
HIDDEN = ("__MACOSX/one/._a.jpg", ".DS_Store", "one/._a.jpg", "one/.DS_Store", ".git/config")


def write(root: pathlib.Path, tree: dict[str, bytes]) -> Folder:
    for path, content in tree.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return Folder(root)


def pack(path: pathlib.Path, tree: dict[str, bytes], *, compression: int = zipfile.ZIP_DEFLATED) -> Folder:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in tree.items():
            archive.writestr(name, content)
    return Folder(path)


def walk(folder: Folder, below: str = "") -> dict[str, bytes]:
    found = {below + file.name: file.read() for file in folder.files()}
    for inner in folder.folders():
        found |= walk(inner, f"{below}{inner.name}/")
    return found


@pytest.mark.parametrize("form", [write, pack])
def test_folders_and_archives_are_read_alike(tmp_path, form):
    folder = form(tmp_path / "all.zip", TREE | dict.fromkeys(HIDDEN, b"junk"))
    if form is write:
        (tmp_path / "all.zip").rename(tmp_path / "all")
        folder = Folder(tmp_path / "all")
    assert folder.exists and folder.name == "all"
    assert walk(folder) == TREE
    assert [inner.name for inner in folder.folders()] == ["one", "two"]
    one = folder.folders()[0]
    assert [file.name for file in one.files()] == ["a.jpg", "b.jpg"]
    assert [file.size for file in one.files()] == [9, 9]
    assert [file.name for file in one.files("A.JPG", "c.jpg")] == ["a.jpg"]
    for file in one.files():
        assert str(tmp_path / "all") in str(file) and str(file).endswith(f"one/{file.name}")
        again = pickle.loads(pickle.dumps(file))
        assert again == file and again.read() == file.read()


def test_what_is_not_there(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder.zip").mkdir()
    assert not Folder(tmp_path / "absent").exists
    assert not Folder(tmp_path / "file").exists
    assert Folder(tmp_path / "folder.zip").exists and Folder(tmp_path / "folder.zip").files() == []


def test_archives_in_folders_are_folders_and_those_in_archives_are_files(tmp_path):
    inner = pack(tmp_path / "inner.ZIP", TREE)
    assert [folder.name for folder in Folder(tmp_path).folders()] == ["inner"]
    outer = pack(tmp_path / "outer.zip", {"inner.zip": inner.path.read_bytes()})
    assert outer.folders() == [] and [file.name for file in outer.files()] == ["inner.zip"]


def test_entries_for_folders_themselves(tmp_path):
    folder = pack(tmp_path / "a.zip", {"./": b"", "empty/": b"", "./x/y/": b"", "x/z.jpg": b"z"})
    assert [inner.name for inner in folder.folders()] == ["empty", "x"]
    assert walk(folder) == {"x/z.jpg": b"z"}
    assert [inner.name for inner in folder.folders()[1].folders()] == ["y"]


@pytest.mark.parametrize(
    "entry", ["../out.jpg", "a/../../out.jpg", "/etc/passwd", "C:/out.jpg", "..\\out.jpg", "a//b.jpg", ".."]
)
def test_an_entry_that_leads_outside_is_refused(tmp_path, entry):
    folder = pack(tmp_path / "evil.zip", {"a.jpg": b"a", entry: b"out"})
    for listed in (folder.files, folder.folders):
        with pytest.raises(ValueError, match="evil.zip: an entry that leads outside") as error:
            listed()
        assert repr(entry) in str(error.value)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04" + bytes(100)])
def test_no_archive(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ValueError, match="a.zip: no readable zip archive"):
        Folder(tmp_path / "a.zip").files()


def test_a_truncated_archive(tmp_path):
    folder = pack(tmp_path / "a.zip", {"a.jpg": os.urandom(5000), "b.jpg": os.urandom(5000)})
    folder.path.write_bytes(folder.path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="a.zip: no readable zip archive"):
        folder.files()


def test_a_damaged_member_is_named_and_the_others_are_read(tmp_path):
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        folder = pack(tmp_path / "a.zip", {"x/a.jpg": b"first" * 99, "x/b.jpg": b"second"}, compression=compression)
        content = bytearray(folder.path.read_bytes())
        start = content.index(b"x/a.jpg") + len("x/a.jpg")
        content[start + 4] ^= 0xFF
        folder.path.write_bytes(content)
        first, second = folder.folders()[0].files()
        with pytest.raises(ValueError, match=r"a.zip/x/a.jpg: "):
            first.read()
        assert second.read() == b"second"


def test_an_encrypted_member_is_named(tmp_path):
    folder = pack(tmp_path / "a.zip", {"a.jpg": b"secret"}, compression=zipfile.ZIP_STORED)
    content = bytearray(folder.path.read_bytes())
    for header, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # general purpose flags
        content[content.index(header) + offset] |= 1
    folder.path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a.zip/a.jpg: .*encrypted"):
        folder.files()[0].read()


def test_an_archive_that_was_replaced_is_read_anew(tmp_path):
    folder = pack(tmp_path / "a.zip", {"a.jpg": b"old"})
    assert folder.files()[0].read() == b"old"
    gone = folder.files()[0]
    pack(tmp_path / "a.zip", {"b.jpg": b"new"})
    os.utime(folder.path, ns=(1, 1))
    assert [file.read() for file in folder.files()] == [b"new"]
    with pytest.raises(ValueError, match="a.zip/a.jpg"):
        gone.read()
    folder.path.unlink()
    with pytest.raises(ValueError, match="a.zip/a.jpg"):
        gone.read()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_processes_read_the_same_archive(tmp_path):
    tree = {f"{i}.jpg": os.urandom(20_000) for i in range(200)}
    members = pack(tmp_path / "a.zip", tree, compression=zipfile.ZIP_STORED).files()

    def all_right() -> bool:
        return all(member.read() == tree[member.name] for _ in range(5) for member in members)

    assert all_right()
    children = []
    for _ in range(3):
        child = os.fork()
        if not child:
            try:
                os._exit(0 if all_right() else 1)
            except BaseException:
                os._exit(2)
        children.append(child)
    assert all_right()
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]


def test_too_large_a_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    folder = write(tmp_path / "folder", {"a.jpg": bytes(1000)})
    archive = pack(tmp_path / "a.zip", {"a.jpg": bytes(1000)})
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["a"] = np.bytes_(b"x" * 1000)
    found = [folder.files()[0], archive.files()[0], files.hdf5_members(tmp_path / "a.hdf5")[0]]
    assert [len(file.read()) for file in found] == [1000] * 3
    monkeypatch.setattr(files, "MAX_BYTES", 999)
    for file in found:
        with pytest.raises(ValueError, match=r"a(\.jpg)?: 1000 bytes; at most 999 are read"):
            file.read()


@pytest.mark.parametrize(
    "stored", [np.bytes_, np.void, lambda b: np.frombuffer(b, np.uint8)], ids=["string", "opaque", "bytes"]
)
def test_hdf5_in_each_way_of_storing_bytes(tmp_path, stored):
    contents = {"b": b"\xff\xd8\x00\x01\xff\xd9", "a": b"\xff\xd8\x00\x00\x02\xff\xd9"}
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        for name, content in contents.items():
            file.create_dataset(name, data=stored(content))
    members = files.hdf5_members(tmp_path / "a.hdf5")
    assert [(member.name, member.size) for member in members] == [("a", 7), ("b", 6)]
    assert {member.name: member.read() for member in members} == contents
    assert pickle.loads(pickle.dumps(members[0])).read() == contents["a"]
    assert str(members[0]).endswith("a.hdf5/a")


def test_damaged_hdf5_is_named(tmp_path):
    path = tmp_path / "a.hdf5"
    path.write_bytes(b"no HDF5")
    with pytest.raises(ValueError, match="a.hdf5: no readable HDF5 file"):
        files.hdf5_members(path)
    with h5py.File(path, "w") as file:
        file.create_group("group")
    with pytest.raises(ValueError, match="a.hdf5: no readable HDF5 file"):
        files.hdf5_members(path)
    with h5py.File(path, "w") as file:
        file["a"] = np.bytes_(os.urandom(9000) + b"\xff")
    member = files.hdf5_members(path)[0]
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(ValueError, match="a.hdf5/a: "):
        member.read()
    path.unlink()
    with pytest.raises(ValueError, match="a.hdf5/a: "):
        member.read()


def test_an_hdf5_file_that_was_replaced_is_read_anew(tmp_path):
    path = tmp_path / "a.hdf5"
    for content in (b"old", b"new picture"):
        with h5py.File(tmp_path / "next.hdf5", "w") as file:
            file["a"] = np.bytes_(content)
        os.utime(tmp_path / "next.hdf5", ns=(1, len(content)))
        (tmp_path / "next.hdf5").replace(path)
        assert [member.read() for member in files.hdf5_members(path)] == [content]


def test_20000_members_are_listed_quickly(tmp_path):
    with h5py.File(tmp_path / "a.hdf5", "w", libver="latest") as file:
        for i in range(20_000):
            file[f"ISIC_{i:07d}"] = np.bytes_(b"\xff\xd8")
    pack(tmp_path / "a.zip", {f"a/{i}.jpg": b"" for i in range(20_000)}, compression=zipfile.ZIP_STORED)
    start = time.process_time()
    assert len(files.hdf5_members(tmp_path / "a.hdf5")) == 20_000
    assert len(Folder(tmp_path / "a.zip").folders()[0].files()) == 20_000
    assert time.process_time() - start < 10  # 1.5 s on a slow core
