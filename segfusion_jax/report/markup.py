"""HTML of the blocks: text escaped, pictures within."""

import base64
import itertools
import math
import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from PIL import Image

from segfusion_jax.report import blocks

SVG_BYTES = 150_000
"""A larger SVG, of photographs, is not offered: it would double the page."""
_PROSE = 40  # characters; a column with longer text may wrap
_INCH = 96  # pixels of a page
_WIDE = 1.5  # width by height of a figure that takes the whole row


def anchor(title: str) -> str:
    """Returns the name by which links find a section."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def section(content: blocks.Section) -> str:
    """Returns a section with its heading; "" without blocks."""
    if not content.blocks:
        return ""
    intro = f'<p class="intro">{escape(content.intro)}</p>\n' if content.intro else ""
    body = "\n".join(_blocks(content.blocks))
    return f'<section id="{anchor(content.title)}">\n<h2>{escape(content.title)}</h2>\n{intro}{body}\n</section>'


def headlines(items: Sequence[blocks.Headline], note: str) -> str:
    """Returns the numbers at the top, each with its interval drawn."""
    if not items:
        return ""
    tiles = "".join(
        f"<li><span>{escape(name)}</span><strong>{blocks.number(estimate.value, estimate.digits)}</strong>"
        f"<span>{estimate.told}</span>{_scale(blocks.Scale(*estimate[:3]))}</li>"
        for name, estimate in items
    )
    return f'<ul class="headlines">{tiles}</ul>\n<p class="note">{escape(note)}</p>'


def _blocks(content: Sequence[blocks.Block]) -> Iterable[str]:
    """Yields the HTML of the blocks; figures that follow each other stand side by side."""
    for is_figure, members in itertools.groupby(content, lambda block: isinstance(block, blocks.Figure)):
        rendered = "\n".join(map(_block, members))
        yield f'<div class="figures">\n{rendered}\n</div>' if is_figure else rendered


def _block(block: blocks.Block) -> str:
    match block:
        case blocks.Figure():
            return _figure(block)
        case blocks.Table():
            return _table(block)
        case blocks.Text(text):
            return f"<p>{escape(text)}</p>"
        case blocks.Facts(facts):
            pairs = (f"<dt>{escape(name)}</dt><dd>{escape(fact)}</dd>" for name, fact in facts.items())
            return f'<dl class="facts">{"".join(pairs)}</dl>'
        case blocks.Details(title, text):
            return f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>"
        case blocks.Flow():
            return _flow(block)


def _figure(figure: blocks.Figure) -> str:
    title, caption, path = figure
    if not path.is_file():
        raise FileNotFoundError(f"figure {title!r}: {path} does not exist; a PNG file is needed")
    with Image.open(path) as image:
        if image.format != "PNG":
            raise ValueError(f"figure {title!r}: {path} is {image.format}; a PNG file is needed")
        width, height = image.size
        scale = _INCH / image.info.get("dpi", (_INCH,))[0]
    wide = ' class="wide"' if width > _WIDE * height else ""
    text = f"{title}. {caption}".strip()
    return (
        f'<figure{wide}><div class="scroll"><img src="{_data("image/png", path)}" alt="{escape(text)}"'
        f' width="{width * scale:.0f}" height="{height * scale:.0f}"></div>'
        f"<figcaption><strong>{escape(title)}.</strong> {escape(caption)}{_download(path)}</figcaption></figure>"
    )


def _download(png: Path) -> str:
    svg = png.with_suffix(".svg")
    if not svg.is_file() or svg.stat().st_size > SVG_BYTES:
        return ""
    return f' <a class="download" download="{escape(svg.name)}" href="{_data("image/svg+xml", svg)}">SVG</a>'


def _data(kind: str, path: Path) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def _table(table: blocks.Table) -> str:
    columns = list(zip(*table.rows, strict=True)) or [()] * len(table.headings)
    styles = [_style(cells) for cells in columns]
    heads = "".join(
        f'<th scope="col"{_class(style)}>{escape(heading)}</th>'
        for style, heading in zip(styles, table.headings, strict=True)
    )
    rows = "".join(
        "<tr>"
        + "".join(_cell(cell, style, first=not i) for i, (cell, style) in enumerate(zip(row, styles, strict=True)))
        + "</tr>\n"
        for row in table.rows
    )
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    title = escape(table.title)
    return (
        f'<div class="table"><h3>{title}</h3>{note}<div class="scroll" role="region" aria-label="{title}">'
        f"<table{_class('text' if 'prose' in styles[1:] else '')}><thead><tr>{heads}</tr></thead>\n"
        f"<tbody>\n{rows}</tbody></table></div></div>"
    )


def _style(cells: Sequence[blocks.Cell]) -> str:
    if any(isinstance(cell, blocks.Scale) for cell in cells):
        return "drawn"
    if any(isinstance(cell, int | float | blocks.Estimate) for cell in cells):
        return "number"
    return "prose" if any(isinstance(cell, str) and len(cell) > _PROSE for cell in cells) else ""


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def _cell(cell: blocks.Cell, style: str, *, first: bool) -> str:
    tag, scope = ("th", ' scope="row"') if first else ("td", "")
    value = cell.value if isinstance(cell, blocks.Estimate) else cell
    sortable = isinstance(value, int | float) and not math.isnan(value)
    order = f' data-value="{value!r}"' if sortable else ""
    return f"<{tag}{scope}{_class(style)}{order}>{_content(cell)}</{tag}>"


def _content(cell: blocks.Cell) -> str:
    match cell:
        case None:
            return "–"
        case str():
            return escape(cell)
        case blocks.Scale():
            return _scale(cell)
        case blocks.Estimate():
            interval = f'<span class="interval">{cell.interval}</span>' if cell.interval else ""
            return blocks.number(cell.value, cell.digits) + interval
        case int():
            return f"{cell:,}"
        case float():
            return blocks.number(cell)


def _scale(scale: blocks.Scale) -> str:
    """Draws a value and its interval; nothing where it lies outside of 0 and 1."""
    value = scale.value
    low, high = (value if end is None else end for end in (scale.low, scale.high))
    if not (0 <= low <= high <= 1 and 0 <= value <= 1):
        return ""
    return (
        '<svg class="scale" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="whole" x="0" y="3.5" width="100" height="1"/>'
        f'<rect class="within" x="{100 * low:.2f}" y="1.5" width="{100 * (high - low):.2f}" height="5"/>'
        f'<rect class="value" x="{min(max(100 * value - 0.75, 0), 98.5):.2f}" y="0" width="1.5" height="8"/></svg>'
    )


def _flow(flow: blocks.Flow) -> str:
    steps = "".join(f'<li class="step">{_box(step)}{_leaving(step)}</li>' for step in flow.steps)
    parts = "".join(f"<li>{_box(part)}</li>" for part in flow.parts)
    return f'<ol class="flow">{steps}<li><ul class="parts">{parts}</ul></li></ol>'


def _box(step: blocks.Step) -> str:
    note = f"<small>{escape(step.note)}</small>" if step.note else ""
    return f'<div class="box"><strong>{step.count:,}</strong> <span>{escape(step.name)}</span>{note}</div>'


def _leaving(step: blocks.Step) -> str:
    reasons = "".join(
        f"<li><strong>{count:,}</strong> {escape(why)}</li>" for why, count in step.leaving.items() if count
    )
    return f'<ul class="leaving">{reasons}</ul>' if reasons else ""
