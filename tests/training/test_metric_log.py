import contextlib
import json

import pytest

from segfusion_jax.training import metric_log
from segfusion_jax.training.metric_log import MetricLog


def test_lines_are_written_at_once_and_appended(tmp_path):
    with contextlib.closing(MetricLog(tmp_path / "new", from_step=0, enabled=True)) as log:
        log.write(3, 1 / 3, "train", {"loss": 0.5})
        expected = {"step": 3, "epoch": 0.3333, "split": "train", "loss": 0.5}
        assert metric_log.read(tmp_path / "new/metrics.jsonl") == [expected]  # though the log is open
    with contextlib.closing(MetricLog(tmp_path / "new", from_step=3, enabled=True)) as log:
        log.write(9, 1, "validation", {"dice": 0.25, "loss": 2.0})
    lines = (tmp_path / "new/metrics.jsonl").read_text().splitlines()
    last = {"step": 9, "epoch": 1, "split": "validation", "dice": 0.25, "loss": 2.0}
    assert [json.loads(line) for line in lines] == [expected, last]


def test_steps_that_will_be_done_again_are_dropped(tmp_path):
    with contextlib.closing(MetricLog(tmp_path, from_step=0, enabled=True)) as log:
        for step in (2, 4, 6):
            log.write(step, step / 4, "train", {"loss": 1.0})
    with contextlib.closing(MetricLog(tmp_path, from_step=4, enabled=True)) as log:
        log.write(5, 5 / 4, "train", {"loss": 2.0})
    assert [line["step"] for line in metric_log.read(tmp_path / "metrics.jsonl")] == [2, 4, 5]


def test_of_the_last_step_the_validation_will_be_done_again(tmp_path):
    with contextlib.closing(MetricLog(tmp_path, from_step=0, enabled=True)) as log:
        for step, split in ((2, "train"), (2, "validation"), (4, "train"), (4, "validation")):
            log.write(step, step / 2, split, {})
    MetricLog(tmp_path, from_step=4, enabled=True)
    lines = [(line["step"], line["split"]) for line in metric_log.read(tmp_path / "metrics.jsonl")]
    assert lines == [(2, "train"), (2, "validation"), (4, "train")]


def test_a_number_that_json_does_not_have_is_left_out(tmp_path):
    with contextlib.closing(MetricLog(tmp_path, from_step=0, enabled=True)) as log:
        log.write(1, 1, "train", {"loss": float("nan"), "gradient_norm": float("inf"), "skipped": 1.0})
    assert metric_log.read(tmp_path / "metrics.jsonl") == [{"step": 1, "epoch": 1, "split": "train", "skipped": 1.0}]


def test_rates_are_kept_apart(tmp_path):
    for step in (2, 5):
        with contextlib.closing(MetricLog(tmp_path, from_step=step - 1, enabled=True)) as log:
            log.write_rate(step, 100.0)
            log.write_rate(step + 2, 50.0)
    lines = metric_log.read(tmp_path / "rates.jsonl")
    assert [(line["step"], line["images_per_second"]) for line in lines] == [(2, 100), (4, 50), (5, 100), (7, 50)]
    assert 1.7e9 < lines[0]["time"] <= lines[-1]["time"] and metric_log.read(tmp_path / "metrics.jsonl") == []


def test_a_line_that_was_cut_off_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2, "lo')
    assert metric_log.read(path) == [{"step": 1}]
    with contextlib.closing(MetricLog(tmp_path, from_step=9, enabled=True)) as log:
        log.write(10, 1, "train", {})
    assert [line["step"] for line in metric_log.read(path)] == [1, 10]
    path.write_text('{"step')
    assert metric_log.read(path) == []


def test_without_a_file_there_are_no_lines(tmp_path):
    assert metric_log.read(tmp_path / "metrics.jsonl") == []


def test_only_the_lead_writes(tmp_path):
    with contextlib.closing(MetricLog(tmp_path / "new", from_step=0, enabled=False)) as log:
        log.write(1, 1, "train", {"loss": 1.0})
    assert not (tmp_path / "new").exists()


def test_tensorboard_events(tmp_path):
    pytest.importorskip("tensorboardX")
    with contextlib.closing(MetricLog(tmp_path, from_step=0, enabled=True)) as log:
        log.write(7, 1, "validation", {"dice": 0.25})
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"validation/dice" in events.read_bytes()
