"""The script that measures on a GPU, rehearsed on a CPU."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from segfusion_jax.ops import depthwise_gpu

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
def test_everything_is_written_and_the_package_stays_as_it_is(tmp_path):
    table = depthwise_gpu.TABLE.read_bytes()
    environment = os.environ | {"PYTHON": sys.executable, "TORCH": "", "SHRUNK": "1", "LIMIT": "3000", "XLA_FLAGS": ""}
    done = subprocess.run(
        ["bash", str(ROOT / "benchmarks/gpu.sh"), str(tmp_path)], env=environment, capture_output=True, text=True
    )
    summary = (tmp_path / "summary.md").read_text()
    logs = "".join(path.read_text()[-2000:] for path in tmp_path.glob("*.log"))
    assert summary.count("exit status 0 ") == 4 == len(summary.splitlines()), done.stdout + done.stderr + logs
    assert depthwise_gpu.TABLE.read_bytes() == table
    layers = json.loads((tmp_path / "depthwise.json").read_text())
    for passes in layers.values():
        assert set(passes) == {"moments", "activation", "gradients"}
        assert all(error < 2e-2 for ways in passes.values() for _, error in ways.values())
    cases = json.loads((tmp_path / "unet.json").read_text())
    assert [(case["network"], case["mode"]) for case in cases] == [("unet", "train"), ("unet", "predict")]
    traced = json.loads((tmp_path / "trace_unet_train.json").read_text())
    assert set(traced["seconds"]) & set(traced["bytes"]) and min(traced["seconds"].values()) >= 0
    assert "loop, on device" in (tmp_path / "loop.md").read_text()


def test_what_there_is_no_time_for_is_named(tmp_path):
    environment = os.environ | {"PYTHON": sys.executable, "TORCH": "", "SHRUNK": "1", "LIMIT": "0"}
    subprocess.run(["bash", str(ROOT / "benchmarks/gpu.sh"), str(tmp_path)], env=environment, check=True)
    lines = (tmp_path / "summary.md").read_text().splitlines()
    assert len(lines) == 4 and all("left out, time was up" in line for line in lines)
