"""The table for spreadsheets, read back as a spreadsheet of that kind reads it."""

import csv

import pytest

from segfusion_jax.commands import spreadsheet
from segfusion_jax.runtime.atomic import write_table

COLUMNS = ["image", "name", "probability", "decision", "familiar"]


@pytest.mark.parametrize(
    ("separator", "delimiter", "number"), [("comma", ",", "0.631"), ("semicolon", ";", "0,631"), ("tab", "\t", "0.631")]
)
def test_cells_are_told_apart_and_decimals_are_those_of_the_country(tmp_path, separator, delimiter, number):
    rows = [["photos/Ä;,\t1.5.png", "1.5", "0.631", "=1+1", 1], ["b.png", "b", "", "benign", 0]]
    write_table(tmp_path / "predictions.csv", COLUMNS, rows)
    spreadsheet.write(tmp_path, separator)
    content = (tmp_path / "spreadsheet.csv").read_bytes()
    assert content.startswith(b"\xef\xbb\xbfimage" + delimiter.encode()) and content.count(b"\r\n") == 3
    found = list(csv.reader(content.decode("utf-8-sig").splitlines(), delimiter=delimiter))
    assert found[0] == COLUMNS
    assert found[1] == ["photos/Ä;,\\x091.5.png", "1.5", number, "'=1+1", "1"] and found[2][2] == ""
