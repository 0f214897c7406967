"""Which images a command line names, what their results are called, and reading them ahead."""

import dataclasses
import glob
import hashlib
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from segfusion_jax.commands.journal import SETTINGS, TABLE
from segfusion_jax.datasets.collections.official import IMAGE_SUFFIXES
from segfusion_jax.datasets.files import DiskFile, Folder, walk
from segfusion_jax.datasets.images import header, read_with_profile
from segfusion_jax.runtime import regular
from segfusion_jax.runtime.threads import work_ahead

RESULTS = ("masks", "overlays", "evidence", "segmentations")
"""Folders of pictures beside the table of an output folder."""

_AHEAD = 8  # images read before they are asked for
_LOOKED_AHEAD = 64  # images whose size is looked up before they are asked for
_MOST = 32  # images that are predicted together
_PIXEL = 16
"""Bytes of memory that a pixel takes at most, of decoding, of its mask, and of the pictures that are written."""
_EXPLAINED = 12
"""Bytes more where the evidence is asked for."""


@dataclasses.dataclass(frozen=True)
class Read:
    """A file that was read.

    Attributes:
      path: path of the file.
      image: [height, width, 3] uint8 RGB, upright and in sRGB; None = it cannot be read.
      sha256: of the file, in hexadecimal digits; "" where it cannot be read.
      profile: name of the colour profile that it was brought to sRGB from; "" = none.
      error: why.
    """

    path: pathlib.Path
    image: np.ndarray | None = None
    sha256: str = ""
    profile: str = ""
    error: str = ""


@dataclasses.dataclass(frozen=True)
class Batch:
    """Files that are predicted together.

    Attributes:
      paths: paths of the files.
      memory: bytes that all of them may take from reading to writing.
    """

    paths: tuple[pathlib.Path, ...]
    memory: int


def find(named: Sequence[str], *, without: pathlib.Path) -> dict[pathlib.Path, str]:
    """Returns the files that a command line names, as absolute paths, each once, in its order.

    With each stands what it is called where others see it, which says nothing of where it lies: its path from the last
    folder that was named, or its name alone.

    Args:
      named: files, of any name; folders, in which image files are looked for at any depth, by their endings and in the
        order of their paths, hidden ones left out; or patterns of `glob`, "**" for any depth. In folders and by
        patterns no results are found, `without`'s or those of an earlier command.
      without: folder in which the results will lie.

    Raises:
      FileNotFoundError: a name is no file, no folder, and no pattern that meets one.
      ValueError: there is no image in the folders.
    """
    without = pathlib.Path(os.path.abspath(without))
    found: dict[str, tuple[pathlib.Path, str]] = {}
    for name in named:
        path = pathlib.Path(name).expanduser()
        if path.exists():
            hits = list(_files(pathlib.Path(os.path.abspath(path)), without))
        else:
            hits = _matches(str(path), without)
        if not hits and not path.exists():
            raise FileNotFoundError(f"{name}: no such file or folder, and no pattern that meets an image")
        fixed = _fixed(path)
        above = fixed if str(fixed) == os.path.expanduser("~") else fixed.parent  # which bears a user's name
        for file in hits:
            found.setdefault(os.path.realpath(file), (file, file.relative_to(above).as_posix()))
    if not found:
        raise ValueError(f"no image in {', '.join(named)}: looked for files that end in {', '.join(IMAGE_SUFFIXES)}")
    return dict(found.values())


def names(paths: Iterable[pathlib.Path], given: Mapping[pathlib.Path, str], taken: Iterable[str]) -> list[str]:
    """Returns what the results of images are called: file names without endings; "a-2" and so on where "a" is taken.

    Args:
      paths: paths of the images.
      given: path to name, of images that have theirs already.
      taken: names that others have.
    """
    taken = {name.casefold() for name in taken}  # some file systems know no cases
    result = []
    for path in paths:
        if (name := given.get(path)) is None:
            number, name = 1, path.stem
            while name.casefold() in taken:
                number += 1
                name = f"{path.stem}-{number}"
            taken.add(name.casefold())
        result.append(name)
    return result


def digest(path: pathlib.Path) -> str:
    """Returns the SHA-256 of a file in hexadecimal digits; "" where it cannot be read."""
    try:
        with regular.opened(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (ValueError, OSError):
        return ""


def pathless(told: str, *folders: pathlib.Path) -> str:
    """Returns a message without where `folders` lie, which concerns nobody who reads a table."""
    for folder in (spelled for one in folders for spelled in (one.absolute(), one)):
        told = told.replace(f"{folder}{os.sep}", "")
    return told


def read(batch: Batch, memory: int) -> list[Read]:
    """Reads the files of a batch, unless it is a single one that takes more than `memory`, in bytes."""
    if batch.memory > memory and len(batch.paths) == 1:
        told = f"{batch.memory / 1e9:.1f} GB of memory are needed for it; --memory allows {memory / 1e9:g}"
        return [Read(batch.paths[0], error=f"oversized image: {told}")]
    return list(read_ahead(batch.paths))


def read_ahead(paths: Iterable[pathlib.Path]) -> Iterator[Read]:
    """Reads files in threads, a few before they are asked for; yields them in their order."""
    yield from work_ahead(_read, paths, threads=min(4, os.cpu_count() or 1), ahead=_AHEAD)


def batches(paths: Iterable[pathlib.Path], memory: int, *, explain: bool = False) -> Iterator[Batch]:
    """Yields as many files as are predicted together: fewer where they are large, by their headers.

    Args:
      paths: paths of the files.
      memory: bytes that all batches that are worked on may take; of several images, a batch takes at most half. A
        single image may take more than `memory`: it must not be read then.
      explain: whether the evidence is asked for.
    """
    batch, taken = [], 0

    def sized(path: pathlib.Path) -> tuple[pathlib.Path, int]:
        size, pixels = header(path)
        return path, size + pixels * (_PIXEL + (_EXPLAINED if explain else 0))

    for path, needed in work_ahead(sized, paths, threads=min(4, os.cpu_count() or 1), ahead=_LOOKED_AHEAD):
        if batch and (len(batch) == _MOST or taken + needed > memory // 2):
            yield Batch(tuple(batch), taken)
            batch, taken = [], 0
        batch.append(path)
        taken += needed
    if batch:
        yield Batch(tuple(batch), taken)


def _fixed(path: pathlib.Path) -> pathlib.Path:
    """Returns the absolute path of what is named, of a pattern up to its first part that may be several things."""
    parts = pathlib.Path(os.path.abspath(path))
    return parts if path.exists() else next((one for one in parts.parents if not glob.has_magic(str(one))), parts)


def _matches(pattern: str, without: pathlib.Path) -> list[pathlib.Path]:
    matches = [pathlib.Path(os.path.abspath(match)) for match in sorted(glob.glob(pattern, recursive=True))]
    inputs = (match for match in matches if not any(_is_result(path, without) for path in (match, *match.parents)))
    return [file for match in inputs for file in _files(match, without)]


def _is_result(folder: pathlib.Path, without: pathlib.Path) -> bool:
    """Returns whether it holds masks, overlays or evidence, of this command, which writes into `without`, or an earlier
    one.
    """
    if folder.name not in RESULTS:
        return False
    return folder.parent == without or all((folder.parent / name).is_file() for name in (SETTINGS, TABLE))


def _files(path: pathlib.Path, without: pathlib.Path) -> Iterator[pathlib.Path]:
    if not path.is_dir():
        yield path
        return
    for _, file in walk(Folder(path), lambda inner: inner.path.is_dir() and not _is_result(inner.path, without)):
        if isinstance(file, DiskFile) and file.name.lower().endswith(IMAGE_SUFFIXES):
            yield file.path


def _read(path: pathlib.Path) -> Read:
    try:
        if not path.exists():
            return Read(path, error="no such file")
        image, profile = read_with_profile(DiskFile(path, path.stat().st_size))
        return Read(path, image, digest(path), profile)
    except (ValueError, OSError) as error:
        return Read(path, error=str(error))
    except MemoryError:
        return Read(path, error="there is not enough memory to read it")
