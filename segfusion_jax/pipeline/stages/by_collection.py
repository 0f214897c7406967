"""What the models reach on the held-out images of each collection, where a run has several."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segfusion_jax.evaluation import sections
from segfusion_jax.pipeline.stages import metrics, novelty
from segfusion_jax.pipeline.stages.predicted import Predicted
from segfusion_jax.pipeline.stages.score import Overlaps

SENSITIVE = ("sensitivity", 0.95)
"""The operating point, by aim and level, that is judged on each collection beside the model's own threshold."""


def by_collection(
    everything: Predicted, novelties: np.ndarray, overlaps: Overlaps, points: Mapping[str, float], *, resamples: int
) -> dict[str, dict[str, Any]]:
    """Returns sections like those of the whole of metrics.json by collection; nothing where there is only one.

    Args:
      everything: held-out images.
      novelties: novelty of each of them, [n].
      overlaps: annotated held-out images and the scores of their masks.
      points: thresholds of malignancy, "own" that of the model and "sensitive" that of SENSITIVE.
      resamples: number of resamples of the groups, for the intervals.

    Returns:
      By collection, as far as its labels allow: `classification` with the model's threshold, `sensitive` with the other
      one, `melanoma`, `diagnosis_equal_shares`, `segmentation` and `novelty`.
    """
    sources = [row.source for row in everything.rows]
    names = sorted(set(sources))
    if len(names) < 2:
        return {}
    found = {}
    for name in names:
        chosen = np.array([source == name for source in sources])
        part, groups = everything.where(chosen), [row.group for row in everything.rows if row.source == name]
        masks = [overlap for overlap in overlaps if overlap[0].source == name]
        found[name] = (
            _malignancy(part.judged, points, resamples=resamples)
            | metrics.of_classes(part, resamples=resamples)
            | {"segmentation": metrics.of_masks(masks, resamples=resamples)}
            | {"novelty": novelty.metrics(novelties[chosen], groups, resamples=resamples)}
        )
    return {name: {key: section for key, section in one.items() if section} for name, one in found.items()}


def sensitive_threshold(points: Sequence[Mapping[str, Any]]) -> float:
    """Returns the threshold of SENSITIVE among the operating points of metrics.json."""
    (threshold,) = [point["threshold"] for point in points if (point["aim"], point["level"]) == SENSITIVE]
    return threshold


def _malignancy(judged: Predicted, points: Mapping[str, float], *, resamples: int) -> dict[str, Any]:
    """Returns the sections of malignancy; nothing where images of one kind are missing."""
    labels = judged.labels
    if len(set(labels.tolist())) < 2:
        return {}
    common = labels, judged.malignancy, judged.groups
    return {
        "classification": sections.classification(*common, points["own"], resamples=resamples),
        "sensitive": sections.operating_point(*common, points["sensitive"], resamples=resamples),
    }
