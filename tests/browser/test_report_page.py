"""The report as a reader meets it, in a headless Chromium."""

import base64
import shutil
import subprocess

import pytest

from segfusion_jax.report import page
from segfusion_jax.report.blocks import Estimate, Page, Section, Table
from tests.report import sample

pytestmark = pytest.mark.browser

SORT = """
const [title, name] = arguments;
const table = [...document.querySelectorAll(".table")].find(box => box.querySelector("h3").textContent === title)
  .querySelector("table");
const heading = [...table.tHead.rows[0].cells].find(cell => cell.textContent === name);
"""


def column(browser, table: str, heading: str) -> list[str]:
    return browser.run(
        SORT + "return [...table.tBodies[0].rows].map(row => row.cells[heading.cellIndex].firstChild.textContent);",
        table,
        heading,
    )


def direction(browser, table: str) -> dict[str, str]:
    """Returns `aria-sort` of those headings that say how their table is sorted."""
    sorted_cells = "[...table.tHead.rows[0].cells].filter(cell => cell.ariaSort)"
    entries = f"{sorted_cells}.map(cell => [cell.textContent, cell.ariaSort])"
    return browser.run(f"{SORT} return Object.fromEntries({entries});", table, "")


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_refused_nothing_is_asked_for_and_every_picture_is_there(browser, report, width):
    browser.open(report, width=width)
    sizes = browser.run("return [...document.images].map(i => i.complete ? i.naturalWidth : 0);")
    assert len(sizes) == len(sample.FIGURES) and all(sizes)
    assert browser.logged() == []
    assert [address for address in browser.requested() if not address.startswith("data:")] == [report.as_uri()]


def test_what_somebody_adds_to_the_page_does_not_run(browser, report, tmp_path):
    added = '<script>window.ran = true;</script><img src="https://example.org/x.png" onerror="window.ran = true">'
    (tmp_path / "index.html").write_text(report.read_text().replace("<main", f"{added}<main"))
    browser.open(tmp_path / "index.html")
    assert browser.run("return window.ran === undefined;")
    logged = "\n".join(browser.logged())
    assert all(
        what in logged for what in ("Executing inline script", "Executing inline event handler", "Loading the image")
    )


def test_tables_sort_on_a_click_and_back(browser, report):
    browser.open(report)
    before = column(browser, "Misclassified", "Probability of 'malignant'")
    for expected in ("ascending", "descending"):
        browser.run(SORT + "heading.querySelector('button').click();", "Misclassified", "Probability of 'malignant'")
        numbers = [float(text) for text in column(browser, "Misclassified", "Probability of 'malignant'")]
        assert numbers == sorted(map(float, before), reverse=expected == "descending")
        assert direction(browser, "Misclassified") == {"Probability of 'malignant'": expected}
    assert numbers != [float(text) for text in before]
    browser.run(SORT + "heading.querySelector('button').click();", "Misclassified", "Image")
    images = column(browser, "Misclassified", "Image")
    assert images == sorted(images) and direction(browser, "Misclassified") == {"Image": "ascending"}


def test_tables_sort_by_keyboard(browser, report):
    from selenium.webdriver.common.keys import Keys

    browser.open(report)
    for key in (Keys.ENTER, Keys.SPACE):
        browser.run(SORT + "heading.querySelector('button').focus();", "Failed segmentations", "Dice")
        browser.press(key)
    numbers = [float(text) for text in column(browser, "Failed segmentations", "Dice")]
    assert numbers == sorted(numbers, reverse=True)
    assert direction(browser, "Failed segmentations") == {"Dice": "descending"}


@pytest.mark.parametrize(("clicks", "order"), [(1, "cbdae"), (2, "adbce")])
def test_numbers_sort_as_such_and_what_is_empty_stays_last(browser, tmp_path, clicks, order):
    cells = [1234, 20, Estimate(-300.0, -400.0, 0.0), 702.5, None]
    table = Table("Numbers", ("Name", "Number"), list(zip("abcde", cells, strict=True)))
    page.write(tmp_path / "index.html", Page(title="T", verdict="V", sections=[Section("S", [table])]))
    browser.open(tmp_path / "index.html")
    for _ in range(clicks):
        browser.run(SORT + "heading.querySelector('button').click();", "Numbers", "Number")
    assert "".join(column(browser, "Numbers", "Name")) == order


@pytest.mark.parametrize("width", [390, 320, 768, 1280])
def test_the_page_never_scrolls_sideways(browser, report, width):
    browser.open(report, width=width)
    browser.run("document.querySelectorAll('details').forEach(d => { d.open = true; });")
    assert browser.run("return [innerWidth, document.documentElement.scrollWidth];") == [width, width]
    outside = """return [...document.querySelectorAll("body *:not(.skip)")]
      .filter(e => !e.parentElement.closest(".scroll, pre") && e.getBoundingClientRect().right > innerWidth + 0.5)
      .map(e => e.outerHTML.slice(0, 80));"""
    assert browser.run(outside) == []


def test_a_wide_table_scrolls_in_its_box_by_keyboard_too(browser, report):
    browser.open(report, width=390)
    browser.run("return new Promise(resolve => requestAnimationFrame(() => setTimeout(resolve, 50)));")
    boxes = browser.run(
        "return [...document.querySelectorAll('.scroll')].map(b => [b.scrollWidth > b.clientWidth, b.tabIndex]);"
    )
    assert any(wide for wide, _ in boxes) and all(wide == (index == 0) for wide, index in boxes)


def luminance(colour: str) -> float:
    """Relative luminance of 'rgb(r, g, b)', by WCAG 2."""
    channels = [float(part) / 255 for part in colour.strip("rgba()").split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_schemes_can_be_read(browser, report, scheme):
    browser.open(report, scheme=scheme)
    background = browser.run("return getComputedStyle(document.body).backgroundColor;")
    assert (luminance(background) > 0.5) == (scheme == "light")
    script = """return arguments[0].map(selector => {
      let element = document.querySelector(selector);
      const ink = getComputedStyle(element).color;
      while (getComputedStyle(element).backgroundColor === "rgba(0, 0, 0, 0)") element = element.parentElement;
      return [selector, ink, getComputedStyle(element).backgroundColor];
    });"""
    texts = ["body", ".sample", "nav a", ".warnings strong", ".headlines span", "thead th", ".interval", ".download"]
    for selector, ink, paper in browser.run(script, texts):
        low, high = sorted((luminance(ink), luminance(paper)))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (selector, ink, paper)


def test_the_first_key_skips_to_the_content(browser, report):
    from selenium.webdriver.common.keys import Keys

    browser.open(report)
    left = "return document.querySelector('.skip').getBoundingClientRect().left;"
    assert browser.run(left) < 0
    browser.press(Keys.TAB)
    assert browser.run("return document.activeElement.className;") == "skip" and browser.run(left) >= 0
    targets = browser.run("return [...document.querySelectorAll('a[href^=\"#\"]')].map(a => a.hash.slice(1));")
    assert all(browser.run("return !!document.getElementById(arguments[0]);", target) for target in targets)


def test_without_scripts_everything_is_there(browser, report):
    browser.command("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(report)
        text = browser.driver.find_element("tag name", "body").text
        assert browser.driver.find_elements("css selector", "thead button") == []
    finally:
        browser.command("Emulation.setScriptExecutionDisabled", value=False)
    for said in (
        "Read this first",
        "ISIC_0024311",
        "Probability of 'malignant'",
        "10,018 images found",
        "Data partitions",
    ):
        assert said in text, said


def test_on_paper_nothing_is_cut(browser, report):
    browser.open(report, width=700, media="print")
    cut = """return [...document.querySelectorAll("main *, header *")]
        .filter(e => !["none", "inline"].includes(getComputedStyle(e).display))
        .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
        .map(e => e.outerHTML.slice(0, 80));"""
    assert browser.run(cut) == []
    assert browser.run("return getComputedStyle(document.querySelector('nav')).display;") == "none"


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="needs poppler-utils")
def test_on_paper_the_config_is_open(browser, report, tmp_path):
    browser.open(report)
    pdf = base64.b64decode(browser.command("Page.printToPDF")["data"])
    (tmp_path / "report.pdf").write_bytes(pdf)
    printed = subprocess.run(
        ["pdftotext", str(tmp_path / "report.pdf"), "-"], capture_output=True, check=True, text=True
    )
    for said in ("Read this first", '"num_folds": 3', "Not a medical device"):
        assert said in printed.stdout
    assert browser.run("return document.querySelector('details').open;") is False


def test_a_figure_opens_in_its_own_size_and_closes(browser, report):
    browser.open(report)
    wide = "[...document.querySelectorAll('figure.wide button')][0]"
    shown = browser.run(f"return {wide}.firstChild.clientWidth;")
    assert browser.run(f"{wide}.click(); return document.querySelector('dialog').open;")
    own = browser.run(
        "const image = document.querySelector('dialog img'); return [image.clientWidth, image.naturalWidth];"
    )
    assert own[0] == own[1] > shown
    assert not browser.run("document.querySelector('dialog').click(); return document.querySelector('dialog').open;")
    assert browser.logged() == []
