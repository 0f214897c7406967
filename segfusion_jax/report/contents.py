"""The page of a run: its sections, each from what the run knows."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

from segfusion_jax.report import disclosure, figures, labels, results
from segfusion_jax.report.blocks import (
    Block,
    Details,
    Estimate,
    Facts,
    Flow,
    Page,
    Section,
    Step,
    Table,
    Text,
)
from segfusion_jax.report.cautions import cautions
from segfusion_jax.report.checklist import ANSWERED, AUTHORS, PARTLY, checklist
from segfusion_jax.report.collection_table import by_collection
from segfusion_jax.report.finished_run import FinishedRun, headlines, sample, verdict


def page(run: FinishedRun) -> Page:
    """Makes the page of what the run came to, from the verdict to the config and what all of it gives away."""
    sections = _sections(run) if run.photographs else disclosure.without_photographs(_sections(run))
    return Page(
        title=f"SegFusion on {run.collection}",
        verdict=verdict(run),
        sample=sample(run),
        provenance=run.provenance,
        headlines=headlines(run),
        warnings=cautions(run),
        sections=[*sections, disclosure.disclosure(sections, pseudonyms=run.pseudonyms)],
    )


def _sections(run: FinishedRun) -> list[Section]:
    return [
        _data(run),
        *([results.classification(run), results.operating_points(run)] if run.has_sides else []),
        results.calibration(run),
        results.diagnoses(run),
        results.segmentation(run),
        _pictures(run),
        by_collection(run),
        results.subgroups(run),
        results.failures(run),
        Section("Training", figures.training(run.figures)),
        _checklist(run),
        Section("How it was made", [Facts(run.facts), Details("Configuration", run.config.to_json())]),
    ]


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
            _counts(splits, run.config.data.own_classes),
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


def _counts(splits: Mapping[str, Any], own: Sequence[str]) -> Table:
    targets = list(dict.fromkeys(name for counts in splits.values() for name in _targets(counts)))
    rows = [
        (
            split.replace("_", " ").capitalize(),
            *(counts[name] for name in ("images", "groups", "with_mask")),
            *(_targets(counts).get(name, 0) for name in targets),
        )
        for split, counts in splits.items()
    ]
    headings = (
        "Split",
        "Images",
        "Groups",
        "With annotated mask",
        *(name if name in own else name.capitalize() for name in targets),
    )
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
    if not rows:
        return []
    sides = f"{run.binary_names[1]} against {run.binary_names[0]}" if run.config.data.own_classes else ""
    note = (
        f"ROC-AUC, {sides or 'malignant against benign'}, of single facts that do not show in the lesion; 0.5 = chance."
    )
    return [Table("Shortcuts", ("Fact", "ROC-AUC"), rows, note)]


def _reading(run: FinishedRun) -> list[Table | Text]:
    """Says how a folder was understood, and lists what lies there and was not read."""
    told = " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in run.audit.get("read_as", []))
    rows = [
        (
            what.capitalize(),
            names["count"],
            ", ".join([*names["first"], *["..."] * (names["count"] > len(names["first"]))]),
        )
        for what, names in run.audit.get("passed_over", {}).items()
    ]
    table = Table("What was not read", ("What", "Count", "Names"), rows)
    return [*([Text(f"How the images were read. {told}")] if told else []), *([table] if rows else [])]


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
