"""Where a user's data, downloads and caches lie: SEGFUSION_DATA, $XDG_CACHE_HOME, and paths."""

import os
import pathlib

from segfusion_jax.runtime import caches


def find(name: str) -> pathlib.Path | None:
    """Returns the file or folder called `name`: as a path, else as `find_data` finds it."""
    path = pathlib.Path(name).expanduser()
    return path if path.exists() else find_data(name)


def find_data(name: str) -> pathlib.Path | None:
    """Returns what is called `name` in the folders of SEGFUSION_DATA, a list like PATH, or one level below them."""
    folders = [pathlib.Path(f) for f in os.environ.get("SEGFUSION_DATA", "").split(os.pathsep) if f]
    candidates = (path for folder in folders for path in (folder / name, *sorted(folder.glob(f"*/{name}"))))
    return next((path for path in candidates if path.exists()), None)


def cache_folder() -> pathlib.Path:
    """Returns where this user's downloads and prepared data lie, as `caches.folder`: this user's alone."""
    return caches.folder()
