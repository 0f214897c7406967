"""A run goes on with other devices and processes; several processes stop together."""

import re
import shutil
import signal

import pytest

from segfusion_jax.training import metric_log
from tests.faults.runs import Run, check_same

pytestmark = pytest.mark.faults
SEGMENT = ("prepare", "segment")
STILL = ("--config.segmenter.dropout=0.0",)  # which devices draw for themselves
LONG = ("--config.data.synthetic_images=400",)  # so that an epoch has more steps than an agreement takes


@pytest.fixture(scope="module")
def eight(tmp_path_factory, cache):
    """A run on 8 devices, and the same stopped in its third step."""
    folder = tmp_path_factory.mktemp("eight")
    whole = Run(folder / "whole", cache, devices=8, stages=SEGMENT, options=STILL).finish()
    stopped = Run(folder / "stopped", cache, devices=8, stages=SEGMENT, options=STILL)
    assert stopped.stop(signal.SIGTERM, after_steps=3) == [75]
    return whole, stopped


@pytest.mark.parametrize(("devices", "processes"), [(1, 1), (2, 1), (4, 1), (2, 2), (4, 2)])
def test_a_run_on_eight_devices_goes_on_with_others(eight, tmp_path, cache, devices, processes):
    """From the same example, on the same global batches.

    Its losses differ by rounding; in the U-Nets after it rounding may decide a maximum of the pooling.
    """
    whole, stopped = eight
    shutil.copytree(stopped.folder, tmp_path / "copied")
    run = Run(tmp_path / "copied", cache, devices, processes, SEGMENT, options=STILL).finish()
    assert "U-Net 0: going on after step" in run.log().rpartition("stopped by")[2]
    if processes == 1:
        assert run.batches() == whole.batches()
    for fold in range(3):
        ours, theirs = (metric_log.read(one.workdir / f"segment/fold_{fold}/metrics.jsonl") for one in (run, whole))
        assert [(line["step"], line["split"]) for line in ours] == [(line["step"], line["split"]) for line in theirs]
        close = pytest.approx([line["loss"] for line in theirs], rel=0.05 if fold else 1e-4)
        assert [line["loss"] for line in ours] == close


@pytest.fixture(scope="module")
def two(tmp_path_factory, cache):
    """An undisturbed run of two processes of two devices each."""
    return Run(tmp_path_factory.mktemp("two"), cache, 2, 2, SEGMENT, options=LONG).finish()


def test_a_signal_to_one_process_stops_both_at_the_same_step(two, tmp_path, cache):
    run = Run(tmp_path, cache, 2, 2, SEGMENT, options=LONG)
    assert run.stop(signal.SIGTERM, after_steps=2) == [75, 75], run.log()
    check_same(two, run.finish())
    step = int(re.findall(r"U-Net 0: going on after step (\d+)", run.log())[-1])
    assert step < steps_per_epoch(two)  # an agreement, not an epoch's end


def test_a_process_that_is_killed_ends_the_other_and_both_go_on(two, tmp_path, cache):
    run = Run(tmp_path, cache, 2, 2, SEGMENT, options=LONG)
    first, second = run.stop(signal.SIGKILL, after_steps=2)  # which waits a minute for the end
    assert second == -signal.SIGKILL and first not in (0, 75), run.log()
    assert "stopped sending heartbeats):\n1\n" in run.log()
    check_same(two, run.finish())


def steps_per_epoch(run: Run) -> int:
    lines = metric_log.read(run.workdir / "segment/fold_0/metrics.jsonl")
    return next(line["step"] for line in lines if line["split"] == "validation")
