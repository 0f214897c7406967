import concurrent.futures
import os
import pathlib

import pytest

from segfusion_jax.runtime.atomic import read_table, write_table, write_text


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


def test_the_file_is_on_the_disk_before_its_name_and_its_name_before_the_write_returns(tmp_path, monkeypatch):
    write_text(tmp_path / "a.txt", "old")
    synced = []

    def fsync(descriptor):
        path = pathlib.Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        synced.append((path.is_dir(), path if path.is_dir() else path.read_text(), (tmp_path / "a.txt").read_text()))

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(tmp_path / "a.txt", "new")
    assert synced == [(False, "new", "old"), (True, tmp_path, "new")]


def test_a_table_is_read_as_it_was_written_and_the_old_one_stays_until_all_rows_are_there(tmp_path):
    path = tmp_path / "new/a.csv"
    rows = [['ø, "quoted"', 1 / 3], ["two\nlines", -1e-30]]
    write_table(path, ["name", "value"], iter(rows))
    assert [[row["name"], float(row["value"])] for row in read_table(path)] == rows

    def broken():
        yield rows[0]
        raise KeyboardInterrupt

    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        write_table(path, ["name", "value"], broken())
    assert path.read_bytes() == before
