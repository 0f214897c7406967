"""What says that a model has learned little, whatever its headline: each a sentence for the top of the page."""

import math
from collections.abc import Iterator, Mapping

import numpy as np

from segfusion_jax.report.blocks import percent
from segfusion_jax.report.finished_run import FinishedRun

SPREAD = 0.05
"""Distance of the least from the largest probability, below which a model says nearly the same of every image."""
HALF_WIDTH = 0.05
"""Half of a sensitivity's interval with which one can work; of a wider one it is told how many images would do."""
UNFAMILIAR = 0.05
"""Share of unfamiliar test images that is worth a warning; the limit is set so that of validation images 1 % are."""


def collapsed(run: FinishedRun) -> Iterator[str]:
    """Yields what says that the model does not tell the classes apart, the gravest first."""
    yield from _chance(run)
    yield from _constant(run)
    yield from _never(run)


def _chance(run: FinishedRun) -> Iterator[str]:
    measured = run.metrics["classification"]
    if run.threshold == 0:
        yield f"No threshold beats chance on the validation images: everything is called {run.binary_names[1]}."
    low = measured["roc_auc"].get("low")
    if low is not None and low <= 0.5:
        yield "The interval of the ROC-AUC includes 0.5: the classifier may be no better than chance."
    chosen = run.metrics.get("validation", {}).get("roc_auc")
    if chosen and chosen.get("low", chosen["value"]) <= 0.5:
        yield (
            f"On the validation images, which chose weights and thresholds, the ROC-AUC is {chosen['value']:.3f}"
            f"{_interval(chosen)}, not shown to be better than chance: what the test images show may be luck, and the "
            "threshold means little."
        )


def _interval(entry: Mapping[str, float]) -> str:
    return f" ({entry['low']:.3f} to {entry['high']:.3f})" if "low" in entry else ""


def _constant(run: FinishedRun) -> Iterator[str]:
    probabilities = np.array([float(row["probability"]) for row in run.predictions])
    if not probabilities.size:
        return
    low, high = probabilities.min(), probabilities.max()  # where few are positive, most are rightly alike
    if high - low < SPREAD:
        yield (
            f"The model says nearly the same of every image: all probabilities lie between {low:.3f} and "
            f"{high:.3f}. They may rank images, but do not tell one from another."
        )


def _never(run: FinishedRun) -> Iterator[str]:
    measured, (negative, positive) = run.metrics["classification"], run.binary_names
    for name, other, metric in ((positive, negative, "sensitivity"), (negative, positive, "specificity")):
        if run.threshold and measured[metric]["value"] == 0:
            yield f"At the threshold no test image that is {name} is called so: they are all called {other}."
    yield from _unnamed(run)


def confused(run: FinishedRun) -> Iterator[str]:
    """Yields what says that the model does not tell classes apart none of which is looked for, the gravest first."""
    for where, entry in (
        ("test images", run.metrics["diagnosis"]["macro_roc_auc"]),
        ("validation images, which chose the weights", run.metrics.get("validation", {}).get("macro_roc_auc")),
    ):
        if entry and entry.get("low", entry["value"]) <= 0.5:
            yield (
                f"On the {where}, the mean ROC-AUC of the classes is {entry['value']:.3f}{_interval(entry)}, not shown "
                "to be better than chance."
            )
    yield from _unnamed(run)


def _unnamed(run: FinishedRun) -> Iterator[str]:
    confusion = run.metrics.get("confusion", {})
    given = {name: sum(row.get(name, 0) for row in confusion.values()) for name in confusion}
    if missing := [name for name, count in given.items() if not count and sum(confusion[name].values())]:
        yield f"No test image is named {', '.join(missing)}, though some are."


def few(run: FinishedRun) -> Iterator[str]:
    """Yields how many positive images the interval of the sensitivity would need: its width falls by their root."""
    measured = run.metrics["classification"]["sensitivity"]
    if "low" not in measured or not run.num_positive:
        yield f"Sensitivity has no interval, of {run.num_positive} test images that are {run.binary_names[1]}."
        return
    half = (measured["high"] - measured["low"]) / 2
    if half > HALF_WIDTH:
        needed = math.ceil(run.num_positive * (half / HALF_WIDTH) ** 2)
        yield (
            f"Sensitivity is known to within {half:.2f} either way, by {run.num_positive} test images that are "
            f"{run.binary_names[1]}; to know it within {HALF_WIDTH:g}, some {needed:,} would be needed."
        )


def unfamiliar(run: FinishedRun) -> Iterator[str]:
    """Yields how many test images are unlike those of the training, where it is many."""
    flagged = run.metrics.get("novelty", {}).get("flagged")
    if flagged and flagged["value"] > UNFAMILIAR:
        yield (
            f"{percent(flagged['value'])} of the test images are unlike those that the classifier was trained on: "
            "its probabilities mean less there."
        )


def moved(run: FinishedRun) -> Iterator[str]:
    """Yields where the threshold does not find what it finds overall: groups whose sensitivity is wholly below it."""
    overall = run.metrics["classification"]["sensitivity"]["value"]
    for group in run.metrics.get("subgroups", []):
        found = group.get("classification", {}).get("sensitivity", {})
        if not group["withheld"] and found.get("high", 1.0) < overall:
            yield (
                f"The threshold does not hold where {group['fact']} is {group['value']} ({group['n']:,} images): "
                f"sensitivity {found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f}), overall {overall:.3f}."
            )
