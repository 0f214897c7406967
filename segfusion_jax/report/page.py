"""A page of results: one HTML file that holds everything it shows and loads nothing from anywhere."""

import base64
import hashlib
import importlib.resources
from collections.abc import Sequence
from html import escape
from pathlib import Path

from segfusion_jax.report import markup
from segfusion_jax.report.blocks import Page, Section
from segfusion_jax.runtime.atomic import write_text


def write(path: Path, content: Page) -> None:
    """Writes the page.

    Its own script sorts tables and is all that may run, its own style all that counts, by their hashes; without
    scripts everything is still there.

    Args:
      path: HTML file to write; its folder is created.
      content: the page that is shown.

    Raises:
      FileNotFoundError: a figure's file does not exist.
      ValueError: a figure's file is not a PNG.
    """
    style, script = _resource("page.css"), _resource("page.js")
    title = escape(content.title)
    sections = [section for section in content.sections if section.blocks]
    body = "\n".join(map(markup.section, sections))
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_policy(style, script)}">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<header>
<p class="use">{escape(content.use)}</p>
<h1>{title}</h1>
<p class="verdict">{escape(content.verdict)}</p>
{"".join(f'<p class="sample">{escape(line)}</p>' for line in (content.sample, content.provenance) if line)}
{markup.headlines(content.headlines, content.headlines_note)}
{_warnings(content.warnings)}
</header>
{_navigation(sections)}
<main id="content">
{body}
</main>
<footer>{escape(content.use)}</footer>
<script>{script}</script>
</body>
</html>
"""
    write_text(path, page)


def _resource(name: str) -> str:
    return importlib.resources.files("segfusion_jax.report").joinpath(name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    styles, scripts = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii") for text in (style, script)
    )
    own = f"style-src 'sha256-{styles}'; script-src 'sha256-{scripts}'"
    return f"default-src 'none'; img-src data:; {own}; base-uri 'none'; form-action 'none'"


def _warnings(warnings: Sequence[str]) -> str:
    if not warnings:
        return ""
    items = "".join(f"<li>{escape(warning)}</li>" for warning in warnings)
    return f'<aside class="warnings" aria-label="Warnings"><strong>Read this first</strong><ul>{items}</ul></aside>'


def _navigation(sections: Sequence[Section]) -> str:
    links = "".join(f'<li><a href="#{markup.anchor(s.title)}">{escape(s.title)}</a></li>' for s in sections)
    return f'<nav aria-label="Contents"><ul>{links}</ul></nav>' if links else ""
