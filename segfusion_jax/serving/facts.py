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
      positive: whether each counts as malignant, or is looked for.
      decisions: what an image below the threshold is called, and one from it on; () where no class is looked for.
      prevalence: share of malignant images for which its probabilities hold; None likewise.
      points: operating points by their names; "own" is the first; none likewise.
      data: collections that it learned from, with their licences.
      own_classes: whether the classes are somebody's own, so that nobody says that one is malignant.
    """

    digest: str
    classes: tuple[str, ...]
    positive: tuple[bool, ...]
    decisions: tuple[str, ...]
    prevalence: float | None
    points: Mapping[str, OperatingPoint]
    data: Sequence[Mapping[str, str]] = ()
    own_classes: bool = False

    @classmethod
    def of(cls, model: SegFusion) -> Self:
        """Returns the facts of a model that was loaded from a folder."""
        assert model.folder is not None
        metadata, classes, points = model.folder.metadata, model.classifiers.classes, []
        if model.threshold is not None:
            points = [OperatingPoint(OWN, model.threshold, metadata.tested), *map(_point, metadata.operating_points)]
        return cls(
            digest=model.folder.digest,
            classes=model.classes,
            positive=classes.positive,
            decisions=classes.binary_names if classes.has_sides else (),
            prevalence=model.prevalence,
            points={point.name: point for point in points},
            data=metadata.data,
            own_classes=classes.own,
        )

    def told(self) -> dict[str, Any]:
        """Returns them as `GET /v1/model` has them, which the page reads; what is accepted is the server's to add."""
        return {
            "digest": self.digest,
            "use": USE,
            "classes": [
                {"name": name, "positive": positive, "malignant": None if self.own_classes else positive}
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
