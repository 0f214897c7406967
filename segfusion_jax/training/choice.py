"""Which epoch's weights are kept: of the best score; of equal ones of the lower loss, and then of the later epoch."""

from collections.abc import Mapping, Sequence
from typing import Any


def rank(scores: Mapping[str, float], metric: str) -> tuple[float, float]:
    """Returns what is the larger, the better the weights are, for scores that hold `metric` and `loss`.

    >>> rank({"roc_auc": 1.0, "loss": 0.2}, "roc_auc") > rank({"roc_auc": 1.0, "loss": 0.9}, "roc_auc")
    True
    """
    return -scores["loss"] if metric == "loss" else scores[metric], -scores["loss"]


def told(lines: Sequence[Mapping[str, Any]], metric: str) -> str:
    """Says which epoch was kept, how many scored as high, and how sure the score is.

    Args:
      lines: of `metric_log.read`.
      metric: what was compared.
    """
    epochs = [line for line in lines if line["split"] == "validation" and {metric, "loss"} <= line.keys()]
    if not epochs:
        return "no epoch was validated"
    best = max(epochs, key=lambda line: (rank(line, metric), line["step"]))
    text = f"epoch {best['epoch']:.0f} of {len(epochs)} is kept, {metric} {best[metric]:.4f}"
    if f"{metric}_low" in best:
        text += f" (95 % interval {best[f'{metric}_low']:.4f} to {best[f'{metric}_high']:.4f})"
    losses = [line["loss"] for line in epochs if line[metric] == best[metric]]
    if len(losses) > 1:
        text += f"; {len(losses)} epochs are equal in it, with losses from {min(losses):.4f} to {max(losses):.4f}"
    return text
