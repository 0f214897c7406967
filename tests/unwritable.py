"""Folders that cannot be written, for root neither."""

import contextlib
import os
import pathlib
from collections.abc import Iterator


@contextlib.contextmanager
def unwritable(folder: pathlib.Path) -> Iterator[None]:
    """Takes the right to write from all of `folder`; root, whom no mode of a file stops, becomes nobody meanwhile."""
    user, everything = os.geteuid(), [folder, *folder.rglob("*")]
    for path in everything:
        path.chmod(0o555 if path.is_dir() else 0o444)
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        for path in everything:
            path.chmod(0o755 if path.is_dir() else 0o644)
