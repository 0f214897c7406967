"""`segfusion train`, `study` and `plan` by main.py: what they print and how they end, in processes of their own too."""

import os
import pathlib
import subprocess
import sys

import pytest

import main as checkout
from segfusion_jax.commands.main import main
from segfusion_jax.runtime.locations import cache_folder
from tests.datasets import official

ROOT = pathlib.Path(__file__).parents[2]
SYNTHETIC = f"--config={ROOT}/configs/synthetic.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a config, `tiny_config.py`, that is the finished run's, and with images of HAM10000."""
    folder = tmp_path_factory.mktemp("main")
    (folder / "tiny_config.py").write_text(
        "from tests import tiny\n\n\ndef get_config():\n    return tiny.BASE.to_config_dict()\n"
    )
    official.write_ham10000(folder / "ham10000", 20)
    return folder


@pytest.fixture(scope="module")
def ended(folder, finished):
    """How the same command ended with the finished run's config and with another: output, errors, exit status."""
    cache = folder / "cache" / "segfusion_jax"
    cache.mkdir(parents=True)
    (cache / "native").symlink_to(cache_folder() / "native")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache")}
    running = {
        name: subprocess.Popen(
            [sys.executable, "main.py", config, f"--workdir={finished}"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name, config in (("own", f"--config={folder}/tiny_config.py"), ("other", "--config=configs/synthetic.py"))
    }
    return {name: (*process.communicate(timeout=300), process.returncode) for name, process in running.items()}


@pytest.fixture
def run(folder, tmp_path, monkeypatch, capsys):
    """Runs main.py's command in this process, in a workdir that is not there; returns what `ended` has, and that it
    still is not there.
    """
    monkeypatch.setenv("SEGFUSION_DATA", str(folder))

    def ran(*words: str) -> tuple[str, str, int]:
        status = main(checkout.command_line([f"--workdir={tmp_path}/new", *words]))
        assert not (tmp_path / "new").exists()
        return (*capsys.readouterr(), status)

    return ran


def assert_refused(ended: tuple[str, str, int], message: str):
    output, errors, status = ended
    assert status == 1 and output == ""
    assert message in errors and "Traceback" not in errors
    assert [line.startswith("error: ") for line in errors.splitlines()].count(True) == 1


def test_a_finished_run_prints_its_metrics(ended, finished):
    output, errors, status = ended["own"]
    assert status == 0, errors
    assert output.endswith(f"\n\nreport: {finished / 'report' / 'index.html'}\n")
    assert "ROC-AUC" in output and "Dice" in output


def test_a_process_that_makes_a_mistake_ends_with_a_message_and_no_traceback(ended, finished):
    assert_refused(ended["other"], f"error: {finished} belongs to another config: ")
    assert (finished / "config.json").read_text().count('"synthetic_images": 80') == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--config.segmenter.training.epoch=1"],
            "error: config.segmenter.training.epoch = '1': unknown field (did you mean segmenter.training.epochs?); "
            "'segfusion train --help' lists all",
        ),
        (["--config.bridge.alpha=1.5"], "error: config.bridge.alpha = 1.5: must be in [0, 1]"),
        (["--stages=prepare,clasify"], "error: stage 'clasify': must be one of prepare, segment"),
        (
            ["--study=protocols", "--config.data.target=diagnosis"],
            "error: config.data.target = 'diagnosis': must be 'malignant' or 'melanoma'",
        ),
        (
            ["--dry_run", "--config.segmenter.training.batch_size=18"],
            "error: config.segmenter.training.batch_size = 18: must be divisible by the 4 devices",
        ),
    ],
)
def test_mistakes_end_with_a_message_and_leave_no_workdir(run, words, message):
    assert_refused(run(SYNTHETIC, *words), message)


def test_the_message_of_missing_data_names_folder_address_and_option(run, folder):
    ended = run(f"--config={ROOT}/configs/isic2020.py", f"--config.data.root={folder}/ham10000")
    assert_refused(ended, "https://challenge2020.isic-archive.com")
    for text in ("ISIC 2020", "--config.data.root=FOLDER", "SEGFUSION_DATA"):
        assert text in ended[1]


def test_a_dry_run_prints_what_the_steps_need_and_leaves_no_workdir(run, folder, finished):
    """The finished run has compiled the steps."""
    output, errors, status = run(f"--config={folder}/tiny_config.py", "--dry_run")
    assert status == 0, errors
    lines = [line.split() for line in output.splitlines()]
    assert ["devices", "4", "x", "cpu,", "platform", "cpu"] in lines
    assert ["U-Net", "classifier"] in lines
    assert "activations and scratch" in output and "all-reduce" in output
