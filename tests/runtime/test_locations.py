import os
import pathlib

import pytest

from segfusion_jax.runtime import locations


def test_the_cache_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert locations.cache_folder() == tmp_path / "xdg" / "segfusion_jax"
    for unset in (lambda: monkeypatch.setenv("XDG_CACHE_HOME", ""), lambda: monkeypatch.delenv("XDG_CACHE_HOME")):
        unset()
        assert locations.cache_folder() == tmp_path / "home" / ".cache" / "segfusion_jax"


class TestFind:
    @pytest.fixture(autouse=True)
    def folders(self, tmp_path, monkeypatch):
        """Two folders of SEGFUSION_DATA, and another one to be in."""
        for folder in ("here", "one", "two"):
            (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / "here")
        monkeypatch.setenv("SEGFUSION_DATA", os.pathsep.join(str(tmp_path / name) for name in ("one", "two")))
        self.root = tmp_path

    def make(self, path: str) -> pathlib.Path:
        (self.root / path).parent.mkdir(exist_ok=True)
        (self.root / path).touch()
        return self.root / path

    def test_a_path_is_taken_first(self):
        self.make("one/weights.npz")
        assert locations.find(str(self.make("weights.npz"))) == self.root / "weights.npz"
        self.make("here/weights.npz")
        assert locations.find("weights.npz") == pathlib.Path("weights.npz")

    def test_home_is_understood(self, monkeypatch):
        monkeypatch.setenv("HOME", str(self.root))
        assert locations.find("~/two") == self.root / "two"

    def test_folders_are_searched_in_order(self):
        second = self.make("two/weights.npz")
        assert locations.find("weights.npz") == second
        first = self.make("one/weights.npz")
        assert locations.find("weights.npz") == first

    def test_one_level_below_comes_after_the_folder_itself(self):
        below = self.make("one/weights/b0.npz")
        assert locations.find("b0.npz") == below
        assert locations.find("weights/b0.npz") == below
        self.make("two/b0.npz")
        assert locations.find("b0.npz") == below
        beside = self.make("one/b0.npz")
        assert locations.find("b0.npz") == beside

    def test_two_levels_below_are_not_searched(self):
        (self.root / "one" / "deep").mkdir()
        self.make("one/deep/deeper/b0.npz")
        assert locations.find("b0.npz") is None

    @pytest.mark.parametrize("value", ["", None])
    def test_without_folders_only_paths_are_found(self, monkeypatch, value):
        self.make("one/b0.npz")
        if value is None:
            monkeypatch.delenv("SEGFUSION_DATA")
        else:
            monkeypatch.setenv("SEGFUSION_DATA", value)
        assert locations.find("b0.npz") is None
        assert locations.find(str(self.root / "one" / "b0.npz")) is not None

    def test_a_missing_absolute_path_is_not_found(self):
        assert locations.find("/nowhere/b0.npz") is None
