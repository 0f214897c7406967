"""Metrics of a training: `metrics.jsonl`, the same for the same training, and `rates.jsonl`, of how long it took.

TensorBoard event files too, where tensorboardX is installed, and somebody's own logger, where the config names one.
"""

import json
import math
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any

from segfusion_jax.runtime import plugins
from segfusion_jax.runtime.atomic import write_text


class MetricLog:
    """Appends a line a call to the files in `folder`, after dropping lines of steps that will be done again.

    Args:
      folder: created when missing.
      from_step: what comes after this step is dropped, and its validation.
      enabled: False writes nothing; of several processes only one is enabled.
      own: name of a `plugins.protocols.MakeLogger`, which gets the metrics too; "" = none.
    """

    def __init__(self, folder: pathlib.Path, *, from_step: int, enabled: bool, own: str = ""):
        self._metrics = self._rates = self._events = self._own = None
        if not enabled:
            return
        self._metrics = _reopen(folder / "metrics.jsonl", lambda line: _is_before(line, from_step))
        self._rates = _reopen(folder / "rates.jsonl", lambda line: line["step"] <= from_step)
        self._events = _event_writer(folder, from_step)
        self._own = _own_logger(own, folder, from_step) if own else None

    def close(self) -> None:
        """Closes the files."""
        for writer in (self._metrics, self._rates, self._events, self._own):
            if writer is not None:
                writer.close()

    def write(self, step: int, epoch: float, split: str, metrics: dict[str, float]) -> None:
        """Writes one line {"step", "epoch", "split", **metrics}; JSON has no number for a metric that is not finite."""
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        self._append(self._metrics, {"step": step, "epoch": round(epoch, 4), "split": split, **finite})
        if self._events is not None:
            for name, value in finite.items():
                self._events.add_scalar(f"{split}/{name}", value, step)
        if self._own is not None:
            self._own.write(step, round(epoch, 4), split, finite)

    def write_rate(self, step: int, images_per_second: float) -> None:
        """Writes one line {"step", "images_per_second", "time"}: the rate since the last one, the time in seconds of
        Unix.
        """
        self._append(self._rates, {"step": step, "images_per_second": images_per_second, "time": time.time()})
        if self._events is not None:
            self._events.add_scalar("images_per_second", images_per_second, step)

    def flush(self) -> None:
        """Brings all lines to the disk: once it returns, they outlive this process and a loss of power."""
        if self._metrics is not None:
            self._metrics.flush()
            os.fsync(self._metrics.fileno())

    def _append(self, file: Any, line: dict[str, Any]) -> None:
        if file is not None:
            file.write(json.dumps(line) + "\n")


def read(path: pathlib.Path) -> list[dict]:
    """Reads the lines of a file, [] without one; up to one that was cut off, or that a loss of power left empty."""
    lines = []
    if path.exists():
        for line in path.read_text().splitlines(keepends=True):
            if not line.startswith("{") or not line.endswith("}\n"):
                break
            lines.append(json.loads(line))
    return lines


def _is_before(line: dict[str, Any], step: int) -> bool:
    return line["step"] < step or line["step"] == step and line["split"] == "train"


def _reopen(path: pathlib.Path, is_kept: Callable[[dict[str, Any]], bool]) -> Any:
    write_text(path, "".join(json.dumps(line) + "\n" for line in read(path) if is_kept(line)))
    return path.open("a", buffering=1)


def _own_logger(name: str, folder: pathlib.Path, from_step: int) -> Any:
    logger = plugins.load(name, "metric_logger")(folder, from_step)
    lacking = [method for method in ("write", "close") if not callable(getattr(logger, method, None))]
    if lacking:
        raise ValueError(
            f"config.metric_logger = {name!r} does not meet its protocol (segfusion_jax.plugins.protocols.Logger): "
            f"method {' and '.join(lacking)}; {type(logger).__name__} has none"
        )
    return logger


def _event_writer(folder, from_step):
    try:
        import tensorboardX  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    return tensorboardX.SummaryWriter(str(folder / "tensorboard"), purge_step=from_step + 1)
