"""The report without HTML: a page as Markdown, and metrics as aligned plain text."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from segfusion_jax.report import blocks, labels
from segfusion_jax.runtime import sinks

_SPECIAL = str.maketrans({character: f"\\{character}" for character in "\\`*_[]<>|#~"} | {"\n": " ", "\r": " "})


def table(metrics: Mapping[str, labels.Entries]) -> str:
    """Writes the metrics as aligned plain text: one line each with metric, value and 95 % interval.

    Args:
      metrics: section -> metric -> entry; of metrics.json only `labels.SECTIONS`.
    """
    rows = [("", "value", "95 % interval")]
    for section, entries in metrics.items():
        shown = {name: labels.estimate(name, entry) for name, entry in entries.items()}
        rows += [(section, "", "")] if shown else []
        rows += [
            (f"  {labels.label(name)}", blocks.number(entry.value, entry.digits), entry.told)
            for name, entry in shown.items()
        ]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return "\n".join(
        f"{name:<{widths[0]}}  {value:>{widths[1]}}  {interval}".rstrip() for name, value, interval in rows
    )


def markdown(page: blocks.Page, folder: Path) -> str:
    """Writes the page as Markdown, as it lies in `folder`; without what must be opened to be seen."""
    parts = [f"**{_plain(page.use)}**", f"# {_plain(page.title)}", _plain(page.verdict)]
    parts += [_plain(page.sample), _plain(page.provenance)]
    if page.headlines:
        headings = ("Metric", "Value", "95 % interval")
        shown = blocks.Table("", headings, [_headline(*headline) for headline in page.headlines])
        parts += [_table(shown), _plain(page.headlines_note)]
    if page.warnings:
        parts += ["**Read this first**", "\n".join(f"- {_plain(warning)}" for warning in page.warnings)]
    for section in page.sections:
        if section.blocks:
            parts += [f"## {_plain(section.title)}", _plain(section.intro)]
            parts += [_block(block, folder) for block in section.blocks]
    parts.append(_plain(page.use))
    return "\n\n".join(part for part in parts if part) + "\n"


def _headline(name: str, estimate: blocks.Estimate) -> tuple[str, str, str]:
    return name, blocks.number(estimate.value, estimate.digits), estimate.told


def _block(block: blocks.Block, folder: Path) -> str:
    match block:
        case blocks.Figure(title, caption, path):
            address = Path(os.path.relpath(path, folder)).as_posix()
            return f"![{_plain(title)}](<{address}>)\n\n{_plain(f'{title}. {caption}'.strip())}"
        case blocks.Table(title, _, _, note):
            return "\n\n".join(part for part in (f"### {_plain(title)}", _plain(note), _table(block)) if part)
        case blocks.Text(text):
            return _plain(text)
        case blocks.Facts(facts):
            return "\n".join(f"- {_plain(name)}: {_plain(fact)}" for name, fact in facts.items())
        case blocks.Flow(steps, parts):
            return "\n".join([*map(_step, steps), *(f"  {_step(part)}" for part in parts)])
        case blocks.Details():
            return ""


def _step(step: blocks.Step) -> str:
    leaving = "; ".join(f"less {count:,} {why}" for why, count in step.leaving.items() if count)
    notes = "; ".join(part for part in (step.note, leaving) if part)
    return f"- {step.count:,} {_plain(step.name)}" + (f" ({_plain(notes)})" if notes else "")


def _table(table: blocks.Table) -> str:
    kept = [column for column in range(len(table.headings)) if not _drawn([row[column] for row in table.rows])]
    rows = [[_plain(_cell(row[column])) for column in kept] for row in table.rows]
    head = [_plain(table.headings[column]) for column in kept]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(kept), *rows])


def _drawn(cells: Sequence[blocks.Cell]) -> bool:
    return any(isinstance(cell, blocks.Scale) for cell in cells)


def _cell(cell: blocks.Cell) -> str:
    match cell:
        case None | blocks.Scale():
            return "–"
        case str():
            return cell
        case blocks.Estimate():
            interval = f" ({cell.interval})" if cell.interval else ""
            return blocks.number(cell.value, cell.digits) + interval
        case int():
            return f"{cell:,}"
        case float():
            return blocks.number(cell)


def _plain(text: str) -> str:
    """Escapes text so that Markdown shows it as it is."""
    return sinks.page(text.translate(_SPECIAL))
