"""A table that grows row by row, and that the same command goes on with after it was stopped."""

import csv
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any

from segfusion_jax.runtime.atomic import replace, temporary_name, write_text

SETTINGS = "settings.json"
TABLE = "predictions.csv"


class Journal:
    """`predictions.csv` in a folder, beside the settings that it was made with in `settings.json`.

    Rows without an error stay; those with one, and a last one that was cut, are left out, to be made again.

    Args:
      folder: made if it is not there.
      columns: columns of the table; `image` and `error` are among them.
      settings: all that rows depend on beside their image.

    Attributes:
      done: rows that were there already, by their image.

    Raises:
      ValueError: the folder holds a table of other settings, or one without any.
    """

    def __init__(self, folder: pathlib.Path, columns: Sequence[str], settings: Mapping[str, Any]):
        path = folder / TABLE
        self.done: dict[str, dict[str, str]] = {}
        if path.exists():
            _check(folder, settings)
            self.done = {row["image"]: row for row in _whole_rows(path, columns) if not row["error"]}
        write_text(folder / SETTINGS, json.dumps(settings, indent=2) + "\n")
        temporary = temporary_name(path)
        with _opened(temporary, "w") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.done.values())
        replace(temporary, path)
        self._file = _opened(path, "a")
        self._writer = csv.DictWriter(self._file, columns, lineterminator="\n")

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Adds rows, which then outlive the process; what a row does not have is empty."""
        self._writer.writerows(rows)
        self._file.flush()

    def close(self) -> None:
        """Closes the table."""
        self._file.close()


def read_rows(folder: pathlib.Path) -> list[dict[str, str]]:
    """Returns the rows of a finished table."""
    with _opened(folder / TABLE, "r") as file:
        return list(csv.DictReader(file))


def _opened(path: pathlib.Path, mode: str) -> IO[str]:
    return path.open(mode, newline="", encoding="utf-8", errors="surrogateescape")  # names of files may be any bytes


def _whole_rows(path: pathlib.Path, columns: Sequence[str]) -> list[dict[str, str]]:
    with _opened(path, "r") as file:
        text = file.read()
    lines = text[: text.rfind("\n") + 1].splitlines(keepends=True)
    return [row for row in csv.DictReader(lines) if len(row) == len(columns) and None not in row.values()]


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
    return "not given" if value is None else repr(value)
