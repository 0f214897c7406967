"""The command line: what it accepts, prints and returns."""

import importlib
import pathlib
import subprocess
import sys
import tomllib

import pytest

import segfusion_jax
from segfusion_jax.commands import main, predict
from segfusion_jax.runtime import interruption

ROOT = pathlib.Path(__file__).parent.parent.parent


def test_the_installed_program_is_this_one():
    entry = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["segfusion"]
    module, name = entry.split(":")
    assert getattr(importlib.import_module(module), name) is main.main


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["--version"]])
def test_help_needs_nothing_that_takes_time(words):
    slow = ("jax", "numpy", "absl", "ml_collections")
    program = (
        f"import sys; sys.modules |= dict.fromkeys({slow}); from segfusion_jax.commands import main; main.main({words})"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and result.stdout and not result.stderr


def test_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as ended:
        main.main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"{segfusion_jax.__version__}\n")


def test_mistakes_end_with_a_message_and_status_1(finished, tmp_path, capsys):
    output = ["--output", str(tmp_path / "out")]
    commands = {
        "nowhere.jpg: no such file": ["predict", "nowhere.jpg", "--model", str(finished)],
        "holds no metadata.json": ["predict", str(ROOT / "docs/scaling.svg"), "--model", str(tmp_path)],
        "no such file": ["evaluate", "--collection", "ph2", "--root", "nowhere", "--model", str(tmp_path)],
    }
    for message, command in commands.items():
        assert main.main([*command, *output]) == 1
        told, errors = capsys.readouterr()
        assert told == "" and errors.startswith("error: ") and len(errors.splitlines()) == 1
        assert message in errors or "metadata.json" in errors
    assert not (tmp_path / "out").exists()


def test_a_command_that_is_stopped_says_so(monkeypatch, capsys):
    def stopped(_):
        raise interruption.Stopped(interruption.signal.SIGTERM)

    monkeypatch.setattr(predict, "run", stopped)
    assert main.main(["predict", "a.jpg", "--model", "m", "--output", "o"]) == 75
    assert capsys.readouterr().err == "stopped by SIGTERM; the same command goes on\n"
