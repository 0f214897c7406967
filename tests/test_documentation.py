"""The pages that people read: every link leads somewhere."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

from segfusion_jax.commands.parser import COMMANDS

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("released/*/README.md")]


def anchors(page: pathlib.Path) -> set[str]:
    """The names by which a page's headings are linked, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(\s*([^)\s]+)\s*\)", page.read_text())
    assert links or page.name != "README.md"
    for link in links:
        target, _, anchor = link.partition("#")
        if target.startswith("http"):
            continue
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{page.name} links to {target}, which is not there"
        assert not anchor or anchor in anchors(path), f"{page.name} links to {link}: {path.name} has no such heading"


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().split()) < 1000


def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="needs the extra [docs]")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {page.name: page.read_text() for page in (tmp_path / "site").rglob("*.html")}
    assert "classifier.training.learning_rate" in pages["fields.html"]
    assert all(f"segfusion {name}" in pages["commands.html"] for name in COMMANDS)
    assert not [name for name, page in pages.items() if re.search(r"<(script|link|img)[^>]+(src|href)=.https?:", page)]
