"""What a server says of its model: classes, prevalence, operating points, and where it comes from."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

from segfusion_jax.serving.segfusion import SegFusion

OWN = "own"
"""Name of the operating point that the model was released with."""


@dataclasses.dataclass(frozen=True)
class OperatingPoint:
    """A threshold and what it reached on the model's own test images.

    Attributes:
      name: "own", or what it was chosen for on validation images and at which level, such as "sensitivity-0.9".
      threshold: probability, at the model's own prevalence, from which an image is called positive.
      tested: "sensitivity" and "specificity", each a "value" with "low" and "high", the ends of its 95 % interval; what
        is not known is missing.
    """

    name: str
    threshold: float
    tested: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is said of a model.

    Attributes:
      digest: SHA-256 of its manifest.
      classes: names of what it tells apart.
      positive: whether each counts as malignant.
      decisions: what an image below the threshold is called, and one from it on.
      prevalence: share of malignant images for which its probabilities hold.
      points: operating points by their names; "own" is the first.
      data: collections that it learned from, with their licences.
    """

    digest: str
    classes: tuple[str, ...]
    positive: tuple[bool, ...]
    decisions: tuple[str, str]
    prevalence: float
    points: Mapping[str, OperatingPoint]
    data: Sequence[Mapping[str, str]] = ()

    @classmethod
    def of(cls, model: SegFusion) -> Self:
        """Returns the facts of a model that was loaded from a folder."""
        assert model.folder is not None
        metadata = model.folder.metadata
        points = [OperatingPoint(OWN, model.threshold, metadata.tested), *map(_point, metadata.operating_points)]
        return cls(
            digest=model.folder.digest,
            classes=model.classes,
            positive=model.classifiers.classes.positive,
            decisions=model.classifiers.classes.binary_names,
            prevalence=model.prevalence,
            points={point.name: point for point in points},
            data=metadata.data,
        )


def _point(stated: Mapping[str, Any]) -> OperatingPoint:
    return OperatingPoint(f"{stated['aim']}-{stated['level']:g}", stated["threshold"], stated["tested"])
