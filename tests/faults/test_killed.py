"""Killed at any moment, a run that is started again ends as if nothing had been."""

import concurrent.futures
import random
import signal
import time

import pytest

from tests.faults.runs import Run, check_same

TRIALS = 25


def test_terminated_and_killed_in_training(tmp_path, cache):
    """Terminated with its workers, as by Ctrl-C in a terminal."""
    whole = Run(tmp_path / "whole", cache, stages=("prepare", "segment")).finish()
    workers = ("--config.input.num_workers=1",)
    run = Run(tmp_path / "run", cache, stages=("prepare", "segment"), options=workers)
    assert run.stop(signal.SIGTERM, after_steps=2) == [75]
    assert "stopped by SIGTERM; the same command goes on" in run.log() and "Traceback" not in run.log()
    assert run.stop(signal.SIGKILL, after_steps=3) == [-signal.SIGKILL]
    check_same(whole, run.finish())


@pytest.mark.faults
def test_killed_at_random_moments(tmp_path, cache):
    """Many of which lie within a save: a checkpoint is written every 0.2 s."""
    Run(tmp_path / "first", cache, devices=2).finish()  # compiles
    start = time.monotonic()
    whole = Run(tmp_path / "whole", cache, devices=2).finish()
    seconds = time.monotonic() - start
    rng = random.Random(0)

    def trial(name: str, moment: float) -> Run:
        """One that was at its end before the kill is none: it is done again, earlier."""
        run = Run(tmp_path / name, cache, devices=2, options=(f"--config.input.num_workers={len(name) % 2}",))
        (process,) = run.start()
        time.sleep(moment)
        process.kill()
        return run.finish() if process.wait() == -signal.SIGKILL else trial(f"{name}__", moment / 2)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        moments = [rng.uniform(0, seconds) for _ in range(TRIALS)]  # two at a time are slower
        for run in pool.map(trial, map(str, range(TRIALS)), moments):
            check_same(whole, run)
