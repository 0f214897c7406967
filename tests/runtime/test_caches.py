"""Whose the cache is: made for one user, never shared, and never a reason to end."""

import logging
import os
import pathlib

import pytest

from segfusion_jax.runtime import caches, locations

IS_ROOT = os.geteuid() == 0


@pytest.fixture(autouse=True)
def new_process(monkeypatch, tmp_path, caplog):
    """As in a new process, with an empty cache in `tmp_path`/cache."""
    caches._temporary.cache_clear()
    caches._warn.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    caplog.set_level(logging.WARNING)


def test_a_cache_is_made_for_its_user_alone_whatever_the_umask(tmp_path, caplog):
    before = os.umask(0)
    try:
        assert caches.folder("native") == tmp_path / "cache/segfusion_jax/native"
    finally:
        os.umask(before)
    for path in ("segfusion_jax", "segfusion_jax/native"):
        assert (tmp_path / "cache" / path).stat().st_mode & 0o777 == 0o700
    assert not caplog.records


def test_what_others_could_write_is_taken_back_and_their_files_go(tmp_path):
    folder = caches.folder("native")
    (folder / "mine.so").write_bytes(b"")
    (folder / "mine.so").chmod(0o600)
    (folder / "shared.so").write_bytes(b"")
    (folder / "shared.so").chmod(0o666)
    folder.chmod(0o777)
    assert [path.name for path in caches.folder("native").iterdir()] == ["mine.so"]
    assert folder.stat().st_mode & 0o777 == 0o700


def no_home(tmp_path: pathlib.Path, monkeypatch):
    def fails(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(pathlib.Path, "expanduser", fails)


def a_file_there(tmp_path: pathlib.Path, monkeypatch):
    (tmp_path / "cache").write_text("")


def everybodys(tmp_path: pathlib.Path, monkeypatch):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)


def anothers(tmp_path: pathlib.Path, monkeypatch):
    if not IS_ROOT:
        pytest.skip("only root can give a folder away")
    os.chown(caches.folder("native"), 65534, 65534)


def anothers_link(tmp_path: pathlib.Path, monkeypatch):
    if not IS_ROOT:
        pytest.skip("only root can give a link away")
    mine = tmp_path / "mine"
    mine.mkdir()
    mine.chmod(0o775)
    (mine / "shared").touch(0o664)
    (caches.folder() / "native").symlink_to(mine)
    os.lchown(caches.folder() / "native", 65534, 65534)


@pytest.mark.parametrize("spoil", [no_home, a_file_there, everybodys, anothers, anothers_link])
def test_what_cannot_be_trusted_or_made_is_replaced_by_a_temporary_folder_with_one_warning(
    tmp_path, monkeypatch, caplog, spoil
):
    spoil(tmp_path, monkeypatch)
    found = [caches.folder("native") for _ in range(3)]
    assert len(set(found)) == 1 and not found[0].is_relative_to(tmp_path)
    assert caches.is_temporary(found[0]) and not caches.is_temporary(tmp_path)
    assert "XDG_CACHE_HOME names another place" in caplog.text
    assert found[0].is_dir() and found[0].stat().st_mode & 0o777 == 0o700 and caches.is_own(found[0].parent)
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "the cache cannot be used, a temporary folder stands for it until the program ends"
    ]
    if spoil is anothers_link:
        assert (tmp_path / "mine/shared").exists() and (tmp_path / "mine").stat().st_mode & 0o777 == 0o775
    elif spoil is not anothers:
        assert locations.cache_folder() == found[0].parent
