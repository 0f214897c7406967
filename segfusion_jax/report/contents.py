"""The page of a run: its sections, each from what the run knows."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

from segfusion_jax.evaluation.classification import predictive_values
from segfusion_jax.evaluation.segmentation import FAILURE_JACCARD
from segfusion_jax.evaluation.subgroups import MIN_CLASS
from segfusion_jax.report import figures, labels
from segfusion_jax.report.blocks import (
    Block,
    Cell,
    Details,
    Estimate,
    Facts,
    Flow,
    Page,
    Section,
    Step,
    Table,
    Text,
    percent,
)
from segfusion_jax.report.cautions import cautions
from segfusion_jax.report.checklist import ANSWERED, AUTHORS, PARTLY, checklist
from segfusion_jax.report.collection_table import by_collection
from segfusion_jax.report.finished_run import FinishedRun, headlines, sample, verdict

NUM_FAILURES = 50
"""Rows of each table of failures; the files in evaluation/ have all."""
PREVALENCES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Shares of positive images at which predictive values are told."""


def page(run: FinishedRun) -> Page:
    """Makes the page of what the run came to, from the verdict to the config."""
    return Page(
        title=f"SegFusion on {run.collection}",
        verdict=verdict(run),
        sample=sample(run),
        provenance=run.provenance,
        headlines=headlines(run),
        warnings=cautions(run),
        sections=[
            _data(run),
            _classification(run),
            _operating_points(run),
            _calibration(run),
            _diagnoses(run),
            _segmentation(run),
            _pictures(run),
            by_collection(run),
            _subgroups(run),
            _failures(run),
            Section("Training", figures.training(run.figures)),
            _checklist(run),
            Section("How it was made", [Facts(run.facts), Details("Configuration", run.config.to_json())]),
        ],
    )


def _data(run: FinishedRun) -> Section:
    splits = run.audit["splits"]
    parts = [
        Step(name, _images(splits, name), note=_inside(splits[name]))
        for name in ("train", "validation", "test")
        if name in splits
    ]
    return Section(
        "Data",
        [
            Flow(_steps(run), parts),
            _counts(splits),
            *_collections(run),
            *_leakage(run),
            *_shortcuts(run),
            *_reading(run),
        ],
    )


def _steps(run: FinishedRun) -> list[Step]:
    """Returns the steps from the images found to those that take part, where there is a difference."""
    audit, splits = run.audit, run.audit["splits"]
    unusable = {f"left out: {kind}": count for kind, count in audit["left_out"].items()}
    apart = {
        "unused: repeat or contradict another picture, or are relatives of an official test set": _images(
            splits, "unused"
        ),
        "official test set, kept apart": _images(splits, "official_test"),
    }
    usable = Step("usable images", audit["images"], f"{audit['groups']:,} groups", apart)
    if unusable:
        steps = [Step("images found", audit["images"] + sum(unusable.values()), leaving=unusable), usable]
    else:
        steps = [usable._replace(name="images found, all usable")]
    if any(apart.values()):
        steps.append(Step("images take part", audit["images"] - sum(apart.values())))
    return steps


def _images(splits: Mapping[str, Any], name: str) -> int:
    return splits.get(name, {}).get("images", 0)


def _inside(counts: Mapping[str, Any]) -> str:
    targets = ", ".join(f"{count:,} {name}" for name, count in _targets(counts).items() if count)
    return f"{counts['groups']:,} groups: {targets}"


def _targets(counts: Mapping[str, Any]) -> dict[str, int]:
    return {"without label" if name == "none" else name: count for name, count in counts["targets"].items()}


def _counts(splits: Mapping[str, Any]) -> Table:
    targets = list(dict.fromkeys(name for counts in splits.values() for name in _targets(counts)))
    rows = [
        (
            split.replace("_", " ").capitalize(),
            *(counts[name] for name in ("images", "groups", "with_mask")),
            *(_targets(counts).get(name, 0) for name in targets),
        )
        for split, counts in splits.items()
    ]
    headings = ("Split", "Images", "Groups", "With annotated mask", *(name.capitalize() for name in targets))
    return Table("Images by split", headings, rows)


def _collections(run: FinishedRun) -> list[Table]:
    found = run.audit.get("collections", {})
    if len(found) < 2:
        return []
    rows = [
        (name, counts["use"], counts["images"], counts["groups"], counts["joined_elsewhere"])
        for name, counts in found.items()
    ]
    headings = ("Collection", "For", "Images", "Groups", "Groups with images of others")
    same, finer = run.audit["joined"]["same id"], run.audit["exact_labels"]
    note = f"{same:,} images stand in several collections; {finer:,} have a finer label from another one."
    return [Table("Images by collection", headings, rows, note)]


def _leakage(run: FinishedRun) -> list[Table]:
    here, at_random = (run.audit["relatives_in_training"][name] for name in ("this_split", "random_split"))
    rows = [(name.capitalize(), _share(here[name]), _share(at_random[name])) for name in here]
    note = (
        "Share of test images with relatives in training or validation, and expected had images been dealt one by one."
    )
    return [Table("Leakage", ("Relation", "This split (%)", "At random (%)"), rows, note)]


def _share(value: float) -> Estimate:
    return Estimate(100 * value, digits=1)


def _shortcuts(run: FinishedRun) -> list[Table]:
    rows = [(name.capitalize(), auc) for name, auc in run.audit["shortcuts"].items()]
    note = "ROC-AUC, malignant against benign, of single facts that do not show in the lesion; 0.5 = chance."
    return [Table("Shortcuts", ("Fact", "ROC-AUC"), rows, note)] if rows else []


def _reading(run: FinishedRun) -> list[Table | Text]:
    """Says how a folder was understood, and lists what lies there and was not read."""
    told = " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in run.audit.get("read_as", []))
    rows = [
        (
            what.capitalize(),
            names["count"],
            ", ".join(names["first"]) + ", ..." * (names["count"] > len(names["first"])),
        )
        for what, names in run.audit.get("passed_over", {}).items()
    ]
    table = Table("What was not read", ("What", "Count", "Names"), rows)
    return [*([Text(f"How the images were read. {told}")] if told else []), *([table] if rows else [])]


def _classification(run: FinishedRun) -> Section:
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


def _operating_points(run: FinishedRun) -> Section:
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
        "reaches on test images stands here. Predictive "
        f"values hold at the prevalence of the test images, {percent(run.prevalence)}."
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


def _calibration(run: FinishedRun) -> Section:
    before, after = run.metrics.get("uncalibrated", {}), run.metrics["classification"]
    rows = [
        (labels.label(name), *labels.estimates([name], before), *labels.estimates([name], after)) for name in before
    ]
    blocks = [Table("Before and after", ("Metric", "Before", "After"), rows, "Less is better.")] if rows else []
    scaling = run.metrics.get("calibration")
    if scaling:
        text = (
            f"Logits are divided by {scaling['temperature']:.3f} (temperature, fitted on {scaling['fitted_on']:,} "
            "validation images)."
        )
        if any(scaling["shift"]):
            shift = ", ".join(f"{value:.3f}" for value in scaling["shift"])
            text += f" Then {shift} is added (shift, from the shares of the classes in training, which were balanced)."
        chance = scaling.get("ece_by_chance")
        if chance:
            text += (
                f" Of perfect probabilities of as many images, the calibration error would by chance be "
                f"{Estimate(0.0, chance['low'], chance['high']).interval}."
            )
        blocks = [Text(text), *blocks]
    return Section("Calibration", [*blocks, *figures.find(run.figures, ("reliability",))])


def _diagnoses(run: FinishedRun) -> Section:
    """Makes the section of diagnoses, which is empty unless the classifier names some."""
    blocks: list[Block] = []
    if "melanoma" in run.metrics:
        note = "Of the probability of melanoma alone, over the images whose label says whether they are one."
        blocks.append(labels.metrics_table("Melanoma against all others", run.metrics["melanoma"], note))
    if "diagnosis" in run.metrics:
        table = labels.metrics_table("Diagnosis metrics", run.metrics["diagnosis"], "Of the most probable class.")
        blocks += [*figures.find(run.figures, ("diagnoses",)), table]
    if "diagnosis_equal_shares" in run.metrics:
        note = "Of the class that would be the most probable one if all were equally frequent."
        section = run.metrics["diagnosis_equal_shares"]
        blocks.append(labels.metrics_table("Diagnosis metrics at equal shares", section, note))
    confusion = run.metrics.get("confusion", {})
    if confusion:
        rows = [
            (name, *(given[other] for other in confusion), _right(name, given)) for name, given in confusion.items()
        ]
        note = "Test images by their diagnosis (rows) and the one they are given (columns)."
        blocks.append(Table("Confusion", ("Diagnosis", *confusion, "Share right"), rows, note))
    return Section("Diagnoses", blocks)


def _right(name: str, given: Mapping[str, int]) -> float | None:
    total = sum(given.values())
    return given[name] / total if total else None


def _segmentation(run: FinishedRun) -> Section:
    if not run.metrics["segmentation"]:
        return Section("Segmentation", [])
    note = "Test images with an annotated mask, at its own size, before the bridge cleans the mask."
    table = labels.metrics_table("Segmentation metrics", run.metrics["segmentation"], note)
    names = ("overlays_worst", "overlays_random", "overlays_best")
    return Section("Segmentation", [table, *figures.find(run.figures, names)])


def _pictures(run: FinishedRun) -> Section:
    blocks: list[Block] = [*figures.find(run.figures, ("false_negatives", "grad_cam"))]
    if run.metrics.get("explanation"):
        note = (
            "Share of the Grad-CAM evidence, for and against, within the lesion's mask, beside the mask's share of the "
            "picture."
        )
        blocks.append(labels.metrics_table("Evidence", run.metrics["explanation"], note))
    blocks += figures.find(run.figures, ("bridge_panels", "augmentation"))
    return Section("Pictures", blocks + figures.others(run.figures))


def _subgroups(run: FinishedRun) -> Section:
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
        run.binary_names[1].capitalize(),
        "Groups",
        *map(labels.label, classified + segmented),
    )
    smallest = run.config.evaluation.min_subgroup
    note = (
        f"Test images. Of subgroups below {smallest} images only the size is told, and nothing rests on "
        f"fewer than {MIN_CLASS} images of a class: a dash."
    )
    return Section("Subgroups", [*figures.find(run.figures, ("subgroups",)), Table("Subgroups", headings, rows, note)])


def _failures(run: FinishedRun) -> Section:
    """Makes the section of the most certain errors, missed ones before false alarms, and of the worst masks."""
    overlaps = {line["image_id"]: line for line in run.overlaps}
    wrong = [
        line for line in run.predictions if (float(line["probability"]) >= run.threshold) != (line["label"] == "1")
    ]
    wrong.sort(key=lambda line: (line["label"] == "0", -abs(float(line["probability"]) - run.threshold)))
    failed = [line for line in run.overlaps if float(line["jaccard"]) < FAILURE_JACCARD]
    failed.sort(key=lambda line: float(line["jaccard"]))
    classified = [
        (
            line["image_id"],
            line["group"],
            run.binary_names[int(line["label"])],
            float(line["probability"]),
            float(overlaps[line["image_id"]]["dice"]) if line["image_id"] in overlaps else None,
        )
        for line in wrong[:NUM_FAILURES]
    ]
    segmented = [
        (line["image_id"], line["group"], float(line["dice"]), float(line["jaccard"])) for line in failed[:NUM_FAILURES]
    ]
    tables = [
        Table(
            "Misclassified",
            ("Image", "Group", "Label", f"Probability of '{run.binary_names[1]}'", "Dice"),
            classified,
            f"{_of(len(classified), len(wrong))}; missed ones first, evaluate/predictions.csv has all.",
        ),
        Table(
            "Failed segmentations",
            ("Image", "Group", "Dice", "Jaccard"),
            segmented,
            f"{_of(len(segmented), len(failed))} with a Jaccard index below {FAILURE_JACCARD}; "
            "score/segmentation.csv has all.",
        ),
    ]
    return Section("Failures", [table for table in tables if table.rows])


def _of(shown: int, there: int) -> str:
    return f"All {there:,}" if shown == there else f"{shown:,} of {there:,}"


def _checklist(run: FinishedRun) -> Section:
    items = checklist(run)
    rows = [(item.topic, item.status, item.answer, item.guidelines) for item in items]
    counts = collections.Counter(item.status for item in items)
    intro = (
        "What reviewers ask for, by CLAIM (2024 update) and TRIPOD+AI, as far as a run can tell. Topics are in our own "
        f"words; numbers are those of TRIPOD+AI's items. Of {len(items)} topics {counts[ANSWERED]} are answered by "
        f"this run, {counts[PARTLY]} partly, and {counts[AUTHORS]} are for the authors."
    )
    return Section("Checklist", [Table("Items", ("Topic", "Status", "Answer", "Guideline"), rows)], intro)
