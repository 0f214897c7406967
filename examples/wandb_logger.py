"""A logger as `metric_logger`: "examples.wandb_logger:Run". It needs the package wandb."""

import pathlib
from collections.abc import Mapping


class Run:
    """A run of Weights & Biases for the training of each network."""

    def __init__(self, folder: pathlib.Path, from_step: int):
        import wandb

        name = "-".join(folder.parts[-3:])
        self._run = wandb.init(project="segfusion", name=name, dir=str(folder), config={"from_step": from_step})

    def write(self, step: int, epoch: float, split: str, metrics: Mapping[str, float]) -> None:
        """Logs the metrics of a step under the name of their split."""
        self._run.log({f"{split}/{name}": value for name, value in metrics.items()} | {"epoch": epoch}, step=step)

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()
