"""What was measured of a model on some images, by sections of a page."""

from collections.abc import Mapping, Sequence
from typing import Any

from segfusion_jax.evaluation.classification import predictive_values
from segfusion_jax.evaluation.segmentation import FAILURE_JACCARD
from segfusion_jax.evaluation.subgroups import MIN_CLASS
from segfusion_jax.report import figures, labels
from segfusion_jax.report.blocks import Block, Cell, Estimate, Section, Table, Text, percent
from segfusion_jax.report.finished_run import FinishedRun

NUM_FAILURES = 50
"""Rows of each table of failures; the tables beside the page have all."""
_RANKED = ("roc_auc", "pr_auc", "prevalence")  # of each class against the rest
PREVALENCES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Shares of positive images at which predictive values are told."""


def classification(run: FinishedRun) -> Section:
    """Makes the section of decisions and ranks, with the share of unfamiliar images."""
    shown = {name: entry for name, entry in run.metrics["classification"].items() if name != "threshold"}
    names = ("roc_curve", "pr_curve", "decision_curve", "probabilities", "confusion_matrix")
    curves = figures.find(run.figures, names)
    note = f"Test images; those at or above the threshold {run.threshold:.3f} are called {run.binary_names[1]}."
    promised = run.metrics.get("validation", {}).get("roc_auc")
    if promised:
        shown_interval = labels.estimate("roc_auc", promised)
        note += f" On the validation images the ROC-AUC is {shown_interval.value:.3f} ({shown_interval.told})."
    table = labels.metrics_table("Classification metrics", shown, note)
    return Section("Classification", [*curves, table, *_novelty(run)])


def _novelty(run: FinishedRun) -> list[Text]:
    """Says how many test images are flagged."""
    section = run.metrics.get("novelty")
    if not section:
        return []
    kept, in_percent = section["kept"]["value"], {name: 100 * value for name, value in section["flagged"].items()}
    flagged = labels.estimate("flagged", in_percent)._replace(digits=1)
    interval = f" ({flagged.interval})" if flagged.interval else ""
    return [
        Text(
            f"Of the test images {flagged.value:.1f} %{interval} are flagged as unfamiliar; no prediction heeds it. "
            f"The limit lets {percent(kept, 0)} of the validation images pass."
        )
    ]


def operating_points(run: FinishedRun) -> Section:
    """Makes the section of thresholds for an aim, and of predictive values elsewhere."""
    names = ("sensitivity", "specificity", "ppv", "npv")
    points = run.metrics.get("operating_points", [])
    rows = [
        (
            f"{point['aim']} {percent(point['level'], 0)}",
            float(point["threshold"]),
            *labels.estimates(names, _defined(point)),
        )
        for point in points
    ]
    headings = ("Aim", "Threshold", *map(labels.label, names))
    note = (
        "Each threshold reaches its aim on validation images, of several collections in each that has enough; what it "
        "reaches on test images stands here. Predictive values hold at the prevalence of the test images, "
        f"{percent(run.prevalence)}."
    )
    if any(_defined(point) != point for point in points):
        note += " A dash: no test image is called so, and no predictive value is defined."
    tables = [Table("Thresholds for an aim", headings, rows, note)] if rows else []
    return Section("Operating points", [*tables, _elsewhere(run)])


def _defined(point: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the point without the predictive value that does not exist where all images are called alike."""
    alike = {(1, 0): "npv", (0, 1): "ppv"}.get(tuple(point[name]["value"] for name in ("sensitivity", "specificity")))
    return {name: value for name, value in point.items() if name != alike}


def _elsewhere(run: FinishedRun) -> Table:
    """Makes the table of predictive values where other shares of the images are positive."""
    sensitivity, specificity = (run.metrics["classification"][name]["value"] for name in ("sensitivity", "specificity"))
    rows = []
    for prevalence in PREVALENCES:
        values = predictive_values(sensitivity, specificity, prevalence)
        called, not_called = sensitivity + (1 - specificity) > 0, (1 - sensitivity) + specificity > 0
        rows.append((percent(prevalence, 0), values.ppv if called else None, values.npv if not_called else None))
    note = (
        f"By Bayes, from sensitivity and specificity at the threshold {run.threshold:.3f}; if these stay what they are."
    )
    return Table("Predictive values at other prevalences", ("Prevalence", "PPV", "NPV"), rows, note)


def calibration(run: FinishedRun) -> Section:
    """Makes the section of what probabilities are worth."""
    after = run.metrics["classification" if run.has_sides else "probabilities"]
    before = run.metrics.get("uncalibrated", {})
    rows = [
        (labels.label(name), *labels.estimates([name], before), *labels.estimates([name], after)) for name in before
    ]
    blocks = [Table("Before and after", ("Metric", "Before", "After"), rows, "Less is better.")] if rows else []
    scaling = run.metrics.get("calibration")
    if scaling:
        text = ""
        if "temperature" in scaling:
            text = (
                f"Logits are divided by {scaling['temperature']:.3f} (temperature, fitted on {scaling['fitted_on']:,} "
                "validation images)."
            )
        if any(scaling.get("shift", ())):
            shift = ", ".join(f"{value:.3f}" for value in scaling["shift"])
            text += f" Then {shift} is added (shift, from the shares of the classes in training, which were balanced)."
        chance = scaling.get("ece_by_chance")
        if chance:
            text += (
                f" Of perfect probabilities of as many images, the calibration error would by chance be "
                f"{Estimate(0.0, chance['low'], chance['high']).interval}."
            )
        blocks = [Text(text.strip()), *blocks]
    return Section("Calibration", [*blocks, *figures.find(run.figures, ("reliability",))])


def diagnoses(run: FinishedRun) -> Section:
    """Makes the section of diagnoses or own classes, which is empty unless the classifier names some."""
    is_own = bool(run.config.data.own_classes)
    what = "class" if is_own else "diagnosis"
    blocks: list[Block] = []
    if "melanoma" in run.metrics:
        note = "Of the probability of melanoma alone, over the images whose label says whether they are one."
        blocks.append(labels.metrics_table("Melanoma against all others", run.metrics["melanoma"], note))
    if "classes" in run.metrics:
        rows = [(name, *labels.estimates(_RANKED, ranked)) for name, ranked in run.metrics["classes"].items()]
        note = "Of the probability of each class, over all test images."
        blocks.append(Table("Each class against the rest", ("Class", *map(labels.label, _RANKED)), rows, note))
    if "diagnosis" in run.metrics:
        table = labels.metrics_table(
            f"{what.capitalize()} metrics", run.metrics["diagnosis"], "Of the most probable class."
        )
        blocks += [*figures.find(run.figures, ("classes", "diagnoses")), table]
    if "diagnosis_equal_shares" in run.metrics:
        note = "Of the class that would be the most probable one if all were equally frequent."
        section = run.metrics["diagnosis_equal_shares"]
        blocks.append(labels.metrics_table(f"{what.capitalize()} metrics at equal shares", section, note))
    confusion = run.metrics.get("confusion", {})
    if confusion:
        rows = [
            (name, *(given[other] for other in confusion), _right(name, given)) for name, given in confusion.items()
        ]
        note = f"Test images by their {what} (rows) and the one they are given (columns)."
        blocks.append(Table("Confusion", (what.capitalize(), *confusion, "Share right"), rows, note))
    return Section("Classes" if is_own else "Diagnoses", [*blocks, *([] if run.has_sides else _novelty(run))])


def _right(name: str, given: Mapping[str, int]) -> float | None:
    total = sum(given.values())
    return given[name] / total if total else None


def segmentation(run: FinishedRun) -> Section:
    """Makes the section of masks, which is empty where none is annotated."""
    if not run.metrics["segmentation"]:
        return Section("Segmentation", [])
    note = "Test images with an annotated mask, at its own size, before the bridge cleans the mask."
    table = labels.metrics_table("Segmentation metrics", run.metrics["segmentation"], note)
    names = ("overlays_worst", "overlays_random", "overlays_best")
    return Section("Segmentation", [table, *figures.find(run.figures, names)])


def subgroups(run: FinishedRun) -> Section:
    """Makes the section of parts of the images."""
    groups = run.metrics.get("subgroups", [])
    if not groups:
        return Section("Subgroups", [])
    classified, segmented = ("roc_auc", "sensitivity", "specificity"), ("dice", "failure_rate")
    rows: list[Sequence[Cell]] = []
    for group in groups:
        measured = labels.estimates(classified, group.get("classification", {}))
        measured += labels.estimates(segmented, group.get("segmentation", {}))
        value = f"{group['value']} (withheld)" if group["withheld"] else str(group["value"])
        rows.append((f"{group['fact']}: {value}", group["n"], group["positives"], group["groups"], *measured))
    headings = (
        "Subgroup",
        "Images",
        run.binary_names[1] if run.config.data.own_classes else run.binary_names[1].capitalize(),
        "Groups",
        *map(labels.label, classified + segmented),
    )
    smallest = run.config.evaluation.min_subgroup
    note = (
        f"Test images. Of subgroups below {smallest} images only the size is told, and nothing rests on "
        f"fewer than {MIN_CLASS} images of a class: a dash."
    )
    return Section("Subgroups", [*figures.find(run.figures, ("subgroups",)), Table("Subgroups", headings, rows, note)])


def failures(run: FinishedRun) -> Section:
    """Makes the section of the most certain errors, missed ones before false alarms, and of the worst masks."""
    overlaps = {line["image_id"]: float(line["dice"]) for line in run.overlaps}
    failed = [line for line in run.overlaps if float(line["jaccard"]) < FAILURE_JACCARD]
    failed.sort(key=lambda line: float(line["jaccard"]))
    segmented = [
        (line["image_id"], line["group"], float(line["dice"]), float(line["jaccard"])) for line in failed[:NUM_FAILURES]
    ]
    tables = [
        _missed(run, overlaps) if run.has_sides else _mistaken(run, overlaps),
        Table(
            "Failed segmentations",
            ("Image", "Group", "Dice", "Jaccard"),
            segmented,
            f"{_of(len(segmented), len(failed))} with a Jaccard index below {FAILURE_JACCARD}; "
            "segmentation.csv has all.",
        ),
    ]
    return Section("Failures", [table for table in tables if table.rows])


def _missed(run: FinishedRun, dice: Mapping[str, float]) -> Table:
    """Lists the images on the wrong side of the threshold."""
    wrong = [
        line for line in run.predictions if (float(line["probability"]) >= run.threshold) != (line["label"] == "1")
    ]
    wrong.sort(key=lambda line: (line["label"] == "0", -abs(float(line["probability"]) - run.threshold)))
    rows = [
        (
            line["image_id"],
            line["group"],
            run.binary_names[int(line["label"])],
            float(line["probability"]),
            dice.get(line["image_id"]),
        )
        for line in wrong[:NUM_FAILURES]
    ]
    note = f"{_of(len(rows), len(wrong))}; missed ones first, predictions.csv has all."
    headings = ("Image", "Group", "Label", f"Probability of '{run.binary_names[1]}'", "Dice")
    return Table("Misclassified", headings, rows, note)


def _mistaken(run: FinishedRun, dice: Mapping[str, float]) -> Table:
    """Lists the images that are called another class than theirs, where no class is looked for."""
    wrong = [line for line in run.predictions if line["decision"] != line["label"]]
    wrong.sort(key=lambda line: -float(line[line["decision"]]))
    rows = [
        (
            line["image_id"],
            line["group"],
            line["label"],
            line["decision"],
            float(line[line["decision"]]),
            dice.get(line["image_id"]),
        )
        for line in wrong[:NUM_FAILURES]
    ]
    note = f"{_of(len(rows), len(wrong))}; the surest first, predictions.csv has all."
    return Table("Misclassified", ("Image", "Group", "Label", "Called", "Probability of that", "Dice"), rows, note)


def _of(shown: int, there: int) -> str:
    return f"All {there:,}" if shown == there else f"{shown:,} of {there:,}"
