"""`segfusion study`: which study is run, with what."""

import pathlib

import pytest

from segfusion_jax.commands import main
from segfusion_jax.config import Config
from segfusion_jax.pipeline.studies import bridge_modes, origins, protocols
from tests import tiny


@pytest.fixture
def called(monkeypatch):
    """What the studies were called with, after their names; they run nothing."""
    calls = []
    for study in (bridge_modes, protocols, origins):
        name = study.__name__.rpartition(".")[2]
        monkeypatch.setattr(study, "study", lambda *given, name=name: calls.append((name, *given)) or pathlib.Path("p"))
    return calls


def test_a_study_gets_config_workdir_and_repeats(called, tmp_path, capsys):
    config = Config.from_config_dict(tiny.shipped("synthetic"))
    words = ["--config", "synthetic", f"--workdir={tmp_path}"]
    assert main.main(["study", "bridge", *words, "--repeats=3"]) == 0
    assert main.main(["study", "protocols", *words]) == 0
    assert called == [("bridge_modes", config, tmp_path, 3), ("protocols", config, tmp_path, 1)]
    assert capsys.readouterr().out == "report: p\n" * 2


@pytest.mark.parametrize("study", ["bridge", "protocols"])
def test_repeats_that_are_none_are_refused(called, capsys, study):
    assert main.main(["study", study, "--repeats=0", "--config", "synthetic"]) == 1
    assert capsys.readouterr().err == "error: --repeats = 0: must be at least 1\n" and not called


def test_origins_are_collections_or_centres(called, tmp_path, capsys):
    config = Config.from_config_dict(tiny.shipped("synthetic"))
    words = ["--config", "synthetic", f"--workdir={tmp_path}"]
    assert main.main(["study", "origins", *words]) == main.main(["study", "origins", *words, "--by", "centre"]) == 0
    assert called == [("origins", config, tmp_path, "collection"), ("origins", config, tmp_path, "centre")]
    assert (
        main.main(["study", "origins", *words, "--repeats=2"])
        == main.main(["study", "bridge", *words, "--by=centre"])
        == 1
    )
    errors = capsys.readouterr().err
    assert "--repeats = 2: the study 'origins' trains each model once" in errors
    assert "--by = 'centre': is of the study 'origins'" in errors
