"""What MkDocs makes beside the written pages: the references, from where things are defined, and the models' cards."""

import pathlib
import re
import subprocess
import sys

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = pathlib.Path(__file__).parents[1]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made."""
    made = {"reference/commands.md": commands(), "reference/fields.md": fields()}
    made |= {f"cards/{card.parent.name}.md": card.read_text() for card in ROOT.glob("released/*/README.md")}
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_) -> str:
    """Lets links that lead out of docs/ on GitHub lead to the site's pages, or be plain text where it has none."""
    up = "../" * page.file.src_uri.count("/")
    if page.file.src_uri.startswith("cards/"):
        markdown = markdown.replace("](../../docs/", f"]({up}")
    markdown = markdown.replace("](../README.md)", f"]({up}index.md)")
    markdown = re.sub(r"\]\(\.\./released/(\w+)/README\.md", rf"]({up}cards/\1.md", markdown)
    return re.sub(r"\[([^\]]+)\]\((?:\.\./)+(?:segfusion_jax|benchmarks|configs)/[^)]*\)", r"`\1`", markdown)


def commands() -> str:
    """Returns the page of all commands, as they describe themselves."""
    from segfusion_jax.commands.parser import COMMANDS

    parts = [
        "# Commands",
        "What each command takes, as `segfusion COMMAND --help` prints it; the fields are [here](fields.md).",
    ]
    for name in COMMANDS:
        told = subprocess.run(
            [sys.executable, "-m", "segfusion_jax.commands.main", name, "--help"],
            text=True,
            capture_output=True,
            check=True,
        )
        parts += [f"## segfusion {name}", f"```text\n{told.stdout.partition('fields of')[0].rstrip()}\n```"]
    return "\n\n".join(parts)


def fields() -> str:
    """Returns the page of all config fields, from the classes that define them."""
    from segfusion_jax.config import Config
    from segfusion_jax.config.fields import describe, sections

    parts = [
        "# Config fields",
        "Every field, its default, what it means and what it takes. `--set FIELD=VALUE` changes one.",
    ]
    for path, section in sections(Config()):
        rows = [(one.name, repr(one.default), one.meaning, one.accepted) for one in describe(section, path)]
        if rows:
            lines = ["| field | default | meaning | accepted |", "|---|---|---|---|"]
            lines += [
                f"| `{name}` | `{default}` | {_cell(meaning)} | {_cell(accepted)} |"
                for name, default, meaning, accepted in rows
            ]
            parts += [
                f"## {path.rstrip('.') or 'the run'}",
                (type(section).__doc__ or "").split("\n")[0],
                "\n".join(lines),
            ]
    return "\n\n".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("<", "&lt;").replace("*", r"\*")
