"""Which images a command line names, what their results are called, and reading them ahead."""

import collections
import dataclasses
import glob
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from segfusion_jax.commands.journal import SETTINGS, TABLE
from segfusion_jax.datasets.collections.official import IMAGE_SUFFIXES
from segfusion_jax.datasets.files import DiskFile, Folder, walk
from segfusion_jax.datasets.images import read_with_profile, tell_profiles
from segfusion_jax.runtime.threads import work_ahead

RESULTS = ("masks", "overlays", "evidence", "segmentations")
"""Folders of pictures beside the table of an output folder."""

_AHEAD = 8  # images read before they are asked for
_MOST = 32, 64_000_000  # images and pixels that are predicted together


@dataclasses.dataclass(frozen=True)
class Read:
    """A file that was read.

    Attributes:
      path: path of the file.
      image: [height, width, 3] uint8 RGB, upright and in sRGB; None = it cannot be read.
      profile: name of the colour profile that it was brought to sRGB from; "" = none.
      error: why.
    """

    path: pathlib.Path
    image: np.ndarray | None = None
    profile: str = ""
    error: str = ""


def find(named: Sequence[str], *, without: pathlib.Path) -> list[pathlib.Path]:
    """Returns the files that a command line names, as absolute paths, each once, in its order.

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
    found: dict[str, pathlib.Path] = {}
    for name in named:
        path = pathlib.Path(name).expanduser()
        if path.exists():
            hits = list(_files(pathlib.Path(os.path.abspath(path)), without))
        else:
            hits = _matches(str(path), without)
        if not hits and not path.exists():
            raise FileNotFoundError(f"{name}: no such file or folder, and no pattern that meets an image")
        for file in hits:
            found.setdefault(os.path.realpath(file), file)
    if not found:
        raise ValueError(f"no image in {', '.join(named)}: looked for files that end in {', '.join(IMAGE_SUFFIXES)}")
    return list(found.values())


def names(paths: Iterable[pathlib.Path], given: Mapping[str, str]) -> list[str]:
    """Returns what the results of images are called: file names without endings; "a-2" and so on where "a" is taken.

    Args:
      paths: paths of the images.
      given: path to name, of images that have theirs already.
    """
    taken = {name.casefold() for name in given.values()}  # some file systems know no cases
    result = []
    for path in paths:
        if (name := given.get(str(path))) is None:
            number, name = 1, path.stem
            while name.casefold() in taken:
                number += 1
                name = f"{path.stem}-{number}"
            taken.add(name.casefold())
        result.append(name)
    return result


def read_ahead(paths: Iterable[pathlib.Path]) -> Iterator[Read]:
    """Reads files in threads, a few before they are asked for; yields them in their order."""
    profiles: collections.Counter[str] = collections.Counter()
    for file in work_ahead(_read, paths, threads=min(4, os.cpu_count() or 1), ahead=_AHEAD):
        profiles.update([file.profile] if file.profile else [])
        yield file
    tell_profiles(profiles)


def batches(files: Iterable[Read]) -> Iterator[list[Read]]:
    """Yields as many files as are predicted together: fewer where they are large, so that memory is bounded."""
    batch, pixels = [], 0
    for file in files:
        batch.append(file)
        pixels += file.image.size // 3 if file.image is not None else 0
        if len(batch) == _MOST[0] or pixels > _MOST[1]:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch


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
    if not path.exists():
        return Read(path, error="no such file")
    try:
        return Read(path, *read_with_profile(DiskFile(path, path.stat().st_size)))
    except (ValueError, OSError) as error:
        return Read(path, error=str(error))
