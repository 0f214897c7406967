"""Texts of others in tables and on terminals."""

import csv
import io
import logging
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segfusion_jax.runtime import sinks
from segfusion_jax.runtime.atomic import read_table, write_table
from segfusion_jax.runtime.log import _Formatter, say

HOSTILE = [
    *("=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "'=1", "''", "'"),
    *("a\nb", "a\rb", "a\r\nb", "a\x85b", "a\u2028b", "a\u2029b", "a\x0bb", "a\x0cb", "a\x1cb", "a\x00b"),
    *("\x1b[2J\x1b]0;owned\x07", "a\u202egpj.exe", "\udcff.jpg", "a\\x0ab", "\\", "a;b", 'a"b', "a,b", "\ufeff", "ü"),
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_table_keeps_one_row_an_image_in_any_reader_and_gives_back_what_was_written(tmp_path, text):
    path = tmp_path / "a.csv"
    write_table(path, ["id", text], [[text, 1], ["other", text]])
    content = path.read_bytes().decode()
    assert content.count("\n") == len(content.splitlines()) == 3 and "\x1b" not in content
    for row in csv.reader(io.StringIO(content)):
        assert not any(cell.startswith(("=", "+", "@", "\t", "\r")) for cell in row)
    assert read_table(path) == [{"id": text, text: "1"}, {"id": "other", text: text}]


@given(st.text(st.characters(exclude_categories=()), max_size=30))
def test_every_text_returns_and_no_two_are_written_alike(text):
    written = sinks.cell(text)
    assert isinstance(written, str) and sinks.plain(written) == text
    assert len(written.splitlines()) <= 1 and not written.startswith(("=", "@", "\t", "\r"))


@pytest.mark.parametrize("number", ["-0.5", "+1", "1e-30", "-1.5E+10", "nan", "-inf", "-7", ".5"])
def test_numbers_stay_numbers(number):
    assert sinks.cell(number) == number and sinks.cell(float(number)) == pytest.approx(float(number), nan_ok=True)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_terminal_obeys_nothing_and_no_line_is_forged(text, capsys):
    say(f"{text}: broken", error=True)
    record = logging.LogRecord("a", logging.INFO, "", 0, "%s was read", (text,), None)
    for shown in (capsys.readouterr().err.removesuffix("\n"), _Formatter("%(message)s").format(record)):
        first, *others = shown.split("\n")
        assert all(line.startswith("  ") for line in others)
        assert not set(shown) & (set(map(chr, range(32))) - set("\n\t")) and not set(shown) & set(
            "\x7f\x85\u2028\u202e"
        )


def test_usual_texts_are_shown_as_they_are():
    usual = string.printable.replace("\r", "").replace("\x0b", "").replace("\x0c", "") + "äöü≥😀"
    assert sinks.page(usual) == usual
