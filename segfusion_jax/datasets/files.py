"""Files of a collection wherever they lie: in folders, in zip archives as published, or in HDF5.

Archives are read where they are and never unpacked, so that no entry can be written anywhere.
"""

import dataclasses
import functools
import json
import os
import pathlib
import posixpath
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from typing import Protocol

from segfusion_jax.runtime import regular, zips
from segfusion_jax.runtime.confined import Confined

MAX_BYTES = 1 << 29
"""Size of the largest image or table that is read; a larger one is refused before reading is begun."""
_HDF5_SECONDS = 300
"""Time to list what is in an HDF5 file, 17 s of ISIC 2024 on a slow core, or to read an image."""

_LITTER = (  # of desktops and of network drives; in lower case
    *("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "lost+found", "$recycle.bin"),
    *("system volume information", "@eadir", "#recycle", "@recycle", "#snapshot", "@recently-snapshot", "@tmp"),
)


def composed(name: str) -> str:
    """Returns a name in one spelling of Unicode (NFC): an accent may be written as part of its letter or after it."""
    return unicodedata.normalize("NFC", name)


class File(Protocol):
    """Encoded bytes with a name. Can be sent to other processes."""

    @property
    def name(self) -> str:
        """Last part of the path, with suffix; as `composed` has it, as far as it names an image."""
        ...

    @property
    def size(self) -> int:
        """Bytes, uncompressed; 0 = not known before it is read."""
        ...

    @property
    def stamp(self) -> int:
        """What changes when the content does: a checksum, or the time of the last change; 0 = not known."""
        ...

    def read(self) -> bytes:
        """Returns all bytes.

        Raises:
          OSError, ValueError: it cannot be read, is damaged, or has more than MAX_BYTES.
        """
        ...


@dataclasses.dataclass(frozen=True)
class DiskFile:
    """A file of its own."""

    path: pathlib.Path
    size: int
    stamp: int = 0

    @property
    def name(self) -> str:
        """Last part of the path."""
        return composed(self.path.name)

    def read(self) -> bytes:
        """Returns all bytes.

        Raises:
          OSError: it cannot be read.
          ValueError: too large, or a FIFO, a device or a socket.
        """
        return regular.read(self.path, MAX_BYTES)

    def __str__(self) -> str:
        return str(self.path)


@dataclasses.dataclass(frozen=True)
class ZipMember:
    """A file in a zip archive."""

    archive: pathlib.Path
    member: str
    size: int
    stamp: int = 0

    @property
    def name(self) -> str:
        """Last part of the path in the archive."""
        return composed(posixpath.basename(self.member))

    def read(self) -> bytes:
        """Returns all bytes.

        Raises:
          ValueError: the archive is damaged there, encrypted, or the file too large.
        """
        _refuse_large(self)
        try:
            archive = _Archive.opened(self.archive).file
            return zips.read(archive, archive.getinfo(self.member), MAX_BYTES)
        except Exception as error:  # zipfile raises whatever its decoders raise: zlib.error, struct.error, ...
            raise ValueError(f"{self}: {error}") from error

    def __str__(self) -> str:
        return f"{self.archive}/{self.member}"


@dataclasses.dataclass(frozen=True)
class Hdf5Member:
    """A scalar of bytes in an HDF5 file, as ISIC 2024 keeps its images; its size is what it takes up in the file."""

    archive: pathlib.Path
    name: str
    size: int
    stamp: int = 0

    def read(self) -> bytes:
        """Returns all bytes.

        Raises:
          ValueError: the file is damaged there, or the scalar too large.
        """
        _refuse_large(self)
        try:
            return _hdf5(self.archive).ask(self.name)
        except (OSError, ValueError) as error:
            raise ValueError(f"{self}: {error}") from error

    def __str__(self) -> str:
        return f"{self.archive}/{self.name}"


@dataclasses.dataclass(frozen=True)
class MemoryFile:
    """Bytes that lie in no file."""

    name: str
    content: bytes = dataclasses.field(repr=False)
    stamp: int = 0

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.content)

    def read(self) -> bytes:
        """Returns all bytes."""
        return self.content

    def __str__(self) -> str:
        return self.name


@dataclasses.dataclass(frozen=True)
class Folder:
    """A folder, or a zip archive or a folder in one, which are read alike.

    Hidden entries (`.DS_Store`, `._ISIC_0000000.jpg`) and what desktops and network drives leave (`Thumbs.db`,
    `__MACOSX`, `@eaDir`, `#recycle`) are passed over.

    Attributes:
      path: path of the folder or the archive.
      inside: path of the folder within the archive, "" or one that ends in "/".
    """

    path: pathlib.Path
    inside: str = ""

    def __str__(self) -> str:
        return f"{self.path}/{self.inside}" if self.inside else str(self.path)

    @property
    def exists(self) -> bool:
        """Whether it is there."""
        return self.path.is_dir() or _is_archive(self.path)

    @property
    def name(self) -> str:
        """Last part of the path; of an archive, without .zip."""
        return composed(
            posixpath.basename(self.inside.rstrip("/"))
            or (self.path.stem if _is_archive(self.path) else self.path.name)
        )

    def files(self, *names: str) -> list[File]:
        """Returns the files in it, by name; with `names`, only those that are called so, in any case.

        Raises:
          ValueError: a damaged archive, or one with an entry outside itself; names it.
        """
        wanted = {name.lower() for name in names}
        if _is_archive(self.path):
            members = _Archive.opened(self.path).members.get(self.inside, ())
            found = [ZipMember(self.path, member.filename, member.file_size, member.CRC) for member in members]
            return [file for file in found if not wanted or file.name.lower() in wanted]
        entries = [entry for entry in self._entries() if not wanted or entry.name.lower() in wanted]
        there = (entry for entry in entries if not entry.is_dir() and os.path.exists(entry))  # links to nothing are not
        states = ((pathlib.Path(entry), entry.stat()) for entry in there)
        return [DiskFile(path, state.st_size, state.st_mtime_ns) for path, state in states]

    def folders(self) -> list["Folder"]:
        """Returns the folders in it, then the zip archives in it, each by name, but not archives in archives."""
        if _is_archive(self.path):
            return [Folder(self.path, inside) for inside in _Archive.opened(self.path).folders.get(self.inside, ())]
        entries = self._entries()
        archives = [entry for entry in entries if entry.name.lower().endswith(".zip") and entry.is_file()]
        return [Folder(pathlib.Path(entry)) for entry in (*(entry for entry in entries if entry.is_dir()), *archives)]

    def _entries(self) -> list[os.DirEntry[str]]:
        with os.scandir(self.path) as entries:
            return sorted((entry for entry in entries if not _is_hidden(entry.name)), key=lambda entry: entry.name)


def walk(root: Folder, enters: Callable[[Folder], bool] = lambda folder: True) -> Iterator[tuple[str, File]]:
    """Yields every file below a folder with its path in it, by name: first its own, then those of the folders in it.

    Links are followed, and a folder that several links lead to is entered once.

    Args:
      root: the folder.
      enters: whether a folder in it is looked into.
    """
    left, seen = [("", root)], {_identity(root)}
    while left:
        path, folder = left.pop()
        yield from ((path + file.name, file) for file in folder.files())
        inner = [one for one in folder.folders() if enters(one)]
        new = {_identity(one): one for one in reversed(inner) if _identity(one) not in seen}
        seen |= new.keys()
        left += ((f"{path}{one.name}/", one) for one in new.values())


def _identity(folder: Folder) -> tuple[str, str]:
    return os.path.realpath(folder.path), folder.inside


def hdf5_members(path: pathlib.Path) -> list[Hdf5Member]:
    """Lists what stands at the top of an HDF5 file, by name, without reading an image.

    Raises:
      ValueError: no readable HDF5 file, or one with something else than data sets.
    """
    try:
        listed = json.loads(_hdf5(path).ask(""))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: no readable HDF5 file of images: {error}") from error
    stamp = path.stat().st_mtime_ns
    return [Hdf5Member(path, name, size, stamp) for name, size in listed]


class _Archive:
    """A zip file that stays open, and what stands in each of its folders."""

    def __init__(self, path: pathlib.Path):
        try:
            self.file = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise ValueError(f"{path}: no readable zip archive: {error}") from error
        self.members: dict[str, list[zipfile.ZipInfo]] = {}
        self.folders: dict[str, dict[str, None]] = {}  # used as ordered sets
        for member in sorted(self.file.infolist(), key=_parts):
            self._add(path, member)

    @staticmethod
    def opened(path: pathlib.Path) -> "_Archive":
        """Returns the archive, opened once for each state of the file, and anew in a forked process."""
        return _open_archive(path, path.stat().st_mtime_ns, os.getpid())

    def _add(self, path: pathlib.Path, member: zipfile.ZipInfo) -> None:
        parts = _parts(member)
        if member.filename == "./":
            return
        if ".." in parts or "" in parts or "\\" in member.filename or ":" in parts[0]:
            raise ValueError(f"{path}: an entry that leads outside, or is no portable path: {member.filename!r}")
        if any(map(_is_hidden, parts)):
            return
        for depth in range(1, len(parts) + member.is_dir()):
            self.folders.setdefault(_joined(parts[: depth - 1]), {})[_joined(parts[:depth])] = None
        if not member.is_dir():
            self.members.setdefault(_joined(parts[:-1]), []).append(member)


def _parts(member: zipfile.ZipInfo) -> list[str]:
    return member.filename.removeprefix("./").rstrip("/").split("/")


def _joined(parts: list[str]) -> str:
    """Returns the path of a folder in an archive: "" or one that ends in "/"."""
    return "".join(f"{part}/" for part in parts)


@functools.lru_cache(maxsize=64)
def _open_archive(path: pathlib.Path, modified: int, process: int) -> _Archive:
    del modified, process  # forked processes would share, and move, one position in the file
    return _Archive(path)


def _hdf5(path: pathlib.Path) -> Confined:
    return _open_hdf5(path, path.stat().st_mtime_ns, os.getpid())


@functools.lru_cache(maxsize=4)
def _open_hdf5(path: pathlib.Path, modified: int, process: int) -> Confined:
    del modified, process
    with regular.opened(path) as file:
        return Confined("segfusion_jax.datasets.hdf5_images", file, memory=MAX_BYTES, seconds=_HDF5_SECONDS)


def _refuse_large(file: File) -> None:
    if file.size > MAX_BYTES:
        raise ValueError(f"{file}: {file.size} bytes; at most {MAX_BYTES} are read")


def _is_archive(path: pathlib.Path) -> bool:
    return path.suffix.lower() == ".zip" and path.is_file()


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "~$")) or name.lower() in _LITTER
