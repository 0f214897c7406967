"""On a small file system of its own a run stops with an error when it is full, and goes on when there is room."""

import shutil
import subprocess

import pytest

from tests.faults.runs import Run, check_same

pytestmark = pytest.mark.faults
OPTIONS = ("--config.checkpoints.keep=99", "--config.checkpoints.seconds=0")  # so that it is a checkpoint that fills it


def can_mount() -> bool:
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    return bool(shutil.which("unshare")) and subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="needs the right to mount a file system")
def test_a_full_disk(tmp_path, cache):
    whole = Run(tmp_path / "whole", cache, stages=("prepare", "segment")).finish()
    run = Run(tmp_path / "run", cache, stages=("prepare", "segment"), options=OPTIONS)
    assert run.finish_on_a_disk_of(megabytes=6) == 1
    last = run.log().splitlines()[-1]
    assert last.startswith("error: ") and "cannot be written: " in last and last.endswith(" is kept"), run.log()
    assert "Traceback" not in run.log()
    check_same(whole, run.finish())
