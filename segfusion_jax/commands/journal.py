"""A table that grows row by row, and that the same command goes on with after it was stopped."""

import csv
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from segfusion_jax.runtime import sinks
from segfusion_jax.runtime.atomic import read_table, write_table, write_text

SETTINGS = "settings.json"
TABLE = "predictions.csv"


class Journal:
    """`predictions.csv` in a folder, beside the settings that it was made with in `settings.json`.

    Rows without an error stay; those with one, and a last one that was cut, are left out, to be made again.

    Args:
      folder: made if it is not there.
      columns: columns of the table; `sha256`, of the image's file, and `error` are among them.
      settings: all that rows depend on beside their image.

    Attributes:
      done: rows that were there already.

    Raises:
      ValueError: the folder holds a table of other settings, or one without any.
    """

    def __init__(self, folder: pathlib.Path, columns: Sequence[str], settings: Mapping[str, Any]):
        path = folder / TABLE
        self.done: list[dict[str, str]] = []
        if path.exists():
            _check(folder, settings)
            self.done = [row for row in _whole_rows(path, columns) if not row["error"]]
        write_text(folder / SETTINGS, json.dumps(settings, indent=2) + "\n")
        write_table(path, columns, ([row.get(name, "") for name in columns] for row in self.done))
        self._columns = columns
        self._file = path.open("a", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file, lineterminator="\n")

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Adds rows, which then outlive the process; what a row does not have is empty."""
        self._writer.writerows([sinks.cell(row.get(name, "")) for name in self._columns] for row in rows)
        self._file.flush()

    def close(self) -> None:
        """Closes the table."""
        self._file.close()


def read_rows(folder: pathlib.Path) -> list[dict[str, str]]:
    """Returns the rows of a finished table."""
    return read_table(folder / TABLE)


def _whole_rows(path: pathlib.Path, columns: Sequence[str]) -> list[dict[str, str]]:
    text = path.read_text(encoding="utf-8", errors="surrogateescape")  # as earlier versions wrote names of any bytes
    lines = text[: text.rfind("\n") + 1].split("\n")
    rows = (row for row in csv.DictReader(lines) if len(row) == len(columns) and None not in row.values())
    return [sinks.plain_row(row) for row in rows]


def _check(folder: pathlib.Path, settings: Mapping[str, Any]) -> None:
    path = folder / SETTINGS
    theirs = json.loads(path.read_text()) if path.exists() else {}
    differing = [name for name in settings if name not in theirs or theirs[name] != settings[name]]
    if differing:
        told = "; ".join(
            f"{name} is {_told(theirs.get(name))} there, {_told(settings[name])} here" for name in differing
        )
        raise ValueError(f"{folder} holds the {TABLE} of another command: {told}. Give another --output")


def _told(value: Any) -> str:
    shown = "not given" if value is None else repr(value)
    return shown if len(shown) <= 80 else f"{shown[:80]}..."
