"""The gallery of `segfusion predict`: a page of cards, one an image, over the pictures that lie beside it."""

import base64
import collections
import hashlib
import html
import importlib.resources
import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote

from segfusion_jax.commands.journal import SETTINGS, read_rows
from segfusion_jax.report.blocks import percent
from segfusion_jax.runtime import sinks
from segfusion_jax.runtime.atomic import write_text
from segfusion_jax.serving.facts import USE

NAME = "index.html"
"""Name of the page in an output folder."""
MOST = 5000
"""Cards of a page, which a browser still scrolls; of more images, those of the highest probability."""

_VIEWS = {"overlays": "Outline", "masks": "Mask", "evidence": "Evidence"}  # folders of pictures
_CLASS = "probability of "  # how columns of classes begin
_SENSITIVITY = "sensitivity "  # how columns begin that say how often decisions are right
_UNFAMILIAR = "This image is unlike those that the model was trained on: nobody knows what the rest is worth."
_ORDERS = {
    "number": "order of the table",
    "-probability": "probability, highest first",
    "probability": "probability, lowest first",
    "-novelty": "novelty, highest first",
    "name": "name",
}

Row = Mapping[str, str]


def write(folder: pathlib.Path, decisions: Sequence[str]) -> None:
    """Writes the gallery of an output folder, of its table and by relative links to its pictures.

    Args:
      folder: what `segfusion predict` wrote.
      decisions: what an image below the threshold is called, and one from it on; () where no class is looked for.
    """
    rows, settings = [*map(_with_probability, read_rows(folder))], json.loads((folder / SETTINGS).read_text())
    shown = sorted(range(len(rows)), key=lambda number: -float(rows[number]["probability"] or 2))[:MOST]
    views = [view for view in _VIEWS if (folder / view).is_dir() and (view != "overlays" or settings["overlays"])]
    cards = "\n".join(_card(number, rows[number], decisions[1] if decisions else "", views) for number in sorted(shown))
    style, script = _resource("page.css") + _resource("gallery/gallery.css"), _resource("gallery/gallery.js")
    left = "" if len(shown) == len(rows) else f" These are the {MOST:,} of the highest probability."
    kinds, at = _kinds([rows[number] for number in shown]), settings["prevalence"]
    prevalence = "" if at is None else f" Probabilities hold at a prevalence of {percent(at)}."
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_policy(style, script)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>Predictions: segfusion</title>
<style>{style}</style>
</head>
<body>
<a class="skip" href="#cards">Skip to the results</a>
<aside class="use" aria-label="What it is for">{USE}</aside>
<header>
<h1>Predictions</h1>
<p class="verdict">{len(rows):,} images.{left}{prevalence} All numbers are in
<a href="predictions.csv">predictions.csv</a>.</p>
{_reached(rows)}
</header>
<main>
<section id="controls" class="controls" aria-label="Settings" hidden>
<div><label for="order">Sorted by</label><select id="order">{_options(_ORDERS)}</select></div>
<div><label for="kind">Shown</label><select id="kind">{_options(kinds)}</select></div>
<div><label for="text">Name contains</label><input id="text" type="search" autocomplete="off"></div>
</section>
<p id="status" class="note" role="status"></p>
<section id="cards" aria-label="Results" tabindex="-1">
{cards}
</section>
</main>
<footer><p>Model {_text(settings["model"][:12])}. {USE}</p></footer>
<script>{script}</script>
</body>
</html>
"""
    write_text(folder / NAME, page)


def _reached(rows: Sequence[Row]) -> str:
    """Says how often such decisions are right, where that is known."""
    said = next((row for row in rows if row["probability"]), {})
    places = [column.removeprefix(_SENSITIVITY) for column in said if column.startswith(_SENSITIVITY)]
    reached = "; ".join(
        f"{where} sensitivity {said[f'{_SENSITIVITY}{where}']}, specificity {said[f'specificity {where}']}"
        for where in places
    )
    return f'<p class="note">Such decisions: {_text(reached)}.</p>' if reached else ""


def _text(text: str) -> str:
    """Returns a text, which others may have chosen, as HTML has it."""
    return html.escape(sinks.page(text))


def _resource(name: str) -> str:
    page = importlib.resources.files("segfusion_jax.serving") / "page"
    return page.joinpath(name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    styles, scripts = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii") for text in (style, script)
    )
    own = f"style-src 'sha256-{styles}'; script-src 'sha256-{scripts}'"
    return f"default-src 'none'; img-src 'self' data:; {own}; base-uri 'none'; form-action 'none'"


def _options(titles: Mapping[str, str]) -> str:
    return "".join(f'<option value="{_text(value)}">{_text(title)}</option>' for value, title in titles.items())


def _with_probability(row: Row) -> Row:
    """Returns a row with the probability of what is looked for; where nothing is, of what the image is called."""
    return {"probability": row.get(f"{_CLASS}{row['decision']}", ""), **row}


def _kinds(rows: Sequence[Row]) -> dict[str, str]:
    """Returns the kinds of images that there are, each with its number."""
    counts = collections.Counter(kind for row in rows for kind in _kinds_of(row))
    return {"": f"all ({len(rows):,})"} | {kind: f"{kind} ({count:,})" for kind, count in sorted(counts.items())}


def _kinds_of(row: Row) -> list[str]:
    if not row["probability"]:
        return ["without an answer"]
    unlike = [] if row["familiar"] == "1" else ["unfamiliar"]
    return [row["decision"], *unlike, *(["without a usable mask"] if row["fallback"] else [])]


def _card(number: int, row: Row, positive: str, views: Sequence[str]) -> str:
    kinds, name = _kinds_of(row), row["name"]
    sorting = {"number": str(number), "probability": row["probability"], "novelty": row["novelty"], "name": name}
    data = "".join(f' data-{key}="{_text(value)}"' for key, value in sorting.items())
    head = f'<article class="card"{data} data-kinds="{_text("|".join(kinds))}"><h2>{_text(name)}</h2>'
    told = _warnings(row)
    if not row["probability"]:
        return f"{head}{told}</article>"
    said = f'<div class="seen">{_pictures(name, views)}</div><div class="numbers">{_numbers(row, positive)}</div>'
    return f'{head}{told}<div class="said">{said}</div></article>'


def _warnings(row: Row) -> str:
    fallback = f"There is no usable mask ({row['fallback']}): the whole image was classified."
    lines = {
        row["error"]: bool(row["error"]),
        _UNFAMILIAR: row["familiar"] == "0",
        fallback: bool(row["fallback"]),
    }
    items = "".join(f"<li>{_text(line)}</li>" for line, is_so in lines.items() if is_so)
    title = "Read this first" if row["probability"] else "There is no answer"
    return f'<div class="warnings"><strong>{title}</strong><ul>{items}</ul></div>' if items else ""


def _pictures(name: str, views: Sequence[str]) -> str:
    links = {view: f"{view}/{quote(os.fsencode(name))}.png" for view in views}
    first = next(iter(links.values()))
    buttons = "".join(
        f'<button type="button" data-shows="{link}" aria-pressed="{str(link == first).lower()}">{_VIEWS[view]}</button>'
        for view, link in links.items()
    )
    return (
        f'<a href="{first}"><img src="{first}" alt="{_text(name)}" loading="lazy" decoding="async"></a>'
        f'<p class="pair pictures" hidden>{buttons}</p>'
    )


def _numbers(row: Row, positive: str) -> str:
    probability, is_positive = percent(float(row["probability"])), row["decision"] == positive
    of = _text(positive or row["decision"])
    classes = {column.removeprefix(_CLASS): float(row[column]) for column in row if column.startswith(_CLASS)}
    diagnoses = "".join(map(_diagnosis, sorted(classes.items(), key=lambda item: -item[1])))
    lesion = "no usable mask" if row["fallback"] else f"{percent(float(row['mask_share']))} of the image"
    facts = _facts({"Lesion": lesion, "Novelty": f"{float(row['novelty']):.2f}"}.items())
    return (
        f'<p class="probability"><strong>{probability}</strong> <span class="decision{" positive" * is_positive}">'
        f'called {_text(row["decision"])}</span></p><p class="at note">Probability of {of}.</p>'
        f"<table><caption>Probability of each class</caption><tbody>{diagnoses}</tbody></table>{facts}"
    )


def _diagnosis(item: tuple[str, float]) -> str:
    name, share = item
    meter = f'<meter value="{share:.6f}" max="1" aria-label="{_text(name)}"></meter>'
    return f'<tr><th scope="row">{_text(name)}</th><td>{meter}</td><td class="number">{percent(share)}</td></tr>'


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    pairs = "".join(f"<dt>{_text(name)}</dt><dd>{_text(fact)}</dd>" for name, fact in facts)
    return f'<dl class="facts">{pairs}</dl>'
