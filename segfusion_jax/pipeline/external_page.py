"""The page of a model on collections that it was not trained on, beside what it reached at home."""

import collections
import dataclasses
import datetime
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from segfusion_jax import __version__
from segfusion_jax.config import unplaced
from segfusion_jax.datasets.collections import READERS
from segfusion_jax.pipeline.external import External
from segfusion_jax.pipeline.stages import figures
from segfusion_jax.report import collapse, disclosure, labels, page, plots, results, text
from segfusion_jax.report.blocks import Details, Facts, Figure, Headline, Page, Section, Table, Text, percent
from segfusion_jax.report.cautions import MAX_ECE
from segfusion_jax.report.finished_run import FinishedRun, headlines
from segfusion_jax.runtime.atomic import write_text
from segfusion_jax.runtime.revision import revision
from segfusion_jax.serving.model_folder import Metadata, ModelFolder
from segfusion_jax.serving.segfusion import SegFusion

COMPARED = ("roc_auc", "ece", "sensitivity", "specificity", "dice")
"""What is compared with home: discrimination, calibration, the released operating point, segmentation."""
_TILES = 6


def write(
    folder: pathlib.Path,
    model: SegFusion,
    found: Mapping[pathlib.Path, External],
    *,
    photographs: bool,
    pseudonyms: str,
) -> None:
    """Writes `index.html`, the same as `summary.md`, and the figure that compares.

    Args:
      folder: is created.
      model: what was judged.
      found: what it was judged by, each with the folder that has its figures.
      photographs: whether pictures of patients are shown.
      pseudonyms: name of the file that says which ids are meant, where numbers stand for them; else "".
    """
    assert model.folder is not None  # where it was loaded from
    stated, externals = model.folder.metadata, list(found.values())
    runs = [_run(folder, model, external) for folder, external in found.items()]
    sections = [_data(externals)]
    if any(_estimates(external.metrics) for external in externals):
        figure = _drawn(folder / "figures" / "elsewhere.png", stated, externals)
        sections = [_compared(figure, stated, externals), *sections]
    for run in runs:
        sections += _results(run, alone=len(runs) == 1)
    sections.append(
        Section(
            "How it was made", [Facts(_facts(model, model.folder)), Details("Configuration", runs[0].config.to_json())]
        )
    )
    if not photographs:
        sections = disclosure.without_photographs(sections)
    content = Page(
        title=f"SegFusion on {' and '.join(run.collection for run in runs)}",
        verdict=_verdict(stated, runs),
        sample=_sample(runs),
        provenance=_provenance(model.folder),
        headlines=_headlines(stated, runs),
        warnings=[caution for run in runs for caution in _cautions(run, stated, alone=len(runs) == 1)],
        sections=[*sections, disclosure.disclosure(sections, pseudonyms=pseudonyms)],
    )
    page.write(folder / "index.html", content)
    write_text(folder / "summary.md", text.markdown(content, folder))


def draw(folder: pathlib.Path, model: SegFusion, external: External, *, resamples: int) -> None:
    """Draws what the model reaches on a collection into the folder's `figures`."""
    classified, folder = external.classified.judged, folder / "figures"
    for earlier in folder.glob("overlays_*.png"):  # which may not be wanted any more
        earlier.unlink()
    if "classification" in external.metrics:
        assert model.threshold is not None  # of a model that decides
        judged = plots.Judged(
            classified.sides, classified.probabilities, model.threshold, classified.groups, min(resamples, 1000)
        )
        names, subgroups = model.classifiers.classes.binary_names, external.metrics["subgroups"]
        figures.draw_scores(folder, judged, names, subgroups, own=model.classifiers.classes.own)
    if "diagnosis" in external.metrics:
        known = external.classified.where(external.classified.targets >= 0)
        own = model.classifiers.classes.own
        figures.draw_diagnoses(folder, known.targets, known.of_classes, model.classes, own=own)
    figures.draw_overlays(folder, external.overlays)


def home(metadata: Metadata) -> str:
    """Returns what the collections are called that a model learned from."""
    return " and ".join(one["title"] for one in metadata.data if "title" in one) or "its own collection"


def _run(folder: pathlib.Path, model: SegFusion, external: External) -> FinishedRun:
    """Returns what is known of one collection, as the sections of a run's page take it."""
    classified = external.classified.judged
    predictions = [
        {"image_id": row.image_id, "group": row.group, "label": str(side), "probability": repr(float(probability))}
        for row, side, probability in zip(
            classified.rows, classified.sides.tolist(), classified.probabilities, strict=True
        )
    ]
    overlaps = [
        {"image_id": row.image_id, "group": row.group} | {name: str(scores[name]) for name in ("dice", "jaccard")}
        for row, scores in external.overlaps
    ]
    return FinishedRun(
        config=unplaced(model.config),
        metrics={"segmentation": {}, **external.metrics},
        audit={},
        classes=model.classes,
        binary_names=model.classifiers.classes.binary_names if model.threshold is not None else (),
        collection=external.title,
        address=READERS[external.metrics["collection"]].ADDRESS,
        fallbacks=collections.Counter(external.fallbacks.values()),
        predictions=predictions if "classification" in external.metrics else [],
        overlaps=overlaps,
        figures=folder / "figures",
        provenance="",
        facts={},
    )


def _results(run: FinishedRun, *, alone: bool) -> list[Section]:
    """Returns the sections of one collection, which bear its name where there are several."""
    makers = [results.diagnoses, results.segmentation, results.failures]
    if "probabilities" in run.metrics:
        makers = [results.calibration, *makers]
    if "classification" in run.metrics:
        decided = [results.classification, results.operating_points, results.calibration]
        makers = [*decided, results.diagnoses, results.segmentation, results.subgroups, results.failures]
    sections = [make(run) for make in makers]
    named = (
        sections
        if alone
        else [dataclasses.replace(one, title=f"{_capital(run.collection)}: {one.title}") for one in sections]
    )
    return [one for one in named if one.blocks]


def _compared(figure: Figure, stated: Metadata, found: Sequence[External]) -> Section:
    rows = [(f"{home(stated)}, at home", stated.home_images or None, *labels.estimates(COMPARED, stated.home))]
    rows += [
        (f"{name}, at home", one["n"] or None, *labels.estimates(COMPARED, one["found"]))
        for name, one in stated.home_collections.items()
    ]
    for external in found:
        classified = external.metrics.get("classification", {})
        n = int(classified["n"]["value"]) if classified else len(external.overlaps)
        rows.append((external.title, n, *labels.estimates(COMPARED, _estimates(external.metrics))))
        rows += [
            (f"{external.title}, {name}", count, *labels.estimates(COMPARED, entries))
            for name, count, entries in _origins(external)
        ]
    note = (
        "At home: the model's own test images, as its metadata state it. Sensitivity and specificity at the threshold "
        "that it was released with. A calibration error is the better the smaller."
    )
    table = Table("At home and elsewhere", ("Images of", "Images", *map(labels.label, COMPARED)), rows, note)
    return Section("At home and elsewhere", [figure, table])


def _drawn(path: pathlib.Path, stated: Metadata, found: Sequence[External]) -> Figure:
    rows = [plots.Row(home(stated), _entries(stated.home), "At home", [stated.home_images])] if stated.home else []
    for external in found:
        classified = external.metrics.get("classification", {})
        n = int(classified["n"]["value"]) if classified else len(external.overlaps)
        rows.append(plots.Row(external.title, _entries(_estimates(external.metrics)), "Elsewhere", [n]))
    rows += [
        plots.Row(name, _entries(one["found"]), "At home, by collection", [one["n"]])
        for name, one in stated.home_collections.items()
    ]
    for external in found:
        heading = f"{external.title}, by origin"
        rows += [plots.Row(name, _entries(entries), heading, [count]) for name, count, entries in _origins(external)]
    references = [stated.home.get(name, {}).get("value") for name in COMPARED]
    plots.forest(path, rows, [labels.label(name) for name in COMPARED], references=references, counts=["Images"])
    told = "; ".join(
        f"{row.name}{' at home' if row.heading == 'At home' else ''} {row.entries[0]['value']:.3f}"
        for row in rows
        if "value" in row.entries[0]
    )
    caption = f"With 95 % intervals; the dotted line is what the model reached at home. ROC-AUC: {told or 'none'}."
    return Figure("Generalisation", caption, path)


def _origins(external: External) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    """Yields the origins in a collection that has several: name, number of images, and what is reached there."""
    for group in external.metrics.get("subgroups", []):
        if group["fact"] == "origin" and not group["withheld"]:
            yield group["value"], group["n"], {**group["classification"], **group["segmentation"]}


def _estimates(metrics: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    segmented = metrics.get("segmentation", {})
    return {**metrics.get("classification", {}), **({"dice": segmented["dice"]} if segmented else {})}


def _entries(found: Mapping[str, Mapping[str, float]]) -> list[Mapping[str, float]]:
    return [found.get(name, {}) for name in COMPARED]


def _verdict(stated: Metadata, runs: Sequence[FinishedRun]) -> str:
    parts = []
    for run in runs:
        measured = run.metrics.get("classification", {}).get("roc_auc")
        if measured:
            parts.append(f"ROC-AUC {_told(measured)} on {run.num_test:,} images of {run.collection}")
        if not run.has_sides and "diagnosis" in run.metrics:
            accuracy = _told(run.metrics["diagnosis"]["balanced_accuracy"])
            parts.append(f"balanced accuracy {accuracy} on {run.num_test:,} images of {run.collection}")
        if run.metrics["segmentation"]:
            dice = _told(run.metrics["segmentation"]["dice"])
            parts.append(f"mean Dice {dice} of {len(run.overlaps):,} annotated images of {run.collection}")
    at_home = stated.home.get("roc_auc")
    reached = f" At home its ROC-AUC was {_told(at_home)}." if at_home else ""
    return f"A model of {home(stated)}, on images that it was not trained on: {'; '.join(parts)}.{reached}"


def _told(entry: Mapping[str, float]) -> str:
    shown = labels.estimate("roc_auc", entry)
    return f"{shown.value:.3f}" + (f" ({shown.interval})" if shown.interval else "")


def _sample(runs: Sequence[FinishedRun]) -> str:
    return " · ".join(
        f"{run.collection}: {run.num_test:,} images classified, {run.num_positive:,} of them {run.binary_names[1]}"
        for run in runs
        if "classification" in run.metrics
    )


def _headlines(stated: Metadata, runs: Sequence[FinishedRun]) -> list[Headline]:
    reached = stated.home.get("roc_auc")
    at_home = [Headline("ROC-AUC at home", labels.estimate("roc_auc", reached))] if reached else []
    if len(runs) == 1:
        is_judged = "classification" in runs[0].metrics or not runs[0].has_sides
        own = headlines(runs[0]) if is_judged else []
        return [*at_home, *own][:_TILES]
    areas = [
        Headline(f"ROC-AUC, {run.collection}", labels.estimate("roc_auc", run.metrics["classification"]["roc_auc"]))
        for run in runs
        if "classification" in run.metrics
    ]
    return [*at_home, *areas][:_TILES]


def _cautions(run: FinishedRun, stated: Metadata, *, alone: bool) -> Iterator[str]:
    """Yields what a reader must know of one collection, the gravest first."""
    of = "" if alone else f"{_capital(run.collection)}: "
    if "classification" in run.metrics:
        told = [
            *collapse.collapsed(run),
            *_worse(run, stated),
            *_uncalibrated(run),
            *collapse.few(run),
            *collapse.moved(run),
            *collapse.unfamiliar(run),
        ]
        yield from (f"{of}{sentence}" for sentence in told)
    else:
        why = "no images of both kinds are labelled" if run.has_sides else "none of the model's classes is looked for"
        yield f"{of}Decisions cannot be judged: {why}."
    yield from (f"{of}{sentence}" for sentence in _unknown(run))
    if run.metrics["left_out"]:
        counts = ", ".join(f"{count:,} {reason}" for reason, count in run.metrics["left_out"].items())
        yield f"{of}Images that the model was trained on or chosen by, and their relatives, are left out: {counts}."


def _unknown(run: FinishedRun) -> Iterator[str]:
    """Yields how many of the model's images are known by their ids alone."""
    if count := run.metrics.get("without_hash", 0):
        yield (
            f"Of {count:,} images that the model was trained on or chosen by it carries no hash of their looks: copies "
            "of them under other names are not left out."
        )


def _worse(run: FinishedRun, stated: Metadata) -> Iterator[str]:
    """Yields where the interval lies wholly on the wrong side of what was reached at home."""
    found = _estimates(run.metrics)
    for name in ("roc_auc", "sensitivity", "specificity", "dice"):
        at_home, here = stated.home.get(name, {}).get("value"), found.get(name, {})
        if at_home is not None and here.get("high", 1.0) < at_home:
            yield (
                f"{labels.label(name)} is {_told(here)}, wholly below the {at_home:.3f} at home: "
                "what was reached there does not hold here."
            )


def _uncalibrated(run: FinishedRun) -> Iterator[str]:
    error = run.metrics["classification"].get("ece")
    if error and error["value"] > MAX_ECE:
        yield (
            f"The probabilities are not shown to be calibrated here: expected calibration error {error['value']:.2f}. "
            "Rank by them, but do not read them as risks."
        )


def _data(found: Sequence[External]) -> Section:
    rows = []
    for external in found:
        sides = external.classified.sides
        flagged = labels.estimate("flagged", external.metrics["novelty"]["flagged"])
        rows.append(
            (
                external.title,
                len(external.rows),
                len({row.group for row in external.rows}),
                int((sides >= 0).sum()),
                int((sides == 1).sum()),
                len(external.overlaps),
                sum(external.metrics["left_out"].values()),
                flagged,
            )
        )
    headings = ("Collection", "Images", "Groups", "Labelled", "Positive", "Annotated", "Left out as seen", "Unfamiliar")
    note = "Unfamiliar: share of images that are unlike those that the model was trained on."
    texts = [
        Text(f"{_capital(external.title)}: called {name} by the labels: {_counted(counts)}.")
        for external in found
        for name, counts in external.metrics["target"].items()
        if counts
    ]
    return Section("Data", [Table("Images by collection", headings, rows, note), *texts])


def _capital(title: str) -> str:
    return f"{title[:1].upper()}{title[1:]}"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _provenance(folder: ModelFolder) -> str:
    code = f"segfusion_jax {__version__}, commit {revision() or 'not known'}"
    today = datetime.date.today().isoformat()
    return f"Model {folder.digest[:16]} (SHA-256 of its manifest.json) · {code} · {today}"


def _facts(model: SegFusion, folder: ModelFolder) -> dict[str, str]:
    files, decided = {"manifest.json": folder.digest, **folder.files}, {}
    if model.threshold is not None and model.prevalence is not None:
        decided["Threshold"] = f"{model.threshold:.3f}, that of the model"
        decided["Prevalence"] = f"{percent(model.prevalence)}, for which the probabilities hold"
    return {
        **decided,
        "Model (SHA-256)": ", ".join(f"{name} {digest}" for name, digest in files.items()),
        "Licences": "; ".join(f"{one.get('title', '')}: {one.get('licence', '')}" for one in folder.metadata.data),
    }
