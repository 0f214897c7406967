import json

import pytest

from segfusion_jax.training import metric_log
from segfusion_jax.training.metric_log import MetricLog


def test_lines_are_written_at_once_and_appended(tmp_path):
    with MetricLog(tmp_path / "new", from_step=0, enabled=True) as log:
        log.write(3, 1 / 3, "train", {"loss": 0.5})
        expected = {"step": 3, "epoch": 0.3333, "split": "train", "loss": 0.5}
        assert metric_log.read(tmp_path / "new/metrics.jsonl") == [expected]  # though the log is open
    with MetricLog(tmp_path / "new", from_step=3, enabled=True) as log:
        log.write(9, 1, "validation", {"dice": 0.25, "loss": 2.0})
    lines = (tmp_path / "new/metrics.jsonl").read_text().splitlines()
    last = {"step": 9, "epoch": 1, "split": "validation", "dice": 0.25, "loss": 2.0}
    assert [json.loads(line) for line in lines] == [expected, last]


def test_steps_that_will_be_done_again_are_dropped(tmp_path):
    with MetricLog(tmp_path, from_step=0, enabled=True) as log:
        for step in (2, 4, 6):
            log.write(step, step / 4, "train", {"loss": 1.0})
    with MetricLog(tmp_path, from_step=4, enabled=True) as log:
        log.write(5, 5 / 4, "train", {"loss": 2.0})
    assert [line["step"] for line in metric_log.read(tmp_path / "metrics.jsonl")] == [2, 4, 5]


def test_a_line_that_was_cut_off_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2, "lo')
    assert metric_log.read(path) == [{"step": 1}]
    with MetricLog(tmp_path, from_step=9, enabled=True) as log:
        log.write(10, 1, "train", {})
    assert [line["step"] for line in metric_log.read(path)] == [1, 10]
    path.write_text('{"step')
    assert metric_log.read(path) == []


def test_without_a_file_there_are_no_lines(tmp_path):
    assert metric_log.read(tmp_path / "metrics.jsonl") == []


def test_only_the_lead_writes(tmp_path):
    with MetricLog(tmp_path / "new", from_step=0, enabled=False) as log:
        log.write(1, 1, "train", {"loss": 1.0})
    assert not (tmp_path / "new").exists()


def test_tensorboard_events(tmp_path):
    pytest.importorskip("tensorboardX")
    with MetricLog(tmp_path, from_step=0, enabled=True) as log:
        log.write(7, 1, "validation", {"dice": 0.25})
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"validation/dice" in events.read_bytes()
