"""What a row of predictions means, in words and columns: how often such decisions are right, at home and elsewhere."""

import dataclasses
from collections.abc import Mapping
from typing import Self

from segfusion_jax.report.blocks import percent
from segfusion_jax.serving.facts import USE
from segfusion_jax.serving.model_folder import DECISIONS
from segfusion_jax.serving.segfusion import SegFusion

HOME = "at home"
"""What the model's own test images are called."""


@dataclasses.dataclass(frozen=True)
class Meaning:
    """What is known of the decisions of a model at one threshold.

    Attributes:
      negative: what an image below the threshold is called; "" where no class is looked for.
      positive: what one from the threshold on is called; "" likewise.
      reached: sensitivity and specificity by where they were measured: "at home", and "on" another collection.
      several: whether there are more classes than the two that are decided between.
      prevalence: share of malignant images that the probabilities are told for, where it is not the model's own.
    """

    negative: str
    positive: str
    reached: Mapping[str, Mapping[str, float]]
    several: bool
    prevalence: float | None = None

    @classmethod
    def of(cls, model: SegFusion, *, prevalence: float | None = None) -> Self:
        """Returns what the metadata say of the threshold that a loaded model decides by.

        Of an operating point that is not the released one, only what it reached at home is stated; of any other
        threshold nothing is. A threshold is one of these if both are alike to three digits, which pages show.
        """
        assert model.folder is not None  # where it was loaded from
        stated, reached = model.folder.metadata, {}
        if model.threshold is None:
            return cls("", "", {}, len(model.classes) > 2)
        if stated.threshold is not None and _alike(model.threshold, stated.threshold):
            elsewhere = {f"on {one['title']}": one["found"] for one in stated.elsewhere}
            reached = {HOME: stated.tested, **elsewhere}
        for point in stated.operating_points:
            if _alike(model.threshold, point["threshold"]):
                reached.setdefault(HOME, point["tested"])
        values = {
            where: {name: found[name]["value"] for name in DECISIONS if "value" in found.get(name, {})}
            for where, found in reached.items()
        }
        values = {where: found for where, found in values.items() if len(found) == len(DECISIONS)}
        negative, positive = model.classifiers.classes.binary_names
        return cls(negative, positive, values, len(model.classes) > 2, prevalence)

    @property
    def columns(self) -> dict[str, str]:
        """The columns of the table that say how often decisions are right, and what stands in them."""
        return {f"{name} {where}": f"{found[name]:.3f}" for where, found in self.reached.items() for name in found}

    def told(self, row: Mapping[str, str]) -> list[str]:
        """Returns what is said of an image below its picture, line by line, by its row in the table."""
        at = "" if self.prevalence is None else f" at a prevalence of {percent(self.prevalence)}"
        if not self.positive:
            share = float(row[f"probability of {row['decision']}"])
            lines = [f"{row['decision']}: {percent(share)}"]
        else:
            lines = [f"{self.positive}: {percent(float(row['probability']))}{at}, called {row['decision']}"]
        if self.several and self.positive:
            probable = float(row[f"probability of {row['diagnosis']}"])
            lines.append(f"most probable: {row['diagnosis']}, {percent(probable)}")
        if row["familiar"] == "0":
            lines.insert(0, f"UNFAMILIAR IMAGE (novelty {float(row['novelty']):.1f}): what is said of it means little")
        lines += [
            f"such decisions {where}: sensitivity {found['sensitivity']:.2f}, specificity {found['specificity']:.2f}"
            for where, found in self.reached.items()
        ] or ["how often decisions at this threshold are right is not known"] * bool(self.positive)
        return [*lines, USE]


def _alike(threshold: float, other: float) -> bool:
    return round(threshold, 3) == round(other, 3)
