import concurrent.futures
import os
import pathlib

import pytest

from segfusion_jax.atomic import write_text


def test_a_text_is_written_with_its_folders(tmp_path):
    write_text(tmp_path / "a/b/c.txt", "ø\n")
    assert (tmp_path / "a/b/c.txt").read_bytes() == "ø\n".encode()
    assert [path.name for path in (tmp_path / "a/b").iterdir()] == ["c.txt"]


def test_threads_that_write_one_file_do_not_meet(tmp_path):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for written in [pool.submit(write_text, tmp_path / "a.json", "x" * 2000) for _ in range(500)]:
            written.result()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.json": "x" * 2000}


def test_until_it_is_whole_the_old_one_stays(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def interrupted(*_):
        assert path.read_text() == "old"
        raise KeyboardInterrupt

    for owner, name in ((os, "fsync"), (pathlib.Path, "replace")):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(owner, name, interrupted)
            write_text(path, "new")
        assert path.read_text() == "old"
