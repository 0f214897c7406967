"""Metrics of a training: `metrics.jsonl`, and TensorBoard event files where tensorboardX is installed."""

import json
import pathlib
from typing import Self


class MetricLog:
    """Appends one line a call to `folder/metrics.jsonl`, after dropping lines of steps that will be done again.

    Args:
      folder: created when missing.
      from_step: lines of later steps are dropped.
      enabled: False writes nothing; of several processes only one is enabled.
    """

    def __init__(self, folder: pathlib.Path, *, from_step: int, enabled: bool):
        self._file = self._events = None
        if not enabled:
            return
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "metrics.jsonl"
        kept = [line for line in read(path) if line["step"] <= from_step]
        path.write_text("".join(json.dumps(line) + "\n" for line in kept))
        self._file = path.open("a")
        self._events = _event_writer(folder, from_step)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        for writer in (self._file, self._events):
            if writer is not None:
                writer.close()

    def write(self, step: int, epoch: float, split: str, metrics: dict[str, float]) -> None:
        """One line {"step", "epoch", "split", **metrics}."""
        if self._file is None:
            return
        self._file.write(json.dumps({"step": step, "epoch": round(epoch, 4), "split": split, **metrics}) + "\n")
        self._file.flush()
        if self._events is not None:
            for name, value in metrics.items():
                self._events.add_scalar(f"{split}/{name}", value, step)


def read(path: pathlib.Path) -> list[dict]:
    """The lines of a metrics file, [] without one; a last line that was cut off is left out."""
    if not path.exists():
        return []
    text = path.read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def _event_writer(folder, from_step):
    try:
        import tensorboardX  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    return tensorboardX.SummaryWriter(str(folder / "tensorboard"), purge_step=from_step + 1)
