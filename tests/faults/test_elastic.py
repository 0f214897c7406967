"""A run goes on with other devices and processes; several processes stop together."""

import shutil
import signal
import time

import pytest

from segfusion_jax.training import metric_log
from tests.faults.runs import Run, check_same

pytestmark = pytest.mark.faults
SEGMENT = ("prepare", "segment")


@pytest.fixture(scope="module")
def eight(tmp_path_factory, cache):
    """A run on 8 devices, and the same stopped in its third step."""
    folder = tmp_path_factory.mktemp("eight")
    whole = Run(folder / "whole", cache, devices=8, stages=SEGMENT).finish()
    stopped = Run(folder / "stopped", cache, devices=8, stages=SEGMENT)
    assert stopped.stop(signal.SIGTERM, after_steps=3) == [75]
    return whole, stopped


@pytest.mark.parametrize(("devices", "processes"), [(1, 1), (2, 1), (4, 1), (2, 2), (4, 2)])
def test_a_run_on_eight_devices_goes_on_with_others(eight, tmp_path, cache, devices, processes):
    """From the same example, on the same global batches.

    Its losses differ by rounding; in the U-Nets after it rounding may decide a maximum of the pooling.
    """
    whole, stopped = eight
    shutil.copytree(stopped.folder, tmp_path / "copied")
    run = Run(tmp_path / "copied", cache, devices=devices, processes=processes, stages=SEGMENT).finish()
    assert "U-Net 0: going on after step" in run.log().rpartition("stopped by")[2]
    if processes == 1:
        assert run.batches() == whole.batches()
    for fold in range(3):
        ours, theirs = (
            metric_log.read(one.workdir / f"segmentation/fold_{fold}/metrics.jsonl") for one in (run, whole)
        )
        assert [(line["step"], line["split"]) for line in ours] == [(line["step"], line["split"]) for line in theirs]
        close = pytest.approx([line["loss"] for line in theirs], rel=0.05 if fold else 1e-4)
        assert [line["loss"] for line in ours] == close


@pytest.fixture(scope="module")
def two(tmp_path_factory, cache):
    """An undisturbed run of two processes of two devices each."""
    return Run(tmp_path_factory.mktemp("two"), cache, devices=2, processes=2, stages=SEGMENT).finish()


def test_a_signal_to_one_process_stops_both_at_the_same_step(two, tmp_path, cache):
    run = Run(tmp_path, cache, devices=2, processes=2, stages=SEGMENT)
    assert run.stop(signal.SIGTERM, after_steps=2) == [75, 75], run.log()
    check_same(two, run.finish())


def test_a_process_that_is_killed_ends_the_other_and_both_go_on(two, tmp_path, cache):
    run = Run(tmp_path, cache, devices=2, processes=2, stages=SEGMENT)
    start = time.monotonic()
    first, second = run.stop(signal.SIGKILL, after_steps=2)
    assert second == -signal.SIGKILL and first not in (0, 75), run.log()
    assert time.monotonic() - start < 120 and "1 of 2" in run.log() or "task:1" in run.log()
    check_same(two, run.finish())
