"""Files that a reader sees in their old state or in their new one, never in between."""

import csv
import os
import pathlib
import threading
from collections.abc import Iterable, Sequence

from segfusion_jax.runtime import sinks


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a UTF-8 file, and the folders above it where they are missing.

    Once it returns, the file outlives a loss of power.
    """
    write_bytes(path, text.encode())


def write_bytes(path: pathlib.Path, content: bytes, *, private: bool = False) -> None:
    """Writes a file as `write_text` does; a private one is readable and writable by its owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    temporary.write_bytes(content)
    if private:
        temporary.chmod(0o600)
    replace(temporary, path)


def write_table(path: pathlib.Path, columns: Sequence[str], rows: Iterable[Sequence]) -> None:
    """Writes a CSV file as `write_text` does, row by row, its texts by `sinks.cell`; `read_table` reads it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    with temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(map(sinks.cell, columns))
        table.writerows(map(sinks.cell, row) for row in rows)
    replace(temporary, path)


def read_table(path: pathlib.Path) -> list[dict[str, str]]:
    """Returns the rows of a table that `write_table` wrote, texts by the names of the columns."""
    with path.open(newline="", encoding="utf-8") as file:
        return [sinks.plain_row(row) for row in csv.DictReader(file)]


def replace(temporary: pathlib.Path, path: pathlib.Path) -> None:
    """Renames a file that is written to `path`, in the same folder; after that it outlives a loss of power."""
    _sync(temporary)
    temporary.replace(path)
    _sync(path.parent)


def _sync(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporary_name(path: pathlib.Path) -> pathlib.Path:
    """Returns a name beside `path` that no other process or thread uses."""
    return path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
