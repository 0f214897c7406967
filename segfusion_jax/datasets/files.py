"""Files of a collection wherever they lie: in folders, in zip archives as published, in HDF5, or in memory.

Archives are read where they are and never unpacked, so that no entry can be written anywhere.
"""

import dataclasses
import functools
import pathlib
import posixpath
import zipfile
from typing import Protocol

import h5py

MAX_BYTES = 1 << 29
"""Of one image or table; a larger one is refused before it is read."""


class File(Protocol):
    """Encoded bytes with a name. Can be sent to other processes."""

    @property
    def name(self) -> str:
        """Last part of the path, with suffix."""
        ...

    @property
    def size(self) -> int:
        """Bytes, uncompressed."""
        ...

    def read(self) -> bytes:
        """All bytes.

        Raises:
          OSError, ValueError: it cannot be read, or is damaged.
        """
        ...


@dataclasses.dataclass(frozen=True)
class DiskFile:
    """A file of its own."""

    path: pathlib.Path
    size: int

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.name

    def read(self) -> bytes:
        """All bytes."""
        return self.path.read_bytes()

    def __str__(self) -> str:
        return str(self.path)


@dataclasses.dataclass(frozen=True)
class ZipMember:
    """A file in a zip archive."""

    archive: pathlib.Path
    member: str
    size: int

    @property
    def name(self) -> str:
        """Last part of the path in the archive."""
        return posixpath.basename(self.member)

    def read(self) -> bytes:
        """All bytes.

        Raises:
          ValueError: the archive is damaged there, or encrypted.
        """
        try:
            return _Archive.opened(self.archive).file.read(self.member)
        except Exception as error:  # zipfile raises whatever its decoders raise: zlib.error, struct.error, ...
            raise ValueError(f"{self}: {error}") from error

    def __str__(self) -> str:
        return f"{self.archive}/{self.member}"


@dataclasses.dataclass(frozen=True)
class Hdf5Member:
    """A scalar of bytes in an HDF5 file, as ISIC 2024 keeps its images."""

    archive: pathlib.Path
    name: str
    size: int

    def read(self) -> bytes:
        """All bytes.

        Raises:
          ValueError: the file is damaged there.
        """
        try:
            return bytes(_hdf5(self.archive)[self.name][()])  # pyright: ignore[reportIndexIssue, reportArgumentType]
        except (OSError, KeyError, TypeError, RuntimeError) as error:
            raise ValueError(f"{self.archive}/{self.name}: {error}") from error


@dataclasses.dataclass(frozen=True)
class MemoryFile:
    """Bytes that lie in no file."""

    name: str
    content: bytes = dataclasses.field(repr=False)

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.content)

    def read(self) -> bytes:
        """All bytes."""
        return self.content


@dataclasses.dataclass(frozen=True)
class Folder:
    """A folder, or a zip archive or a folder in one, which are read alike.

    Hidden entries (`.DS_Store`, `._ISIC_0000000.jpg`, `__MACOSX`) are passed over.

    Attributes:
      path: of the folder or the archive.
      inside: of the folder in the archive: "" or a path that ends in "/".
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
        return posixpath.basename(self.inside.rstrip("/")) or (
            self.path.stem if _is_archive(self.path) else self.path.name
        )

    def files(self) -> list[File]:
        """The files in it, by name.

        Raises:
          ValueError: a damaged archive, or one with an entry outside itself; names it.
        """
        if _is_archive(self.path):
            members = _Archive.opened(self.path).members.get(self.inside, ())
            return [ZipMember(self.path, member.filename, member.file_size) for member in members]
        paths = sorted(path for path in self.path.iterdir() if not _is_hidden(path.name))
        return [DiskFile(path, path.stat().st_size) for path in paths if path.is_file()]

    def folders(self) -> list["Folder"]:
        """The folders in it, then the zip archives in it, each by name."""
        if _is_archive(self.path):
            return [Folder(self.path, inside) for inside in _Archive.opened(self.path).folders.get(self.inside, ())]
        paths = sorted(path for path in self.path.iterdir() if not _is_hidden(path.name))
        archives = [path for path in paths if path.suffix.lower() == ".zip" and path.is_file()]
        return [Folder(path) for path in (*(path for path in paths if path.is_dir()), *archives)]


class _Archive:
    """A zip file that stays open, and what stands in each of its folders."""

    def __init__(self, path: pathlib.Path):
        try:
            self.file = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise ValueError(f"{path}: no readable zip archive: {error}") from error
        self.members: dict[str, list[zipfile.ZipInfo]] = {}
        self.folders: dict[str, list[str]] = {}
        for member in sorted(self.file.infolist(), key=lambda member: member.filename):
            self._add(path, member)

    @staticmethod
    def opened(path: pathlib.Path) -> "_Archive":
        """The archive, opened once for each state of the file."""
        return _open_archive(path, path.stat().st_mtime_ns)

    def _add(self, path: pathlib.Path, member: zipfile.ZipInfo) -> None:
        parts = member.filename.removeprefix("./").rstrip("/").split("/")
        if ".." in parts or "" in parts or "\\" in member.filename or ":" in parts[0]:
            raise ValueError(f"{path}: the archive has an entry outside itself: {member.filename!r}")
        if any(map(_is_hidden, parts)):
            return
        for depth in range(1, len(parts) + member.is_dir()):
            parent, folder = "/".join(parts[: depth - 1]), "/".join(parts[:depth]) + "/"
            siblings = self.folders.setdefault(f"{parent}/" if parent else "", [])
            if folder not in siblings:
                siblings.append(folder)
        if not member.is_dir():
            self.members.setdefault("".join(f"{part}/" for part in parts[:-1]), []).append(member)


@functools.lru_cache(maxsize=64)
def _open_archive(path: pathlib.Path, modified: int) -> _Archive:
    del modified
    return _Archive(path)


@functools.lru_cache(maxsize=4)
def _hdf5(path: pathlib.Path) -> h5py.File:
    return h5py.File(path, "r")


def _is_archive(path: pathlib.Path) -> bool:
    return path.suffix.lower() == ".zip" and path.is_file()


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"
