"""What is known of a finished run, and the page that tells it."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segfusion_jax.config import Config
from segfusion_jax.report import labels
from segfusion_jax.report.blocks import Estimate, Headline, number, percent

_HEADLINES = (  # section, metric and its short name, in the order shown
    ("classification", "roc_auc", "ROC-AUC"),
    ("classification", "pr_auc", "PR-AUC"),
    ("classification", "sensitivity", "Sensitivity"),
    ("classification", "specificity", "Specificity"),
    ("diagnosis", "macro_roc_auc", "Mean ROC-AUC"),
    ("diagnosis", "balanced_accuracy", "Balanced accuracy"),
    ("segmentation", "dice", "Dice"),
    ("segmentation", "jaccard", "Jaccard"),
)
_TILES = 6  # in a row


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """What is known of a finished run.

    Attributes:
      config: config of the run.
      metrics: content of evaluate/metrics.json; "segmentation" (empty without annotations) must be there, and
        "classification", or "diagnosis" where no class is looked for; every other key may be missing.
      audit: content of prepare/audit.json.
      classes: names of the classes, by number.
      binary_names: what the classes of label 0 and those of label 1 are called; () where no class is looked for.
      collection: what the collection is called.
      address: where it is published.
      fallbacks: how many images the bridge took whole, by reason; under "" those that have a mask.
      predictions: rows of evaluate/predictions.csv.
      overlaps: rows of score/segmentation.csv.
      figures: folder of the figures, PNG files.
      provenance: which model it is, when and by what it was made.
      facts: devices, versions, times: name to text.
      photographs: whether pictures of patients are shown.
      pseudonyms: name of the file that says which ids are meant, where numbers stand for them; else "".
    """

    config: Config
    metrics: Mapping[str, Any]
    audit: Mapping[str, Any]
    classes: Sequence[str]
    binary_names: tuple[str, ...]
    collection: str
    address: str
    fallbacks: Mapping[str, int]
    predictions: Sequence[Mapping[str, str]]
    overlaps: Sequence[Mapping[str, str]]
    figures: Path
    provenance: str
    facts: Mapping[str, str]
    photographs: bool = True
    pseudonyms: str = ""

    @property
    def has_sides(self) -> bool:
        """Whether some classes are looked for, so that there are a threshold and decisions of two kinds."""
        return bool(self.binary_names)

    @property
    def num_test(self) -> int:
        """Test images that were classified."""
        return int(self.metrics["classification" if self.has_sides else "diagnosis"]["n"]["value"])

    @property
    def prevalence(self) -> float:
        """Share of positive images in test."""
        return self.metrics["classification"]["prevalence"]["value"]

    @property
    def num_positive(self) -> int:
        """Positive images in test."""
        return round(self.num_test * self.prevalence)

    @property
    def threshold(self) -> float:
        """Probability from which an image is called positive."""
        return self.metrics["classification"]["threshold"]["value"]


def verdict(run: FinishedRun) -> str:
    """Says the outcome in some sentences."""
    metrics, of = run.metrics, f"{run.num_test:,} held-out images"
    text = f"{', '.join(run.classes)} told apart on {of}, bridge mode '{run.config.bridge.mode}'."
    if run.has_sides:
        negative, positive = run.binary_names
        text = (
            f"{_first_large(negative)} against {positive} on {of} ({percent(run.prevalence)} {positive}), bridge mode "
            f"'{run.config.bridge.mode}': ROC-AUC {_told(metrics['classification']['roc_auc'])}."
        )
    if "diagnosis" in metrics:
        accuracy = _told(metrics["diagnosis"]["balanced_accuracy"])
        what = "classes" if run.config.data.own_classes else "diagnoses"
        text += f" Balanced accuracy over {len(run.classes)} {what}: {accuracy}."
    segmented = metrics["segmentation"]
    if segmented:
        elsewhere = " and ".join(name for name, one in run.config.data.sources.items() if one.use == "masks")
        text += (
            f" U-Net masks of {segmented['n']['value']:,.0f} held-out images"
            f"{f' (annotated in {elsewhere})' if elsewhere else ''}, before the bridge cleans them: "
            f"mean Dice {_told(segmented['dice'])}."
        )
    return text


def sample(run: FinishedRun) -> str:
    """Says how many images there are, how many of them positive, and where the threshold lies."""
    groups = run.metrics.get("classification", {}).get("groups")
    of_groups = f" of {groups['value']:,.0f} groups (lesions, patients, duplicates)" if groups else ""
    parts = [f"{run.num_test:,} test images{of_groups} classified"]
    if run.has_sides:
        parts.append(f"{run.num_positive:,} of them {run.binary_names[1]}")
        parts.append(f"threshold {run.threshold:.3f}, chosen on validation images")
    else:
        parts += [f"{sum(given.values()):,} {name}" for name, given in run.metrics.get("confusion", {}).items()]
    if run.metrics["segmentation"]:
        parts.append(f"{run.metrics['segmentation']['n']['value']:,.0f} test images segmented")
    return " · ".join(parts)


def headlines(run: FinishedRun) -> list[Headline]:
    """Returns the metrics at the top of the page."""
    shown = _HEADLINES if not run.has_sides else [one for one in _HEADLINES if one[1] != "macro_roc_auc"]
    found = ((run.metrics.get(section, {}).get(name), name, short) for section, name, short in shown)
    return [Headline(short, labels.estimate(name, entry)) for entry, name, short in found if entry][:_TILES]


def _first_large(text: str) -> str:
    return text[:1].upper() + text[1:]


def _told(entry: Mapping[str, float]) -> str:
    estimate = Estimate(entry["value"], entry.get("low"), entry.get("high"))
    return number(estimate.value) + (f" (95 % interval {estimate.interval})" if estimate.interval else "")
