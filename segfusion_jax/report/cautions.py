"""What a reader must know before believing a run's numbers, the gravest first."""

import itertools
from collections.abc import Iterator

from segfusion_jax.report import collapse, labels
from segfusion_jax.report.blocks import percent
from segfusion_jax.report.finished_run import FinishedRun

SHORTCUT_AUC = 0.6
"""ROC-AUC from which on a fact that tells the classes apart is worth a warning."""
MAX_ECE = 0.1
"""Expected calibration error above which probabilities should not be read as such."""
MIN_PLACES = 16
"""Places a side of the evidence's grid; on a coarser one a lesion cannot be told from its surroundings."""


def cautions(run: FinishedRun) -> list[str]:
    """Returns what a reader must know, in whole sentences, the gravest first."""
    of_sides = (_promised, _calibration, collapse.few, collapse.moved) if run.has_sides else (_calibration,)
    return [
        *_data(run),
        *(collapse.collapsed(run) if run.has_sides else collapse.confused(run)),
        *_leakage(run),
        *_ungrouped(run),
        *itertools.chain.from_iterable(tell(run) for tell in of_sides),
        *collapse.unfamiliar(run),
        *(_subgroups(run) if run.has_sides else ()),
        *_explanation(run),
        *_undefined(run),
        *_left_out(run),
        *_clean(run),
    ]


def _related(run: FinishedRun, split: str) -> float:
    return run.audit["relatives_in_training"][split]["any of these"]


def _data(run: FinishedRun) -> Iterator[str]:
    if "synthetic" in run.config.data.own:
        yield "The images are drawn by a program: these numbers say nothing about patients."
    if run.config.bridge.masks == "annotated":
        yield "The classifier was given annotated masks, which a new image does not have: a bound, not a performance."


def _leakage(run: FinishedRun) -> Iterator[str]:
    if _related(run, "this_split"):
        yield (
            f"The split leaks, by protocol '{run.config.splits.protocol}': {percent(_related(run, 'this_split'))} "
            "of test images have a relative in training or validation: the same picture, a near duplicate, or one of "
            "the same lesion or patient. The metrics flatter."
        )
    for name, auc in run.audit["shortcuts"].items():
        if auc >= SHORTCUT_AUC:
            sides = run.binary_names if run.config.data.own_classes else ("benign", "malignant")
            yield f"{name.capitalize()} alone tells {sides[1]} from {sides[0]} with a ROC-AUC of {auc:.2f}: a shortcut."


def _calibration(run: FinishedRun) -> Iterator[str]:
    error = run.metrics["classification" if run.has_sides else "probabilities"].get("ece")
    if error and error["value"] > MAX_ECE:
        chance = run.metrics.get("calibration", {}).get("ece_by_chance")
        by_chance = (
            " (as large by chance alone in so few images)" if chance and error["value"] <= chance["high"] else ""
        )
        yield (
            "The probabilities are not shown to be calibrated: expected calibration error "
            f"{error['value']:.2f}{by_chance}. Rank by them, but do not read them as risks."
        )


def _promised(run: FinishedRun) -> Iterator[str]:
    """Says where validation images promised more than test images keep."""
    promised, kept = run.metrics.get("validation", {}).get("roc_auc"), run.metrics["classification"]["roc_auc"]
    if promised and kept.get("high", 1.0) < promised["value"]:
        yield (
            f"On the validation images, which chose weights and thresholds, the ROC-AUC is {promised['value']:.3f}, "
            "above the interval on test images: thresholds and calibration may not hold."
        )
    raw, calibrated = (
        run.metrics.get("uncalibrated", {}).get("log_loss"),
        run.metrics["classification"].get("log_loss"),
    )
    if raw and calibrated and calibrated["value"] > raw["value"]:
        yield (
            f"Calibration on validation images made the test images' probabilities worse: log loss {raw['value']:.3f} "
            f"before, {calibrated['value']:.3f} after."
        )


def _subgroups(run: FinishedRun) -> Iterator[str]:
    overall = run.metrics["classification"]["roc_auc"]["value"]
    for group in run.metrics.get("subgroups", []):
        high = group.get("classification", {}).get("roc_auc", {}).get("high")
        if not group["withheld"] and high is not None and high < overall:
            value = labels.estimate("roc_auc", group["classification"]["roc_auc"])
            yield (
                f"Where {group['fact']} is {group['value']} ({group['n']:,} images), the ROC-AUC is {value.value:.3f} "
                f"({value.interval}), wholly below the overall {overall:.3f}."
            )


def _explanation(run: FinishedRun) -> Iterator[str]:
    shares = run.metrics.get("explanation", {})
    if not shares:
        return
    inside, area, excess = shares["inside_share"]["value"], shares["area_share"]["value"], shares["excess"]
    if shares.get("places", {"value": MIN_PLACES})["value"] >= MIN_PLACES and excess.get("low", excess["value"]) <= 0:
        yield (
            f"Of the classifier's evidence (Grad-CAM) {percent(inside, 0)} lies within the lesion, "
            f"which covers {percent(area, 0)} of the picture: it is not shown to look at the lesion rather than "
            "anywhere."
        )


def _undefined(run: FinishedRun) -> Iterator[str]:
    names = [
        f"{labels.label(name)} ({entry['undefined']:,.0f})"
        for section in labels.SECTIONS
        for name, entry in run.metrics.get(section, {}).items()
        if entry.get("undefined")
    ]
    if names:
        yield (
            f"In some of {run.config.evaluation.resamples:,} resamples a metric had no value, and its interval passes "
            f"over them: {', '.join(names)}."
        )


def _left_out(run: FinishedRun) -> Iterator[str]:
    if run.audit["left_out"]:
        left_out = ", ".join(f"{count} {kind}" for kind, count in run.audit["left_out"].items())
        yield f"Left out as unusable: {left_out}; prepare/problems.csv lists them."
    yield from (f"{sentence[0].upper()}{sentence[1:]}." for sentence in run.audit.get("seen", []))
    contradicting = run.audit.get("label_contradictions", {})
    if contradicting:
        named = ", ".join(list(contradicting)[:5])
        yield (
            f"{len(contradicting):,} images are labelled differently by different collections ({named}): they count as "
            "unlabelled. prepare/audit.json lists them."
        )
    fallbacks, masks = sum(n for reason, n in run.fallbacks.items() if reason), sum(run.fallbacks.values())
    if fallbacks:
        yield f"{fallbacks:,} of {masks:,} images had no usable mask: of these the classifier saw the whole image."


def _clean(run: FinishedRun) -> Iterator[str]:
    if not _related(run, "this_split") and _knows_groups(run):
        yield (
            f"None of the {_tests(run)} test images that were classified has a relative in training or validation. A "
            f"random split of the images would have put one there for {percent(_related(run, 'random_split'))} of them."
        )


def _ungrouped(run: FinishedRun) -> Iterator[str]:
    if not _knows_groups(run):
        yield (
            "Nothing says which images are of one patient or lesion (no such column was read): of the "
            f"{_tests(run)} test images that were classified it is only known that none shows a picture, or nearly "
            "one, of training or validation. Relatives among them would flatter the metrics."
        )


def _knows_groups(run: FinishedRun) -> bool:
    known = run.audit.get("known")  # earlier runs do not tell
    return known is None or any(known.values())


def _tests(run: FinishedRun) -> str:
    return f"{run.audit.get('classified_tests', run.audit['splits']['test']['images']):,}"
