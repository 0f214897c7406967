"""The page of the study `origins`: what is reached inside and outside, and what closes how much of the gap."""

import logging
import pathlib
from collections.abc import Mapping
from typing import Any

from segfusion_jax.config import Config
from segfusion_jax.pipeline.studies.origins_measured import METRICS, RUNGS
from segfusion_jax.report import labels, page, plots, text
from segfusion_jax.report.blocks import Figure, Page, Section, Table, percent
from segfusion_jax.runtime.atomic import write_text

_log = logging.getLogger(__name__)

GAINS = {
    "collections": "All other origins instead of one",
    "augmentation": "Stronger augmentation",
    "colours": "Colours made even",
    "gap": "Left of the gap: this origin, too",
}
"""What each of `origins_measured.GAINS` is called."""

_MEAN = "mean over origins"
_DRAWN = ("roc_auc", "balanced_accuracy", "sensitivity", "specificity", "dice")
_FEW = 100


def write(folder: pathlib.Path, config: Config, found: Mapping[str, Any]) -> None:
    """Writes `index.html` and `summary.md`, and the figures that they show.

    Args:
      folder: to write into.
      config: config of the study.
      found: what `origins.json` holds.
    """
    content = Page(
        title=f"Does it hold elsewhere? Leaving out one {found['by']} at a time",
        verdict=verdict(found),
        sample=_sample(config, found),
        warnings=_warnings(found),
        sections=[
            Section("Inside and outside", [_drawn_rungs(folder, found), _rungs(found)], intro=_INSIDE),
            Section("What closes the gap", [_drawn_gains(folder, found), _gains(found)], intro=_CLOSES),
            Section("All images of an origin, and at home", [_everywhere(found)], intro=_EVERYWHERE),
        ],
    )
    page.write(folder / "index.html", content)
    write_text(folder / "summary.md", text.markdown(content, folder))
    _log.info("%s", content.verdict)


_INSIDE = (
    "Each row is a model trained anew, and judged on the same images: those of the origin that the model that knows it "
    "is tested on. Threshold and calibration are each model's own, from its own validation images. Intervals are 95 %, "
    "over groups of images."
)
_CLOSES = (
    "Differences between two models on the same images, in the same resamples. Of the calibration error less is "
    "better, and there is no interval."
)
_EVERYWHERE = (
    "The model of all other origins: on every image of the origin that it never saw, and on the held-out images of all "
    "others."
)


def verdict(found: Mapping[str, Any]) -> str:
    """Says how large the gap is, and what closes it, by ROC-AUC, as means over the origins."""
    gains = {name: entries["roc_auc"] for name, entries in found["gains"].items()}
    sentences = [
        f"On images of an origin that it never saw a model's ROC-AUC is lower by {_told(gains['gap'])} than that of "
        f"one trained on it, too, as the mean over {len(found['origins'])} origins."
    ]
    helps = [
        f"{told} {_told(gains[name], sign='+')}" for name, told in GAINS.items() if name in gains and name != "gap"
    ]
    if helps:
        sentences.append(f"On the way there: {'; '.join(helps)}.")
    return " ".join(sentences)


def _told(entry: Mapping[str, float], sign: str = "") -> str:
    interval = f"{entry['low']:{sign}.3f} to {entry['high']:{sign}.3f}" if "low" in entry else "no interval"
    return f"{entry['value']:{sign}.3f} ({interval})"


def _sample(config: Config, found: Mapping[str, Any]) -> str:
    height, width = config.classifier.image_size
    sizes = ", ".join(f"{name} {of['n']:,} ({percent(of['prevalence'])})" for name, of in found["origins"].items())
    return f"{config.classifier.backbone.replace('_', ' ')} at {height}x{width}. Held-out images, malignant: {sizes}."


def _warnings(found: Mapping[str, Any]) -> list[str]:
    warnings = [
        "Each model was trained once: intervals tell what other test images would change, not what another seed would.",
        "A model that knows the origin has also seen more images: the gap is of origin and number together.",
    ]
    rarer = {name: of["n"] * min(of["prevalence"], 1 - of["prevalence"]) for name, of in found["origins"].items()}
    few = [name for name, number in rarer.items() if number < _FEW]
    if few:
        warnings.append(f"Fewer than {_FEW} held-out images of one kind: {', '.join(few)}.")
    warnings += [f"{name} is not left out: {reason}." for name, reason in found["not_left_out"].items()]
    return warnings


def _rungs(found: Mapping[str, Any]) -> Table:
    rows = [
        (origin, RUNGS[rung], *labels.estimates(METRICS, entries))
        for origin, of in found["origins"].items()
        for rung, entries in of["rungs"].items()
    ]
    return Table("Metrics on held-out images of each origin", ("Origin", "Model", *map(labels.label, METRICS)), rows)


def _gains(found: Mapping[str, Any]) -> Table:
    every = {origin: of["gains"] for origin, of in found["origins"].items()} | {_MEAN: found["gains"]}
    rows = [
        (origin, GAINS[gain], *labels.estimates(METRICS, entries))
        for origin, gains in every.items()
        for gain, entries in gains.items()
    ]
    return Table("Differences", ("Origin", "What is changed", *map(labels.label, METRICS)), rows)


def _everywhere(found: Mapping[str, Any]) -> Table:
    rows = [
        (origin, what, of[where]["n"], *labels.estimates(METRICS, of[where]["metrics"]))
        for origin, of in found["origins"].items()
        for where, what in (("outside", "all its images"), ("home", "the others' held-out images"))
    ]
    headings = ("Left out", "Tested on", "Images", *map(labels.label, METRICS))
    return Table("Metrics outside and at home", headings, rows)


def _drawn_rungs(folder: pathlib.Path, found: Mapping[str, Any]) -> Figure:
    rows = [
        plots.Row(RUNGS[rung], [entries.get(name, {}) for name in _DRAWN], heading=origin)
        for origin, of in found["origins"].items()
        for rung, entries in of["rungs"].items()
    ]
    path = folder / "figures" / "origins.png"
    plots.forest(path, rows, [labels.label(name) for name in _DRAWN])
    return Figure("Inside and outside", "Each model on the origin's held-out images, with 95 % intervals.", path)


def _drawn_gains(folder: pathlib.Path, found: Mapping[str, Any]) -> Figure:
    every = {origin: of["gains"] for origin, of in found["origins"].items()} | {_MEAN: found["gains"]}
    rows = [
        plots.Row(GAINS[gain], [entries.get(name, {}) for name in _DRAWN], heading=origin)
        for origin, gains in every.items()
        for gain, entries in gains.items()
    ]
    path = folder / "figures" / "gains.png"
    plots.forest(path, rows, [f"Δ {labels.label(name)}" for name in _DRAWN], references=[0.0] * len(_DRAWN))
    return Figure("What closes the gap", "Paired differences, 95 % intervals; right of the line is better.", path)
