"""`segfusion train`, `study` and `plan`, by main.py and in processes of their own: what they print, how they end."""

import os
import pathlib
import subprocess
import sys

import pytest

from segfusion_jax.runtime.locations import cache_folder
from tests.datasets import official

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ended(finished, compile_cache, tmp_path_factory):
    """How each of the commands ended, all started at once: exit status, standard output, standard error."""
    folder = tmp_path_factory.mktemp("main")
    (folder / "tiny_config.py").write_text(
        "from tests import tiny\n\n\ndef get_config():\n    return tiny.BASE.to_config_dict()\n"
    )
    official.write_ham10000(folder / "ham10000", 20)
    cache = folder / "cache" / "segfusion_jax"
    cache.mkdir(parents=True)
    (cache / "compiled").symlink_to(compile_cache)  # the finished run compiled the steps of the dry run
    (cache / "native").symlink_to(cache_folder() / "native")
    synthetic, used = "--config=configs/synthetic.py", f"--workdir={finished}"
    commands = {
        "done": [f"--config={folder}/tiny_config.py", used],
        "unknown_field": [synthetic, "--config.segmenter.training.epoch=1"],
        "out_of_range": [synthetic, "--config.bridge.alpha=1.5"],
        "missing_data": ["--config=configs/isic2020.py", f"--config.data.root={folder}/ham10000"],
        "other_config": [synthetic, used],
        "dry_run": [f"--config={folder}/tiny_config.py", "--dry_run"],
        "unknown_stage": [synthetic, "--stages=prepare,clasify"],
        "study_of_diagnoses": [synthetic, "--study=protocols", "--config.data.target=diagnosis"],
        "dry_run_uneven": [synthetic, "--dry_run", "--config.segmenter.training.batch_size=18"],
    }
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "SEGFUSION_DATA": str(folder),
    }
    running = {
        name: subprocess.Popen(
            [sys.executable, "main.py", f"--workdir={folder / 'new' / name}", *arguments],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name, arguments in commands.items()
    }
    results = {name: (*process.communicate(timeout=300), process.returncode) for name, process in running.items()}
    return results, folder / "new"


def test_a_finished_run_prints_its_metrics(ended, finished):
    output, errors, status = ended[0]["done"]
    assert status == 0, errors
    assert output.endswith(f"\n\nreport: {finished / 'report' / 'index.html'}\n")
    assert "ROC-AUC" in output and "Dice" in output


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            "unknown_field",
            "error: config.segmenter.training.epoch = '1': unknown field (did you mean segmenter.training.epochs?); "
            "'segfusion train --help' lists all",
        ),
        ("out_of_range", "error: config.bridge.alpha = 1.5: must be in [0, 1]"),
        ("other_config", "belongs to another config: "),
        ("missing_data", "https://challenge2020.isic-archive.com"),
        ("unknown_stage", "error: stage 'clasify': must be one of prepare, segment"),
        ("study_of_diagnoses", "error: config.data.target = 'diagnosis': must be 'malignant' or 'melanoma'"),
        ("dry_run_uneven", "error: config.segmenter.training.batch_size = 18: must be divisible by the 4 devices"),
    ],
)
def test_mistakes_end_with_a_message_and_no_traceback(ended, command, message):
    output, errors, status = ended[0][command]
    assert status == 1 and output == ""
    assert message in errors and "Traceback" not in errors
    assert [line.startswith("error: ") for line in errors.splitlines()].count(True) == 1


def test_the_message_of_missing_data_names_folder_and_option(ended):
    _, errors, _ = ended[0]["missing_data"]
    assert "ISIC 2020" in errors and "--config.data.root=FOLDER" in errors and "SEGFUSION_DATA" in errors


def test_a_dry_run_prints_what_the_steps_need(ended):
    output, errors, status = ended[0]["dry_run"]
    assert status == 0, errors
    lines = [line.split() for line in output.splitlines()]
    assert ["devices", "4", "x", "cpu,", "platform", "cpu"] in lines
    assert ["U-Net", "classifier"] in lines
    assert "activations and scratch" in output and "all-reduce" in output


def test_mistakes_and_dry_runs_leave_no_workdir(ended, finished):
    assert not ended[1].exists()
    assert (finished / "config.json").read_text().count('"synthetic_images": 80') == 1
