"""What a page is made of, as plain data. `markup` makes HTML of it, `text` Markdown."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple


class Estimate(NamedTuple):
    """A number, perhaps with the interval around it."""

    value: float  # NaN = undefined
    low: float | None = None  # of its 95 % interval; None = there is none
    high: float | None = None
    digits: int = 3  # after the point

    @property
    def interval(self) -> str:
        """'low to high', or "" without interval."""
        if self.low is None or self.high is None or math.isnan(self.low) or math.isnan(self.high):
            return ""
        return f"{number(self.low, self.digits)} to {number(self.high, self.digits)}"

    @property
    def told(self) -> str:
        """The interval where one is expected: "no interval" without; "" beside a count or nothing."""
        return self.interval or ("no interval" if self.digits and not math.isnan(self.value) else "")


class Scale(NamedTuple):
    """A number and its interval, drawn between 0 and 1."""

    value: float
    low: float | None = None
    high: float | None = None


Cell = str | int | float | Estimate | Scale | None
"""A cell of a table: text, a count, a number (3 digits), a number with its interval, a drawing, or nothing to say."""


class Figure(NamedTuple):
    """A picture. Where an SVG file lies beside it, the page offers that for download."""

    title: str
    caption: str
    path: Path  # PNG file


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of cells, as many as there are headings; the first of a row names it. Readers may sort by any column."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""  # below the title

    def __post_init__(self):
        for row in self.rows:
            if len(row) != len(self.headings):
                raise ValueError(
                    f"table {self.title!r}: row {list(row[:1])} has {len(row)} cells; must have {len(self.headings)}"
                )


@dataclasses.dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclasses.dataclass(frozen=True)
class Facts:
    """Names and what they are."""

    facts: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Details:
    """Long text, such as a config, that is shown as it is once it is opened."""

    title: str
    text: str


class Step(NamedTuple):
    """A stage of a flow: how many there are, and how many leave it here, by reason."""

    name: str
    count: int
    note: str = ""
    leaving: Mapping[str, int] = {}


@dataclasses.dataclass(frozen=True)
class Flow:
    """How many enter, who leaves on the way, and the parts that the rest is divided into."""

    steps: Sequence[Step]
    parts: Sequence[Step]


Block = Figure | Table | Text | Facts | Details | Flow


@dataclasses.dataclass(frozen=True)
class Section:
    """Blocks under a heading. One without blocks is left out."""

    title: str
    blocks: Sequence[Block]
    intro: str = ""


class Headline(NamedTuple):
    """One of the few numbers at the top."""

    name: str
    estimate: Estimate


@dataclasses.dataclass(frozen=True, kw_only=True)
class Page:
    """A page of results. Everything is plain text; it is escaped when it is written."""

    title: str
    verdict: str  # what came out, in a sentence or two
    sample: str = ""  # on what: how many images, how they were divided
    headlines: Sequence[Headline] = ()
    headlines_note: str = "Intervals are 95 %, over groups of images."
    warnings: Sequence[str] = ()  # what a reader must know before believing the numbers
    sections: Sequence[Section] = ()
    provenance: str = ""  # by what: model, version, date
    use: str = "Research use only. Not a medical device."  # at the top and at the end

    def __post_init__(self):
        titles = [section.title for section in self.sections]
        for title in titles:
            if titles.count(title) > 1:
                raise ValueError(f"page {self.title!r} has several sections {title!r}; links need different titles")


def percent(value: float, digits: int = 1) -> str:
    """Writes a share of 1 as percentage."""
    return f"{100 * value:.{digits}f} %"


def number(value: float, digits: int = 3) -> str:
    """Writes `value` with `digits` after the point and thousands apart; a dash for NaN."""
    return "–" if math.isnan(value) else f"{round(value, digits) + 0.0:,.{digits}f}"  # no minus before a zero
