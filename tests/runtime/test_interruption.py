"""Signals, in processes of their own."""

import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import sys, time
from segfusion_jax.runtime import interruption
interruption.GRACE_SECONDS = 3.0
interruption.install()
try:
    {body}
except interruption.Stopped as stopped:
    print(stopped, flush=True)
    {after}
    sys.exit(stopped.status)
"""
SLEEP = "print('ready', flush=True); time.sleep(60)"
DEFERRED = """with interruption.deferred() as asked:
        print('ready', flush=True)
        while not asked(): time.sleep(0.01)
        print('asked', flush=True)"""
NATIVE = "print('ready', flush=True); import re; re.match('(a?){40}a{40}', 'a' * 40)"  # no bytecode for hours


def run(body: str, *signals: signal.Signals, after: str = "pass") -> tuple[list[str], int, float]:
    """Lines of output, exit status, and seconds from the first signal to the end."""
    program = PROGRAM.format(body=body, after=after)
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    start = time.monotonic()
    for number in signals:
        process.send_signal(number)
        time.sleep(1)
    output, errors = process.communicate(timeout=50)
    return [*output.splitlines(), *errors.splitlines()], process.returncode, time.monotonic() - start


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_stops_at_once(number, status):
    assert run(SLEEP, number)[:2] == ([f"stopped by {number.name}"], status)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_deferred_signal_stops_where_it_suits(number, status):
    assert run(DEFERRED, number)[:2] == (["asked", f"stopped by {number.name}"], status)


def test_the_second_sigterm_changes_nothing():
    body = DEFERRED.replace(
        "while not asked(): time.sleep(0.01)", "while not asked(): time.sleep(0.01)\n        time.sleep(2)"
    )
    lines, status, _ = run(body, signal.SIGTERM, signal.SIGTERM)
    assert (lines, status) == (["asked", "stopped by SIGTERM"], 75)


def test_the_second_ctrl_c_does_not_wait():
    body = DEFERRED.replace("while not asked(): time.sleep(0.01)", "time.sleep(60)")
    lines, status, _ = run(body, signal.SIGINT, signal.SIGINT)
    assert (lines, status) == ([], 130)


@pytest.mark.parametrize("body", [NATIVE, SLEEP], ids=["before", "after"])
def test_the_process_ends_in_time_whatever_it_is_in(body):
    lines, status, seconds = run(body, signal.SIGTERM, after="time.sleep(60)")
    assert lines[-1] == "error: not at a place to save within 3 s; the last checkpoint is good"
    assert status == 75 and 3 <= seconds < 25
