"""Values with their intervals, one below the other: ablations, subgroups."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from segfusion_jax.report.plots import style

LINE = 0.24  # inches, height of one row
PANEL = 1.9  # inches, width of one metric
LETTER = 0.07  # inches, width of a letter of a row's name
COUNT = 0.82  # inches, width of a column of counts


class Row(NamedTuple):
    """One line of a forest plot."""

    name: str
    entries: Sequence[Mapping[str, float]]  # one a panel: `value`, `low`, `high`; {} where there is none
    heading: str = ""  # rows in succession that share one stand below it
    counts: Sequence[int] = ()  # one a column of counts


def forest(
    path: Path,
    rows: Sequence[Row],
    panels: Sequence[str],
    *,
    references: Sequence[float | None] = (),
    counts: Sequence[str] = (),
) -> Figure:
    """Draws values with their 95 % intervals: a row for each of `rows`, metrics side by side.

    Args:
      path: PNG file to write; the SVG goes beside it.
      rows: what is compared, from top to bottom.
      panels: what each panel measures, with its unit: "ROC-AUC", "Difference of Dice".
      references: one a panel: where a dotted line stands, such as no difference or the value of all images; None for
        none.
      counts: names of the columns of whole numbers beside the rows' names, such as "n".

    Raises:
      ValueError: no rows or no panels, or a row or `references` of another length than `panels` or `counts`.
    """
    if not rows or not panels:
        raise ValueError(f"{len(rows)} rows and {len(panels)} panels: at least one of each is needed")
    for row in rows:
        if len(row.entries) != len(panels) or len(row.counts) != len(counts):
            given = f"{len(row.entries)} entries and {len(row.counts)} counts"
            raise ValueError(f"row {row.name!r}: {given}: must be {len(panels)} and {len(counts)}")
    references = references or [None] * len(panels)
    if len(references) != len(panels):
        raise ValueError(f"{len(references)} references: must be {len(panels)}, one a panel")
    places, headings = _places(rows)
    lines = len(rows) + len(headings) + bool(counts)
    longest = max(len(text) for row in rows for text in (row.name, row.heading))
    widths = [0.3 + LETTER * longest + COUNT * len(counts), *[PANEL] * len(panels)]
    figure = style.drawing(sum(widths), 0.85 + LINE * lines)
    names, *plots = figure.subplots(1, 1 + len(panels), sharey=True, width_ratios=widths)
    for axes, title, reference in zip(plots, panels, references, strict=True):
        style.dress(axes, "", textwrap.fill(title, 22), "")
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0, labelleft=False)
        if reference is not None:
            axes.axvline(reference, color=style.INK, linewidth=1, linestyle=":")
    for place, row in zip(places, rows, strict=True):
        for axes, entry in zip(plots, row.entries, strict=True):
            _whisker(axes, place, entry)
    _write_names(names, rows, places, headings, widths[0])
    _write_counts(names, rows, places, counts, widths[0])
    names.set_ylim(places[-1] + 0.6, (-1.6 if counts else -0.6))
    return style.save_drawing(figure, path)


def _places(rows: Sequence[Row]) -> tuple[list[int], dict[int, str]]:
    """Returns the line of each row, and the headings by their lines."""
    places, headings, above = [], {}, ""
    for row in rows:
        if row.heading and row.heading != above:
            headings[len(places) + len(headings)] = row.heading
        above = row.heading
        places.append(len(places) + len(headings))
    return places, headings


def _whisker(axes: Axes, place: int, entry: Mapping[str, float]) -> None:
    if "low" in entry and "high" in entry:
        axes.plot([entry["low"], entry["high"]], [place, place], color=style.BLUE, linewidth=1.8)
    if "value" in entry:
        axes.plot(entry["value"], place, "s", color=style.BLUE, markersize=5.5, markeredgecolor="white")


def _write_names(
    axes: Axes, rows: Sequence[Row], places: Sequence[int], headings: Mapping[int, str], width: float
) -> None:
    axes.set_axis_off()
    axes.set_xlim(0, width)  # inches
    for place, row in zip(places, rows, strict=True):
        axes.text(0.15 if row.heading else 0, place, row.name, va="center", fontsize=9, color=style.INK)
    for place, heading in headings.items():
        axes.text(0, place, heading, va="center", fontsize=9, fontweight="bold", color=style.INK)


def _write_counts(axes: Axes, rows: Sequence[Row], places: Sequence[int], counts: Sequence[str], width: float) -> None:
    for column, name in enumerate(counts):
        right = width - COUNT * (len(counts) - 1 - column) - 0.1
        axes.text(right, -1, name, ha="right", va="center", fontsize=9, fontstyle="italic", color=style.INK)
        for place, row in zip(places, rows, strict=True):
            axes.text(right, place, f"{row.counts[column]:,}", ha="right", va="center", fontsize=9, color=style.INK)
