"""What runs that know more and less of an origin reach on its images, and what lies between them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from segfusion_jax.evaluation import bootstrap, classification, weighted
from segfusion_jax.evaluation.weighted import Statistic
from segfusion_jax.pipeline.run import Run

RUNGS = {
    "one": "Trained on the largest other origin alone",
    "others": "Trained on all others",
    "augmentation": "The same, stronger augmentation",
    "colours": "The same, colours made even",
    "inside": "Trained on this origin, too",
}
"""What an origin is tested by, from the least that is known of it to the most. Only the last one has seen it."""

GAINS = {
    "collections": ("others", "one"),
    "augmentation": ("augmentation", "others"),
    "colours": ("colours", "others"),
    "gap": ("inside", "others"),
}
"""By what closes a part of the gap, and by "gap" for what is left of it, the rungs whose difference it is."""

METRICS = ("roc_auc", "balanced_accuracy", "ece", "sensitivity", "specificity", "dice")
"""At the run's own threshold and calibration. Of the calibration error there is no interval."""

Entries = dict[str, dict[str, float]]


@dataclasses.dataclass(frozen=True)
class Said:
    """What a run says of its test images.

    Attributes:
      groups: by image id.
      labels: whether it is malignant, by image id.
      probabilities: of malignancy, by image id.
      dice: of the mean mask of its U-Nets, by id of annotated images.
      threshold: the probability from which an image is called malignant.
    """

    groups: Mapping[str, str]
    labels: Mapping[str, bool]
    probabilities: Mapping[str, float]
    dice: Mapping[str, float]
    threshold: float

    @classmethod
    def of(cls, run: Run) -> Self:
        """Reads what an evaluated run wrote."""
        lines = run.read_predictions()
        return cls(
            {line["image_id"]: line["group"] for line in lines},
            {line["image_id"]: line["label"] == "1" for line in lines},
            {line["image_id"]: float(line["probability"]) for line in lines},
            {line["image_id"]: float(line["dice"]) for line in run.read_scores()},
            run.read_metrics()["classification"]["threshold"]["value"],
        )

    def measured(self, ids: Sequence[str]) -> tuple[dict[str, float], dict[str, Statistic]]:
        """Returns METRICS of some images, and what they are of weights; `dice` only where images are annotated."""
        labels = np.array([self.labels[one] for one in ids])
        probabilities = np.array([self.probabilities[one] for one in ids])
        values = classification.metrics(labels, probabilities, self.threshold)
        statistics = weighted.classification_statistics(labels, probabilities, self.threshold)
        dice = np.array([self.dice.get(one, np.nan) for one in ids])
        if not np.isnan(dice).all():
            values |= {"dice": float(np.nanmean(dice))}
            statistics |= {"dice": weighted.mean(dice)}
        return (
            {name: values[name] for name in METRICS if name in values},
            {name: statistics[name] for name in METRICS if name in statistics},
        )


def measured(
    said: Mapping[str, Mapping[str, Said]], origin_of: Mapping[str, str], resamples: int
) -> dict[str, dict[str, Any]]:
    """Returns what `origins.json` holds.

    Args:
      said: by origin that is left out and rung.
      origin_of: the origin of each image.
      resamples: number of resamples of the groups.

    Returns:
      `origins`: for each, of its images that the rung "inside" is tested on, `n`, `prevalence`, `rungs` (entries of
      METRICS by rung) and `gains` (by name of GAINS, paired); `outside`, what "others" reaches on all its images, `n`
      and `metrics`; `home`, the same on the held-out images of the others. And `gains`, their means over the origins.
    """
    found, differences, ids = {}, {}, {}
    for origin, rungs in said.items():
        ids[origin] = [one for one in sorted(rungs["inside"].labels) if origin_of[one] == origin]
        differences[origin] = {
            gain: _difference(rungs[more], rungs[less], ids[origin])
            for gain, (more, less) in GAINS.items()
            if {more, less} <= rungs.keys()
        }
        found[origin] = _of_origin(origin, rungs, ids[origin], origin_of, resamples)
        groups = [rungs["inside"].groups[one] for one in ids[origin]]
        found[origin]["gains"] = {
            gain: bootstrap.entries(values, statistics, groups, resamples=resamples)
            for gain, (values, statistics) in differences[origin].items()
        }
    groups = [said[origin]["inside"].groups[one] for origin in said for one in ids[origin]]
    sizes = [len(some) for some in ids.values()]
    shared = [gain for gain in GAINS if all(gain in of for of in differences.values())]
    means = {gain: _mean([of[gain] for of in differences.values()], sizes) for gain in shared}
    return {
        "origins": found,
        "gains": {
            gain: bootstrap.entries(values, statistics, groups, resamples=resamples)
            for gain, (values, statistics) in means.items()
        },
    }


def _of_origin(
    origin: str, rungs: Mapping[str, Said], ids: Sequence[str], origin_of: Mapping[str, str], resamples: int
) -> dict[str, Any]:
    others, inside = rungs["others"], rungs["inside"]
    everywhere = {
        "outside": [one for one in sorted(others.labels) if origin_of[one] == origin],
        "home": [one for one in sorted(inside.labels) if origin_of[one] != origin and one in others.labels],
    }
    return {
        "n": len(ids),
        "prevalence": float(np.mean([inside.labels[one] for one in ids])),
        "rungs": {rung: _entries(rungs[rung], ids, resamples) for rung in RUNGS if rung in rungs},
    } | {where: {"n": len(some), "metrics": _entries(others, some, resamples)} for where, some in everywhere.items()}


def _entries(said: Said, ids: Sequence[str], resamples: int) -> Entries:
    """Returns METRICS of some images with intervals; {} where images of one kind are missing."""
    if len({said.labels[one] for one in ids}) < 2:
        return {}
    return bootstrap.entries(*said.measured(ids), [said.groups[one] for one in ids], resamples=resamples)


def _difference(more: Said, less: Said, ids: Sequence[str]) -> tuple[dict[str, float], dict[str, Statistic]]:
    """Returns `more` less `less` of METRICS of the same images, and what it is of weights."""
    (values, statistics), (others, their_statistics) = (said.measured(ids) for said in (more, less))
    return (
        {name: value - others[name] for name, value in values.items() if name in others},
        {name: bootstrap.difference(statistics[name], their_statistics[name]) for name in statistics if name in others},
    )


def _mean(
    parts: Sequence[tuple[Mapping[str, float], Mapping[str, Statistic]]], sizes: Sequence[int]
) -> tuple[dict[str, float], dict[str, Statistic]]:
    """Returns the means over origins of the metrics that all have."""
    names = [name for name in METRICS if all(name in values for values, _ in parts)]
    return (
        {name: float(np.mean([values[name] for values, _ in parts])) for name in names},
        {
            name: bootstrap.average([statistics[name] for _, statistics in parts], sizes)
            for name in names
            if name != "ece"
        },
    )
