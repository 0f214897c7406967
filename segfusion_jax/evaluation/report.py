"""The report of a run: one HTML page that holds everything it shows, and the table of metrics in plain text."""

import base64
import dataclasses
import html
import importlib.resources
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

Metrics = Mapping[
    str, Mapping[str, Mapping[str, float]]
]  # section -> metric -> value, and low and high of its interval

LABELS = {
    "dice": "Dice",
    "jaccard": "Jaccard index",
    "thresholded_jaccard": "Jaccard index, 0 below 0.65",
    "failure_rate": "Failure rate (Jaccard < 0.65)",
    "roc_auc": "ROC-AUC",
    "pr_auc": "PR-AUC (average precision)",
    "mcc": "Matthews correlation",
    "f1": "F1",
    "brier": "Brier score",
    "log_loss": "Log loss",
    "n": "Images",
}
HEADLINES = (  # section, metric and its short name, in the order shown
    ("classification", "roc_auc", "ROC-AUC"),
    ("classification", "pr_auc", "PR-AUC"),
    ("classification", "sensitivity", "Sensitivity"),
    ("classification", "specificity", "Specificity"),
    ("segmentation", "dice", "Dice"),
    ("segmentation", "jaccard", "Jaccard"),
)
OFF_SCALE = ("n", "threshold", "log_loss")  # not a quality between 0 and 1


class Figure(NamedTuple):
    """A picture of the report."""

    title: str
    caption: str
    path: Path  # PNG file


class Failure(NamedTuple):
    """A test image on which the models did badly."""

    image_id: str
    group: str
    label: int | None  # 0 benign, 1 malignant; None or -1 unknown
    probability: float | None  # of malignancy
    dice: float | None  # None without an annotated mask


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """What the page says. Text is plain text; it is escaped when written."""

    title: str  # task and data set
    summary: str  # the verdict, in a sentence
    warnings: Sequence[str]  # what a reader must know before believing the numbers
    metrics: Metrics  # of evaluation/metrics.json: "segmentation" and "classification", either may be empty
    counts: Mapping[str, Mapping[str, int]]  # split -> what is counted -> how many
    facts: Mapping[str, str]  # config file, versions, device, date, times
    figures: Sequence[Figure]
    config: str  # the resolved config as JSON
    failures: Sequence[Failure]
    sides: tuple[str, str] = ("benign", "malignant")  # what labels 0 and 1 are called


def write(path: Path, content: Report) -> None:
    """Writes the page: self-contained HTML without scripts, which loads nothing from anywhere.

    Args:
      path: HTML file to write; its folder is created.
      content: what to show. Sections without content are left out.

    Raises:
      FileNotFoundError: a figure's file does not exist.
      ValueError: a figure's file is not a PNG.
    """
    style = importlib.resources.files("segfusion_jax.evaluation").joinpath("report.css").read_text(encoding="utf-8")
    title = html.escape(content.title)
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p class="summary">{html.escape(content.summary)}</p>
{_sample(content.metrics, content.sides[1])}
{_headlines(content.metrics)}
{_warnings(content.warnings)}
</header>
<main>
{_section("Figures", "figures", map(_figure, content.figures))}
{_section("Metrics", "tables", (_metrics_table(name, rows) for name, rows in content.metrics.items() if rows))}
{_section("Images", "scroll", _counts_table(content.counts))}
{_section("Worst test images", "scroll", _failures_table(content.failures, content.sides))}
{_section("How it was made", "", _provenance(content.facts, content.config))}
</main>
<footer>Research use only. Not a medical device.</footer>
</body>
</html>
"""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def table(metrics: Metrics) -> str:
    """The metrics as aligned plain text: one line each with metric, value and 95 % interval."""
    rows = [("", "value", "95 % interval")]
    for section, entries in metrics.items():
        if not entries:
            continue
        rows.append((section, "", ""))
        rows += [
            ("  " + _label(name), _number(name, entry["value"]), _interval(entry)) for name, entry in entries.items()
        ]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return "\n".join(
        f"{name:<{widths[0]}}  {value:>{widths[1]}}  {interval}".rstrip() for name, value, interval in rows
    )


def _label(name: str) -> str:
    return LABELS.get(name, name.replace("_", " ").capitalize())


def _number(name: str, value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:,.0f}" if name == "n" else f"{value:.3f}"


def _interval(entry: Mapping[str, float]) -> str:
    return f"{entry['low']:.3f} to {entry['high']:.3f}" if "low" in entry and "high" in entry else ""


def _scale(name: str, entry: Mapping[str, float]) -> str:
    """The value and its interval drawn between 0 and 1; nothing where they lie elsewhere."""
    value, low, high = (entry.get(key, entry["value"]) for key in ("value", "low", "high"))
    if name in OFF_SCALE or not 0 <= low <= high <= 1 or not 0 <= value <= 1:
        return ""
    return (
        '<svg class="scale" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="whole" x="0" y="3.5" width="100" height="1"/>'
        f'<rect class="interval" x="{100 * low:.2f}" y="1.5" width="{100 * (high - low):.2f}" height="5"/>'
        f'<rect class="value" x="{min(max(100 * value - 0.75, 0), 98.5):.2f}" y="0" width="1.5" height="8"/></svg>'
    )


def _sample(metrics: Metrics, positive: str) -> str:
    segmented, classified = metrics.get("segmentation", {}), metrics.get("classification", {})
    parts = []
    if "n" in classified:
        parts.append(f"{classified['n']['value']:,.0f} test images classified")
    if "prevalence" in classified:
        parts.append(f"{100 * classified['prevalence']['value']:.1f} % of them {positive}")
    if "threshold" in classified:
        parts.append(f"threshold {classified['threshold']['value']:.3f}, chosen on validation images")
    if "n" in segmented:
        parts.append(f"{segmented['n']['value']:,.0f} test images segmented")
    return f'<p class="sample">{" · ".join(parts)}</p>' if parts else ""


def _headlines(metrics: Metrics) -> str:
    items = []
    for section, name, short in HEADLINES:
        entry = metrics.get(section, {}).get(name)
        if entry is not None:
            number = _number(name, entry["value"])
            interval = _interval(entry) or "no interval"
            items.append(
                f"<li><span>{short}</span><strong>{number}</strong><span>{interval}</span>{_scale(name, entry)}</li>"
            )
    if not items:
        return ""
    return (
        f'<ul class="headlines">{"".join(items)}</ul>\n<p class="note">Intervals are 95 %, over groups of images.</p>'
    )


def _warnings(warnings: Sequence[str]) -> str:
    if not warnings:
        return ""
    items = "".join(f"<li>{html.escape(warning)}</li>" for warning in warnings)
    return f'<div class="warnings" role="note"><strong>Read this first</strong><ul>{items}</ul></div>'


def _section(heading: str, style: str, blocks: Iterable[str]) -> str:
    body = "\n".join(blocks)
    return f'<section>\n<h2>{heading}</h2>\n<div class="{style}">\n{body}\n</div>\n</section>' if body else ""


def _figure(figure: Figure) -> str:
    title, caption, path = figure
    if not path.is_file():
        raise FileNotFoundError(f"figure {title!r}: {path} does not exist; a PNG file is needed")
    with Image.open(path) as image:
        if image.format != "PNG":
            raise ValueError(f"figure {title!r}: {path} is {image.format}; a PNG file is needed")
        width, height = image.size
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    wide = ' class="wide"' if width > 700 else ""
    title, caption = html.escape(title), html.escape(caption)
    return (
        f'<figure{wide}><div class="scroll"><img src="data:image/png;base64,{data}" alt="{title}. {caption}"'
        f' width="{width}" height="{height}"></div>'
        f"<figcaption><strong>{title}.</strong> {caption}</figcaption></figure>"
    )


def _metrics_table(section: str, entries: Mapping[str, Mapping[str, float]]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{html.escape(_label(name))}</th><td class="number">{_number(name, entry["value"])}</td>'
        f"<td>{_interval(entry)}</td><td>{_scale(name, entry)}</td></tr>"
        for name, entry in entries.items()
    )
    return (
        f"<div><h3>{html.escape(section.capitalize())}</h3>"
        f'<div class="scroll">{_table(("", "Value", "95 % interval", "0 to 1"), rows, numbers=(1,))}</div></div>'
    )


def _counts_table(counts: Mapping[str, Mapping[str, int]]) -> Iterable[str]:
    if not counts:
        return
    columns = list(dict.fromkeys(column for row in counts.values() for column in row))
    rows = "".join(
        f'<tr><th scope="row">{html.escape(split.capitalize())}</th>'
        + "".join(f'<td class="number">{row.get(column, 0):,}</td>' for column in columns)
        + "</tr>"
        for split, row in counts.items()
    )
    yield _table(("Split", *map(_label, columns)), rows, numbers=range(1, len(columns) + 1))


def _failures_table(failures: Sequence[Failure], sides: tuple[str, str]) -> Iterable[str]:
    if not failures:
        return
    rows = "".join(
        f'<tr><th scope="row">{html.escape(image_id)}</th><td>{html.escape(group)}</td>'
        f"<td>{sides[label] if label in (0, 1) else 'unknown'}</td>"
        + "".join(f'<td class="number">{"–" if x is None else f"{x:.3f}"}</td>' for x in (probability, dice))
        + "</tr>"
        for image_id, group, label, probability, dice in failures
    )
    yield _table(("Image", "Group", "Diagnosis", f"Probability of '{sides[1]}'", "Dice"), rows, numbers=(3, 4))


def _table(headings: Sequence[str], rows: str, numbers: Iterable[int]) -> str:
    numeric = set(numbers)
    cells = "".join(
        f'<th scope="col"{" class=number" if column in numeric else ""}>{html.escape(heading)}</th>'
        for column, heading in enumerate(headings)
    )
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{rows}</tbody></table>"


def _provenance(facts: Mapping[str, str], config: str) -> Iterable[str]:
    if facts:
        pairs = "".join(
            f"<dt>{html.escape(name)}</dt><dd>{html.escape(str(fact))}</dd>" for name, fact in facts.items()
        )
        yield f'<dl class="facts">{pairs}</dl>'
    if config:
        yield f"<details><summary>Configuration</summary><pre>{html.escape(config)}</pre></details>"
