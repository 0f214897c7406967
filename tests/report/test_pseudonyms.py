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


def test_two_keys_of_one_file_give_no_number_twice(tmp_path):
    one, other = (Key(tmp_path / "key", apart=tmp_path / "shown") for _ in range(2))
    assert one.numbers(["a"]) == {"a": "00001"}
    assert other.numbers(["b"]) == {"a": "00001", "b": "00002"}


@pytest.mark.parametrize("rows", ["00001,a\n00001,b\n", "00001,a\n00002,a\n", "x,a\n", "00001\n"])
def test_a_key_that_says_two_things_is_refused(tmp_path, rows):
    (tmp_path / "key").write_text("number,id\n" + rows)
    with pytest.raises(ValueError, match="is no key"):
        Key(tmp_path / "key", apart=tmp_path / "shown")
