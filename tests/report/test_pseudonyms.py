"""The key of numbers that stand for ids."""

import os

import pytest

from segfusion_jax.report.pseudonyms import Key


@pytest.mark.parametrize("content", ["hello world\n", "image_id,split\n", "number,id,more\n"])
def test_what_is_no_key_is_refused_and_stays_as_it_is(tmp_path, content):
    path = tmp_path / "notes.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match="is no key"):
        Key(path, apart=tmp_path / "shown")
    assert path.read_text() == content


def test_what_is_no_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="FIFO"):
        Key(tmp_path / "pipe", apart=tmp_path / "shown")


def test_an_id_keeps_its_number_in_another_run(tmp_path):
    first = Key(tmp_path / "key", apart=tmp_path / "shown").numbers(["b", "a"])
    again = Key(tmp_path / "key", apart=tmp_path / "shown").numbers(["a", "c"])
    assert again["a"] == first["a"] and again["c"] == "00003"
