import types

import pytest

from segfusion_jax.runtime import progress
from segfusion_jax.runtime.progress import Progress, duration, logged


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until it is set."""
    clock = types.SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress, "time", types.SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def lines(caplog):
    """A function that returns the lines logged since it was last called."""
    caplog.set_level("INFO", "segfusion_jax")

    def new() -> list[str]:
        messages = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return messages

    return new


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (5, "5 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3599.6, "1 h 0 min"),
        (7500, "2 h 5 min"),
        (1e6, "277 h 46 min"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("total", "done", "seconds", "line"),
    [
        (50, 12, 3, "work: 12 of 50 images, 4.0 images/s, 10 s left"),
        (24_500, 1, 1, "work: 1 of 24500 images, 1.0 images/s, 6 h 48 min left"),
        (50, 50, 2, "work: 50 of 50 images, 25.0 images/s, 0 s left"),
        (50, 0, 5, "work: 0 of 50 images"),
        (0, 12, 3, "work: 12 images, 4.0 images/s"),
    ],
)
def test_a_line_says_how_far_how_fast_and_how_long(clock, lines, total, done, seconds, line):
    work = Progress("work", total=total)
    clock.now += seconds
    work.show(done)
    assert lines() == [line]


def test_what_was_done_before_does_not_make_it_fast(clock, lines):
    work = Progress("work", total=10.0, done=4.0, unit="MB", digits=1)
    clock.now += 2
    work.show(5.0)
    assert lines() == ["work: 5.0 of 10.0 MB, 0.5 MB/s, 10 s left"]
    work.restart(5.0)
    clock.now += 10
    work.show(6.0)
    assert lines() == ["work: 6.0 of 10.0 MB, 0.1 MB/s, 40 s left"]


def test_nothing_done_leaves_no_end_in_sight(clock):
    work = Progress("work", total=10)
    clock.now += 5
    assert (work.rate(0), work.pace(0)) == (0, "0.0 images/s, ? left")


def test_a_line_is_due_some_seconds_after_the_last(clock):
    work = Progress("work", total=10, seconds=4)
    clock.now += 3
    assert not work.is_due()
    clock.now += 1
    assert work.is_due()
    work.show(1)
    assert not work.is_due()


def test_items_are_counted_from_the_start_to_the_end(clock, lines):
    items = logged("abcd", total=4, what="read")
    assert next(items) == "a" and lines() == ["read: 0 of 4 images"]
    clock.now += 10
    assert next(items) == "b" and lines() == ["read: 2 of 4 images, 0.2 images/s, 10 s left"]
    assert list(items) == ["c", "d"] and lines() == ["read: 4 images done"]


def test_items_that_go_on_from_others_say_so(clock, lines):
    items = logged("cd", total=5, what="read", first=2)
    assert next(items) == "c" and lines() == []
    clock.now += 10
    assert list(items) == ["d"]
    assert lines() == ["read: 4 of 5 images, 0.2 images/s, 5 s left"]  # the fifth is another's
