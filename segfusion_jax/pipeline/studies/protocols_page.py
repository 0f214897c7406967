"""The page of the study `protocols`: the published table, what is reached on each rung of the ladder, and why."""

import logging
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segfusion_jax.bridge.modes import REFERENCE
from segfusion_jax.config import Config
from segfusion_jax.datasets.joining import titles
from segfusion_jax.evaluation import consistency
from segfusion_jax.pipeline.studies import rungs
from segfusion_jax.pipeline.studies.published import PUBLISHED, Published
from segfusion_jax.pipeline.studies.rungs import PAPERS_MODE, RUNGS, Said
from segfusion_jax.report import labels, page, plots, text
from segfusion_jax.report.blocks import Block, Estimate, Figure, Page, Section, Table, percent
from segfusion_jax.runtime.atomic import write_text

_log = logging.getLogger(__name__)

_SHOWN = ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "mcc", "roc_auc", "pr_auc")
_MODELS = ("paper", "by_image", "grouped")


def write(
    folder: pathlib.Path, config: Config, found: Mapping[str, Any], tested: Mapping[str, Mapping[str, Sequence[Said]]]
) -> None:
    """Writes `index.html` and `summary.md`, and the figures that they show.

    Args:
      folder: to write into.
      config: config of the study.
      found: what `protocols.json` holds.
      tested: what is said of the images of each rung, by who says it, in each draw of the pool.
    """
    published = PUBLISHED.get(config.data.name)
    content = Page(
        title=f"The published table, taken apart: {titles(config.data)}",
        verdict=verdict(found, published),
        sample=_sample(config, found),
        warnings=_warnings(config, found),
        sections=[
            Section("Published, reproduced, honest", [_main(found, published)]),
            Section(
                "The ladder of leaks",
                [*_drawn(folder, found, published), _ladder(found)],
                intro=_LADDER,
            ),
            Section("Memory alone", [_memory(found)], intro=_MEMORY),
            Section("What the bridge brings", [_gains(found, published)], intro=_GAINS),
            Section("Curves", _curves(folder, tested, published)),
            Section("What the published figures do not meet", _arithmetic(published), intro=_ARITHMETIC),
            Section("What leaked", [_leaks(found)]),
        ],
    )
    page.write(folder / "index.html", content)
    write_text(folder / "summary.md", text.markdown(content, folder))
    _log.info("%s", content.verdict)


_LADDER = (
    "Each rung is one change from the rung before. The last three are the same models. An image is called malignant "
    "from a probability of one half on, as in the paper, not calibrated; intervals are 95 %, over groups: copies of "
    "one image, and images of one lesion or patient, are one group."
)
_MEMORY = (
    "An image gets the label of the most similar training image. Neither thumbnails nor ImageNet features have learned "
    "anything of lesions: what they reach above the honest rungs, they reach by finding copies and relatives."
)
_GAINS = "Difference to no bridge, on the same images, with the same seeds and in the same resamples."
_ARITHMETIC = (
    "From the printed figures, and from what was read off the printed curves; the paper's text was not at hand. The "
    "prevalence is the precision at full recall, the number of positives follows from the first step down of the "
    "precision."
)


def verdict(found: Mapping[str, Any], published: Published | None) -> str:
    """Says what the same models reach under the paper's protocol and under the honest one, and what is published."""
    paper, honest = (found["rungs"][rung]["said"][PAPERS_MODE]["accuracy"] for rung in ("paper", "grouped"))
    leaked = percent(found["rungs"]["paper"]["leaks"]["any of these"])
    sentences = [
        f"Under the paper's protocol, in which {leaked} of test images have a copy or another relative in training or "
        f"validation, accuracy is {_told(paper)}; with lesions kept together, {_told(honest)}."
    ]
    if published:
        sentences.append(
            f"Published are {published.accuracy:.4f} with the bridge and {published.without_bridge:.4f} without."
        )
    return " ".join(sentences)


def _sample(config: Config, found: Mapping[str, Any]) -> str:
    drawn = "once" if found["draws"] == 1 else f"{found['draws']} times"
    height, width = config.classifier.image_size
    return (
        f"{found['pool']:,} images of each class, drawn {drawn}; {config.classifier.backbone.replace('_', ' ')} at "
        f"{height}x{width}, {config.bridge.masks} masks."
    )


def _told(entry: Mapping[str, float]) -> str:
    shown = labels.estimate("accuracy", entry)
    return f"{shown.value:.3f} ({shown.interval})" if shown.interval else f"{shown.value:.3f}"


def _warnings(config: Config, found: Mapping[str, Any]) -> list[str]:
    warnings = [
        "Accuracy, precision, F1, Matthews correlation and PR-AUC depend on how many test images are malignant: from "
        "the rung of the natural share on, compare balanced accuracy and ROC-AUC."
    ]
    if found["pool"] < config.splits.pool:
        warnings.append(
            f"A pool of {config.splits.pool} images of each class is asked for; the collection here has "
            f"{found['pool']} of the rarer one, and so many of each are taken."
        )
    if found["draws"] == 1:
        warnings.append("The pool was drawn once: another draw and seed would give other values.")
    if "elsewhere" not in found["rungs"]:
        warnings.append("No images of another origin were at hand: the last rung is left out.")
    return warnings


def _main(found: Mapping[str, Any], published: Published | None) -> Table:
    rows = []
    for name, mode, without in (("with the paper's bridge", PAPERS_MODE, False), ("without a bridge", REFERENCE, True)):
        claimed = (published.without_bridge if without else published.accuracy) if published else None
        reached = [found["rungs"][rung]["said"][mode]["accuracy"] for rung in ("paper", "grouped")]
        shown = [labels.estimate("accuracy", entry) for entry in reached]
        rows.append((name, None if claimed is None else Estimate(claimed, digits=4), *shown))
    return Table("Accuracy", ("", "Published", "Under the paper's protocol", "Lesions kept together"), rows)


def _who(name: str) -> str:
    return rungs.MEMORIES.get(name) or ("no bridge" if name == REFERENCE else f"bridge '{name.replace('_', ' ')}'")


def _ladder(found: Mapping[str, Any]) -> Table:
    rows = [
        (RUNGS[rung], _who(who), of_rung["n"], percent(of_rung["prevalence"]), *labels.estimates(_SHOWN, entries))
        for rung, of_rung in found["rungs"].items()
        for who, entries in of_rung["said"].items()
        if who not in rungs.MEMORIES
    ]
    headings = ("Rung", "Bridge", "Test images", "Malignant", *map(labels.label, _SHOWN))
    return Table("Metrics", headings, rows, "Test images are those of one draw of the pool.")


def _drawn(folder: pathlib.Path, found: Mapping[str, Any], published: Published | None) -> list[Block]:
    names = list(found["rungs"])
    everybody = found["rungs"]["paper"]["said"]
    lines = {
        _who(who): plots.Line(
            [found["rungs"][rung]["said"][who]["balanced_accuracy"] for rung in names], faint=who in rungs.MEMORIES
        )
        for who in everybody
    }
    levels = (
        {"published, with its bridge": published.accuracy, "published, without": published.without_bridge}
        if published
        else {}
    )
    path = folder / "figures" / "ladder.png"
    plots.ladder(path, [RUNGS[rung] for rung in names], lines, y_label="Balanced accuracy", levels=levels)
    caption = "Balanced accuracy, 95 % intervals over groups; published is the accuracy on tests of half and half."
    return [Figure("The ladder", caption, path)]


def _memory(found: Mapping[str, Any]) -> Table:
    shown = ("accuracy", "balanced_accuracy", "roc_auc")
    rows = [
        (
            RUNGS[rung],
            rungs.MEMORIES[who],
            *labels.estimates(shown, of_rung["said"][who]),
            percent(nearest["same picture"]),
            percent(nearest["same group"]),
        )
        for rung, of_rung in found["rungs"].items()
        for who, nearest in of_rung["nearest"].items()
    ]
    headings = (
        *("Rung", "Memory", *map(labels.label, shown)),
        *("Nearest is a copy of the same image", "Or of the same lesion or patient"),
    )
    return Table("Nearest training images", headings, rows)


def _gains(found: Mapping[str, Any], published: Published | None) -> Table:
    shown = ("accuracy", "balanced_accuracy", "mcc", "roc_auc")
    rows: list[tuple] = [
        (RUNGS[rung], _who(who), *labels.estimates(shown, entries))
        for rung, of_rung in found["rungs"].items()
        for who, entries in of_rung["gains"].items()
    ]
    if published:
        gain = Estimate(published.accuracy - published.without_bridge)
        rows.insert(0, ("Published", "the paper's", gain, None, None, None))
    return Table("Differences", ("Rung", "Bridge", *map(labels.label, shown)), rows)


def _curves(
    folder: pathlib.Path, tested: Mapping[str, Mapping[str, Sequence[Said]]], published: Published | None
) -> list[Block]:
    if not published:
        return []
    curves = {
        name: (
            np.concatenate([said.labels for said in tested[rung][PAPERS_MODE]]),
            np.concatenate([said.probabilities for said in tested[rung][PAPERS_MODE]]),
        )
        for name, rung in (("The paper's protocol", "paper"), ("Lesions together", "grouped"))
    }
    alarms = consistency.alarm_rate(published.precision, published.recall, published.prevalence)
    stated = plots.Stated(alarms, published.recall, published.precision, published.best_balanced_accuracy)
    path = folder / "figures" / "curves.png"
    plots.stated_curves(path, curves, stated)
    caption = (
        "With the paper's bridge. The point is that of the printed precision and recall; on the printed ROC curve no "
        f"point has a balanced accuracy above {published.best_balanced_accuracy:.3f}, which is the line."
    )
    return [Figure("ROC, and precision and recall", caption, path)]


def _arithmetic(published: Published | None) -> list[Block]:
    if not published:
        return []
    natural = published.malignant / published.images
    bound = consistency.largest_accuracy(published.best_balanced_accuracy, published.prevalence)
    implied = consistency.accuracy(published.precision, published.recall, published.prevalence)
    share = published.positives / published.malignant
    rows = [
        (
            "Accuracy and the printed ROC curve",
            f"accuracy ≤ b + |2 p − 1| (1 − b), b = {published.best_balanced_accuracy:.3f} the curve's best balanced "
            f"accuracy, p = {published.prevalence:.3f} the prevalence",
            Estimate(published.accuracy, digits=4),
            f"at most {bound:.4f}",
        ),
        (
            "Accuracy and the printed precision and recall",
            "accuracy = 1 − p (1 − r) − p r (1 − q) / q, r recall, q precision",
            Estimate(published.accuracy, digits=4),
            f"{implied:.4f}, both rounded to two digits",
        ),
        (
            "Matthews correlation at the natural prevalence",
            f"largest over misses x and false alarms e − x, e = 1 − accuracy, p = {natural:.4f}",
            Estimate(published.mcc, digits=2),
            f"at most {consistency.largest_mcc(published.accuracy, natural):.3f}; "
            f"{consistency.largest_mcc(published.accuracy, published.prevalence):.3f} at {published.prevalence:.3f}",
        ),
        (
            "Calling everything benign, at the natural prevalence",
            "accuracy = 1 − p",
            Estimate(published.accuracy, digits=4),
            f"{1 - natural:.4f}",
        ),
        (
            "Malignant test images",
            f"precision after k hits and one false alarm is k / (k + 1); the collection has {published.malignant:,}",
            published.positives,
            f"{percent(share)} of all, where a test of 20 % has 20 %",
        ),
    ]
    return [Table("Arithmetic", ("What", "Formula", "Printed or read", "Follows"), rows)]


def _leaks(found: Mapping[str, Any]) -> Table:
    rows = [
        (RUNGS[rung], found["rungs"][rung]["n"], percent(leaks["same picture"]), percent(leaks["any of these"]))
        for rung, leaks in ((rung, found["rungs"][rung]["leaks"]) for rung in _MODELS)
    ]
    headings = ("Rung", "Test images", "Same picture in training or validation", "Any relative")
    note = "Relatives are the same picture or a copy, near duplicates, images of the same lesion or patient."
    return Table("Test images with relatives in training or validation", headings, rows, note)
