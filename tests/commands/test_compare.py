"""`segfusion compare`: the page that it writes, and what it refuses."""

import json

import pytest

from segfusion_jax.commands import main
from tests.pipeline.test_comparison import finished


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with two finished runs."""
    for name, strength, mode in (("a", 0.5, "dim"), ("b", 3, "crop")):
        finished(tmp_path / name, seed=3, strength=strength, mode=mode)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_writes_a_page(here, capsys):
    assert main.main(["compare", "a", "b", "--output", "page"]) == 0
    assert capsys.readouterr().out == "page/index.html\n"
    written = json.loads((here / "page" / "comparison.json").read_text())
    assert written["reference"] == "a" and written["runs"]["b"]["differences"]["roc_auc"]["value"] > 0.2
    assert [run["fields"] for run in written["runs"].values()] == [{"bridge.mode": "dim"}, {"bridge.mode": "crop"}]
    summary = (here / "page" / "summary.md").read_text()
    assert "| b | crop |" in summary and "better than 'a': b (+" in summary and "ROC-AUC" in summary
    assert (here / "page" / "index.html").read_text().count("<img") == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a", "b", "--output", "page", "--reference", "x"], "--reference = x: must be one of the runs"),
        (["a", "./a", "--output", "page"], "runs a, a: must be at least two, all different"),
        (["a", "b", "--output", "b"], "--output = b: must be another folder than the workdir of a run"),
        (["a", "c", "--output", "page"], "c is not the workdir of a run"),
        (["a", "b", "--output", "a/evaluate/done.json"], ""),
    ],
)
def test_mistakes_end_with_a_message_and_status_1(here, capsys, words, message):
    assert main.main(["compare", *words]) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("error: ") and message in errors and len(errors.splitlines()) == 1
    assert not (here / "page").exists()
