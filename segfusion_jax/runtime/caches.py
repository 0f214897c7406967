"""Folders of a cache that are this user's alone: what is found there is loaded, and may be code.

A folder that somebody else owns or may write into, that cannot be made, or for which there is no home stands for
nothing: instead there is a temporary one, and one warning.
"""

import atexit
import functools
import logging
import os
import pathlib
import shutil
import stat
import tempfile

_log = logging.getLogger(__name__)

_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def folder(*parts: str) -> pathlib.Path:
    """Returns a folder of the cache, $XDG_CACHE_HOME or ~/.cache, below `segfusion_jax`: made 0700 where it is missing.

    Raises:
      OSError: it cannot be had, nor a temporary one.
    """
    try:
        path = _root()
        for part in parts:
            path = _own(path / part)
    except (OSError, RuntimeError) as error:
        path = temporary(str(error)).joinpath(*parts)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def is_own(path: pathlib.Path) -> bool:
    """Returns whether nobody else can have written a file or folder: this user owns it, and others may not write it."""
    status = path.stat()
    return status.st_uid == os.geteuid() and not status.st_mode & _OTHERS


@functools.cache
def _temporary() -> pathlib.Path:
    path = pathlib.Path(tempfile.mkdtemp(prefix="segfusion_jax-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


@functools.cache
def _warn(reason: str) -> None:
    _log.warning(
        "the cache cannot be used, a temporary folder stands for it until the program ends: %s; "
        "XDG_CACHE_HOME names another place",
        reason,
    )


def temporary(reason: str) -> pathlib.Path:
    """Returns a folder that lasts as long as the process, and warns once of each reason why it is needed.

    Raises:
      OSError: there is no room for one.
    """
    path = _temporary()
    _warn(reason)
    return path


def is_temporary(path: pathlib.Path) -> bool:
    """Returns whether what lies there is gone when the program ends, since the cache cannot be used."""
    return bool(_temporary.cache_info().currsize) and path.is_relative_to(_temporary())


def _root() -> pathlib.Path:
    """Returns the folder below $XDG_CACHE_HOME; a relative one, by its rules, does not count."""
    named = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "")).expanduser()
    above = named if named.is_absolute() else pathlib.Path("~/.cache").expanduser()
    above.mkdir(mode=0o700, parents=True, exist_ok=True)
    mode = above.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise PermissionError(f"{above}: everybody may write there and rename what others made; give it to one user")
    return _own(above / "segfusion_jax")


def _own(path: pathlib.Path) -> pathlib.Path:
    """Returns a folder of this user alone, made if it is missing; what others may have written in it is removed.

    Raises:
      OSError: it is another user's, no folder, or cannot be made.
    """
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.stat()
    for owner in (path.lstat().st_uid, status.st_uid):  # of a link, too, by which others could name any folder
        if owner != os.geteuid():
            raise PermissionError(f"{path} belongs to the user with the number {owner}; remove it")
    if status.st_mode & _OTHERS:
        path.chmod(0o700)
        for entry in path.iterdir():
            if not entry.is_dir() and not is_own(entry):
                entry.unlink()
    elif status.st_mode & 0o077 and os.access(path, os.W_OK):
        path.chmod(0o700)
    return path
