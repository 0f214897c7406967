"""What the page and a server say of a model: classes, prevalence, operating points, and where it comes from."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

import segfusion_jax
from segfusion_jax.serving.segfusion import SegFusion

USE = "Research use only. Not a medical device."
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

    def told(self) -> dict[str, Any]:
        """Returns it as answers have it: what is not known is null."""
        known = {name: ends for name, ends in self.tested.items() if "value" in ends}
        reached = {name: {end: ends.get(end) for end in ("value", "low", "high")} for name, ends in known.items()}
        return {"name": self.name, "threshold": self.threshold, "sensitivity": None, "specificity": None} | reached


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

    def told(self) -> dict[str, Any]:
        """Returns them as `GET /v1/model` has them, which the page reads; what is accepted is the server's to add."""
        return {
            "digest": self.digest,
            "use": USE,
            "classes": [
                {"name": name, "malignant": positive}
                for name, positive in zip(self.classes, self.positive, strict=True)
            ],
            "decisions": list(self.decisions),
            "prevalence": self.prevalence,
            "operating_points": [point.told() for point in self.points.values()],
            "data": [dict(one) for one in self.data],
            "version": segfusion_jax.__version__,
        }


def _point(stated: Mapping[str, Any]) -> OperatingPoint:
    return OperatingPoint(f"{stated['aim']}-{stated['level']:g}", stated["threshold"], stated["tested"])
