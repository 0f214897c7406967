"""The gallery of `segfusion predict` opened from the disk, in a headless Chromium."""

import pytest
from PIL import Image

from tests.browser.test_served_page import select
from tests.commands.test_gallery import row, written

pytestmark = pytest.mark.browser

SHOWN = "return [...document.querySelectorAll('.card')].filter(one => !one.hidden).map(one => one.dataset.name);"


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    """A page of 1,000 images, of which the first is broken and the second unfamiliar."""
    folder = tmp_path_factory.mktemp("gallery")
    rows = [row(f"lesion {number}", (7919 * number % 1000) / 1000) for number in range(2, 1000)]
    rows = [row("broken", None, error="unreadable image"), row("foreign", 0.4, familiar="0", novelty="3.0000"), *rows]
    page = written(folder, rows, "overlays")
    for one in rows[1:]:
        for kind in ("overlays", "masks"):
            Image.new("RGB", (60, 45), (200, 150, 130)).save(folder / kind / f"{one['name']}.png")
    return page


def test_a_thousand_images_are_loaded_as_they_come_into_sight(browser, gallery):
    browser.open(gallery)
    assert len(browser.run(SHOWN)) == 1000
    asked = [one for one in browser.requested() if "/overlays/" in one]
    assert 0 < len(asked) < 50
    assert browser.run("return [...document.images].find(one => one.complete && one.naturalWidth).naturalWidth;") == 60
    assert browser.logged() == []


def test_cards_are_sorted_and_filtered(browser, gallery):
    browser.open(gallery)
    select(browser, "order", "-probability")
    names = browser.run(SHOWN)
    assert names[0] == "lesion 321" and names[-1] == "broken"  # 7919 * 321 ends in 999
    select(browser, "order", "-novelty")
    assert browser.run(SHOWN)[0] == "foreign"
    select(browser, "order", "name")
    assert browser.run(SHOWN)[:4] == ["broken", "foreign", "lesion 2", "lesion 3"]
    select(browser, "kind", "unfamiliar")
    assert browser.run(SHOWN) == ["foreign"]
    select(browser, "kind", "")
    select(browser, "text", "Lesion 99")
    assert browser.run(SHOWN) == ["lesion 99", *(f"lesion {number}" for number in range(990, 1000))]
    assert "11 of 1000" in browser.run("return document.getElementById('status').textContent;")


@pytest.mark.parametrize("width", [1280, 390])
def test_other_pictures_are_shown_and_the_page_never_scrolls_sideways(browser, gallery, width):
    browser.open(gallery, width=width)
    browser.run("document.querySelector('[data-shows^=masks]').click();")
    assert browser.run("return document.querySelector('.seen img').getAttribute('src');") == "masks/foreign.png"
    assert browser.run("return document.querySelectorAll('[aria-pressed=true]')[0].textContent;") == "Mask"
    assert browser.run("return [innerWidth, document.documentElement.scrollWidth];") == [width, width]


def test_without_scripts_every_card_is_there(browser, gallery):
    browser.command("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(gallery)
        assert len(browser.driver.find_elements("css selector", ".card")) == 1000
        assert not browser.driver.find_element("id", "controls").is_displayed()
    finally:
        browser.command("Emulation.setScriptExecutionDisabled", value=False)
