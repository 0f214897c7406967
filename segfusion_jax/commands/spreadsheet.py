"""The table of predictions once more, as a spreadsheet opens it by a double click, whatever its country."""

import csv
import io
import pathlib
import re

from segfusion_jax.commands.journal import TABLE
from segfusion_jax.runtime.atomic import write_bytes

NAME = "spreadsheet.csv"
"""Name of the file in an output folder."""
SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t"}
"""What stands between cells. Where spreadsheets expect semicolons, decimals have commas."""
_TEXTS = ("image", "sha256", "name", "decision", "diagnosis", "fallback", "error")
_DECIMAL = re.compile(r"-?\d+\.\d+")


def write(folder: pathlib.Path, separator: str) -> None:
    """Writes the table in an output folder with a byte order mark, by which UTF-8 is known, and another separator.

    Args:
      folder: the output folder.
      separator: a key of `SEPARATORS`.
    """
    text = io.StringIO(newline="")
    table = csv.writer(text, delimiter=SEPARATORS[separator], lineterminator="\r\n")
    with (folder / TABLE).open(newline="", encoding="utf-8") as file:
        columns, *rows = csv.reader(file)  # escaped as they are, for that holds in any spreadsheet
    table.writerow(columns)
    for row in rows:
        table.writerow([_cell(*pair, separator) for pair in zip(columns, row, strict=True)])
    write_bytes(folder / NAME, text.getvalue().encode("utf-8-sig"))


def _cell(column: str, text: str, separator: str) -> str:
    is_decimal = column not in _TEXTS and _DECIMAL.fullmatch(text)
    return text.replace(".", ",") if is_decimal and separator == "semicolon" else text
