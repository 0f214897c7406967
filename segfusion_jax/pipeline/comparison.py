"""Several finished runs side by side: what each reached, and how much better than a reference on the same test images.

Where the test images are the same, a difference is paired: each resample of the groups is scored for both runs.
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from segfusion_jax.config import Data, flatten, unplaced
from segfusion_jax.evaluation import bootstrap, weighted
from segfusion_jax.evaluation.weighted import Statistic
from segfusion_jax.pipeline.run import Run
from segfusion_jax.report import labels, page, plots, text
from segfusion_jax.report.blocks import Block, Figure, Page, Section, Table, Text, percent
from segfusion_jax.report.collapse import SPREAD
from segfusion_jax.runtime.atomic import write_text

MIN_POSITIVES = 100
"""Positive test images; with fewer, sensitivity is known to some 0.1 at best."""
METRICS = ("roc_auc", "pr_auc", "balanced_accuracy", "sensitivity", "specificity", "brier", "dice")
"""What is compared, in the order shown; the last one of masks, the others of the classifier."""

DRAWN = ("roc_auc", "pr_auc", "balanced_accuracy")
"""Whose differences are drawn."""


@dataclasses.dataclass(frozen=True)
class Scores:
    """What a finished run says of its test images.

    Attributes:
      image_ids: [n].
      groups: [n].
      labels: [n] bool, malignant.
      fields: what runs may differ in: values of the config by their dotted names, content of files, versions.
      spread: distance of the least from the largest probability of malignancy.
      statistics: the metrics of METRICS, as functions of the images' weights [resamples, n].
    """

    image_ids: tuple[str, ...]
    groups: tuple[str, ...]
    labels: np.ndarray
    fields: Mapping[str, Any]
    spread: float
    statistics: Mapping[str, Statistic]

    def matches(self, other: "Scores") -> bool:
        """Returns whether both are of the same images with the same labels."""
        return self.image_ids == other.image_ids and np.array_equal(self.labels, other.labels)


def check_sides(data: Data) -> None:
    """Checks that there are decisions of two kinds, which are what is compared.

    Raises:
      ValueError: none of somebody's own classes is looked for.
    """
    if data.own_classes and not data.own_positive:
        raise ValueError(
            f"data.positive = '': must name those of data.classes = {data.classes!r} that are looked for, since runs "
            "are compared by decisions of two kinds"
        )


def read(run: Run) -> Scores:
    """Returns the scores of a run.

    Raises:
      FileNotFoundError: the run is not evaluated.
      ValueError: as `check_sides`.
    """
    if not run.done("evaluate"):
        raise FileNotFoundError(f"{run.workdir}: its stage 'evaluate' is not done: compare runs that are evaluated")
    check_sides(run.config.data)
    threshold = run.read_metrics()["classification"]["threshold"]["value"]
    lines = sorted(run.read_predictions(), key=lambda line: line["image_id"])
    labels = np.array([line["label"] == "1" for line in lines])
    probabilities = np.array([float(line["probability"]) for line in lines])
    statistics = dict(weighted.classification_statistics(labels, probabilities, threshold))
    overlaps = {line["image_id"]: float(line["dice"]) for line in run.read_scores()}
    dice = np.array([overlaps.get(line["image_id"], np.nan) for line in lines])
    if not np.isnan(dice).all():  # annotated may be images of another collection only, which are not classified
        statistics["dice"] = weighted.mean(dice)
    return Scores(
        tuple(line["image_id"] for line in lines),
        tuple(line["group"] for line in lines),
        labels,
        _fields_of(run),
        float(np.ptp(probabilities)),
        {name: statistics[name] for name in METRICS if name in statistics},
    )


def _fields_of(run: Run) -> dict[str, Any]:
    """Returns config, data and versions of a run, without where anything lies."""
    settings = run.read_settings() or {}
    files = {f"content of {name}": digest[:16] for name, digest in settings.get("files", {}).items()}
    versions = {f"version of {name}": version for name, version in settings.get("versions", {}).items()}
    return {**flatten(dataclasses.asdict(unplaced(run.config))), **files, **versions}


def compare(runs: Mapping[str, Sequence[Run]], reference: str, *, resamples: int = 2000) -> dict[str, dict[str, dict]]:
    """Returns the metrics of runs, with 95 % intervals over groups, and their differences to a reference.

    Args:
      runs: what is compared, by name; several of one name are repeats with other seeds, whose mean is taken.
      reference: name of the run that the others are compared with.
      resamples: number of resamples of the groups.

    Returns:
      For each run `n`, `prevalence`, `repeats` and `spread` (of its probabilities, the least of the repeats'); `fields`
      of config, data and versions in which runs differ; `metrics`: entries
      `value`, `low`, `high`, and with repeats `deviation`, the standard deviation among them; and, where the test
      images are the reference's, `differences`: entries of run less reference.

    Raises:
      FileNotFoundError: a run is not evaluated.
      ValueError: the repeats of a run are of different images, or `reference` is none of the runs.
    """
    if reference not in runs:
        raise ValueError(f"reference = {reference!r}: must be one of {', '.join(runs)}")
    scores = {name: [read(run) for run in repeats] for name, repeats in runs.items()}
    for name, repeats in scores.items():
        if not all(repeats[0].matches(other) for other in repeats):
            raise ValueError(f"the repeats of {name!r} are of different test images")
    fields = {name: repeats[0].fields for name, repeats in scores.items()}
    known = dict.fromkeys(name for of in fields.values() for name in of)
    differing = [name for name in known if len({repr(of.get(name)) for of in fields.values()}) > 1]
    return {
        name: {"fields": {field: fields[name].get(field) for field in differing}}
        | _compared(repeats, scores[reference], resamples)
        for name, repeats in scores.items()
    }


def write(folder: pathlib.Path, compared: Mapping[str, Mapping[str, Any]], reference: str, *, title: str) -> None:
    """Writes `comparison.json`, `index.html`, the same as `summary.md`, and `figures/` into `folder`.

    Args:
      folder: is created.
      compared: result of `compare`.
      reference: name of the run that the others are compared with.
      title: title of the page.
    """
    figures = folder / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    write_text(folder / "comparison.json", json.dumps({"reference": reference, "runs": compared}, indent=2) + "\n")
    content = Page(
        title=title,
        verdict=verdict(compared, reference),
        sample=_sample(compared),
        warnings=_warnings(compared, reference),
        sections=[
            Section("Differences", _differences(figures, compared, reference)),
            Section("Each run", [_values(compared), _drawn_values(figures, compared), *_fields(compared)]),
        ],
    )
    page.write(folder / "index.html", content)
    write_text(folder / "summary.md", text.markdown(content, folder))


def verdict(compared: Mapping[str, Mapping[str, Any]], reference: str) -> str:
    """Says which runs are better or worse than the reference by ROC-AUC, beyond the interval of the difference."""
    differences = {name: run["differences"]["roc_auc"] for name, run in compared.items() if "differences" in run}
    if not differences:
        return f"No run has the test images of '{reference}': each stands for itself."
    better = [name for name, entry in differences.items() if entry.get("low", 0) > 0]
    worse = [name for name, entry in differences.items() if entry.get("high", 0) < 0]
    level = [name for name in differences if name not in better and name not in worse]
    parts = [
        f"{verb} '{reference}': {', '.join(f'{name} ({_signed(differences[name])})' for name in names)}"
        for verb, names in (("better than", better), ("not told apart from", level), ("worse than", worse))
        if names
    ]
    return f"By ROC-AUC, with 95 % intervals of the paired differences: {'; '.join(parts)}."


def _signed(entry: Mapping[str, float]) -> str:
    low, high = entry.get("low"), entry.get("high")
    interval = "no interval" if low is None or high is None else f"{low:+.3f} to {high:+.3f}"
    return f"{entry['value']:+.3f}, {interval}"


def _sample(compared: Mapping[str, Mapping[str, Any]]) -> str:
    sizes = dict.fromkeys((run["n"], percent(run["prevalence"])) for run in compared.values())
    return " or ".join(f"{n:,} test images, {share} malignant" for n, share in sizes)


def _warnings(compared: Mapping[str, Mapping[str, Any]], reference: str) -> list[str]:
    warnings = [*_degenerate(compared), *_differing_data(compared)]
    warnings += ["Each interval stands for itself: among many comparisons one in twenty excludes 0 by chance."]
    if all(run["repeats"] == 1 for run in compared.values()):
        warnings.append(
            "Each classifier was trained once: intervals tell what other test images would change, not what another "
            "seed would."
        )
    deviations = [
        f"{name} {run['metrics']['roc_auc']['deviation']:.3f}" for name, run in compared.items() if run["repeats"] > 1
    ]
    if deviations:
        warnings.append(
            "Metrics are means over classifiers with other seeds; intervals tell what other test images would change, "
            f"not what other seeds would. Standard deviation of ROC-AUC among seeds: {', '.join(deviations)}."
        )
    few = min(round(run["n"] * run["prevalence"]) for run in compared.values())
    if few < MIN_POSITIVES:
        warnings.append(f"Only {few} test images are malignant: small differences cannot be seen.")
    strangers = [name for name, run in compared.items() if name != reference and "differences" not in run]
    if strangers:
        warnings.append(f"Of other test images than '{reference}', and not compared with it: {', '.join(strangers)}.")
    return warnings


def _degenerate(compared: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yields which runs have learned little, whatever their differences say."""
    alike = [name for name, run in compared.items() if run["spread"] < SPREAD]
    if alike:
        yield f"Says nearly the same of every image, so that comparing it is nearly chance: {', '.join(alike)}."
    chance = [name for name, run in compared.items() if run["metrics"]["roc_auc"].get("low", 1.0) <= 0.5]
    if chance:
        yield f"The interval of the ROC-AUC includes 0.5, so that it may be no better than chance: {', '.join(chance)}."


def _differing_data(compared: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yields that more differs than a config says."""
    names = next(iter(compared.values()))["fields"]
    if any(name.startswith("content of ") for name in names):
        yield "The runs were made of other files: differences may be those of the data."
    if any(name.startswith("version of ") for name in names):
        yield "The runs were made by other versions of the code or its libraries: differences may be theirs."


def _differences(figures: pathlib.Path, compared: Mapping[str, Mapping[str, Any]], reference: str) -> list[Block]:
    pairs = {name: run["differences"] for name, run in compared.items() if "differences" in run}
    if not pairs:
        return []
    names = [name for name in METRICS if name in next(iter(pairs.values()))]
    rows = [(run, *labels.estimates(names, entries)) for run, entries in pairs.items()]
    table = Table(
        f"Difference to '{reference}'",
        ("Run", *map(labels.label, names)),
        rows,
        "Paired, over the same resamples of groups. Of the Brier score less is better.",
    )
    drawn = [plots.Row(run, [entries[name] for name in DRAWN]) for run, entries in pairs.items()]
    plots.forest(
        figures / "differences.png", drawn, [f"Δ {labels.label(name)}" for name in DRAWN], references=[0.0] * len(DRAWN)
    )
    caption = f"Each run compared with '{reference}', 95 % intervals; right of the line is better."
    return [Figure("Differences", caption, figures / "differences.png"), table]


def _compared(repeats: Sequence[Scores], reference: Sequence[Scores], resamples: int) -> dict:
    first, once = repeats[0], np.ones((1, len(repeats[0].labels)))
    means = _means(repeats)
    singles = {name: [float(scores.statistics[name](once)[0]) for scores in repeats] for name in means}
    metrics = bootstrap.entries(
        {name: float(np.mean(values)) for name, values in singles.items()}, means, first.groups, resamples=resamples
    )
    if len(repeats) > 1:
        for name, values in singles.items():
            metrics[name]["deviation"] = float(np.std(values, ddof=1))
    compared = {
        "n": len(first.labels),
        "prevalence": float(first.labels.mean()),
        "repeats": len(repeats),
        "spread": min(scores.spread for scores in repeats),
        "metrics": metrics,
    }
    if repeats is not reference and first.matches(reference[0]):
        theirs = _means(reference)
        both = {name: bootstrap.difference(means[name], theirs[name]) for name in means if name in theirs}
        values = {name: float(statistic(once)[0]) for name, statistic in both.items()}
        compared["differences"] = bootstrap.entries(values, both, first.groups, resamples=resamples)
    return compared


def _means(repeats: Sequence[Scores]) -> dict[str, Statistic]:
    """Returns the mean of each metric over repeats."""

    def mean(name: str) -> Statistic:
        return lambda weights: np.mean([scores.statistics[name](weights) for scores in repeats], axis=0)

    return {name: mean(name) for name in repeats[0].statistics}


def _values(compared: Mapping[str, Mapping[str, Any]]) -> Table:
    names = [name for name in METRICS if any(name in run["metrics"] for run in compared.values())]
    rows = [
        (name, run["n"], percent(run["prevalence"]), *labels.estimates(names, run["metrics"]))
        for name, run in compared.items()
    ]
    return Table("Metrics", ("Run", "Test images", "Malignant", *map(labels.label, names)), rows)


def _drawn_values(figures: pathlib.Path, compared: Mapping[str, Mapping[str, Any]]) -> Figure:
    rows = [plots.Row(name, [run["metrics"][metric] for metric in DRAWN]) for name, run in compared.items()]
    plots.forest(figures / "values.png", rows, [labels.label(name) for name in DRAWN])
    return Figure("Values", "Each run with 95 % intervals.", figures / "values.png")


def _fields(compared: Mapping[str, Mapping[str, Any]]) -> list[Table | Text]:
    names = list(next(iter(compared.values()))["fields"])
    rows = [(run, *(str(of["fields"][name]) for name in names)) for run, of in compared.items()]
    if not names:
        return [Text("Config, data and versions of all runs are the same.")]
    note = "Of config, content of files (SHA-256, the first 16 digits) and versions; where files lie is left out."
    return [Table("What differs", ("Run", *names), rows, note)]
