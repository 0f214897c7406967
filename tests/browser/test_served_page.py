"""The page of `segfusion serve` as a visitor meets it, in a headless Chromium, before a model that looks at colours."""

import csv
import io
import time

import numpy as np
import pytest
from PIL import Image

from segfusion_jax.runtime import sinks
from tests.serving.web.conftest import Colours, picture
from tests.serving.web.test_sockets import served

pytestmark = pytest.mark.browser


class Address:
    """A page that is not a file."""

    def __init__(self, port: int):
        self.port = port

    def as_uri(self) -> str:
        return f"http://127.0.0.1:{self.port}/"


@pytest.fixture(scope="module")
def address():
    with served(Colours(), seconds=20) as (port, _):
        yield Address(port)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Images by name: of probability 0.2 and 0.8, an unfamiliar one, one without lesion, and one that is none."""
    folder = tmp_path_factory.mktemp("images")
    drawn = {
        "low.png": picture(red=51),
        "high.png": picture(red=204),
        "=foreign.png": picture(red=102, blue=250),
        "empty.tif": picture(red=153, lesion=(slice(0, 0), slice(0, 0))),
    }
    for name, image in drawn.items():
        Image.fromarray(image).save(folder / name)
    (folder / "broken.png").write_bytes(b"nonsense")
    return {name: folder / name for name in (*drawn, "broken.png")}


def wait_for(browser, condition: str):
    end = time.monotonic() + 30
    while not (found := browser.run(f"return {condition};")):
        assert time.monotonic() < end, (condition, browser.driver.find_element("tag name", "body").text)
        time.sleep(0.05)
    return found


def choose(browser, files) -> None:
    wait_for(browser, "!document.getElementById('controls').hidden")
    browser.driver.find_element("id", "files").send_keys("\n".join(map(str, files)))
    wait_for(browser, f"document.querySelectorAll('.card .waiting[hidden]').length === {len(files)}")
    wait_for(browser, "!document.getElementById('status').textContent.includes('waiting')")


def names(browser) -> list[str]:
    return browser.run("return [...document.querySelectorAll('.card h2')].map(one => one.textContent);")


def card(browser, name: str, selector: str) -> list[str]:
    script = """const [name, selector] = arguments;
      const card = [...document.querySelectorAll(".card")].find(one => one.querySelector("h2").textContent === name);
      return [...card.querySelectorAll(selector)].filter(one => one.checkVisibility()).map(one => one.textContent);"""
    return browser.run(script, name, selector)


def select(browser, name: str, value: str) -> None:
    script = """const [name, value] = arguments, element = document.getElementById(name);
      element.value = value;
      element.dispatchEvent(new Event(element.tagName === "SELECT" ? "change" : "input", { bubbles: true }));"""
    browser.run(script, name, value)


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_foreign_is_asked_for_and_nothing_is_refused_or_kept(browser, address, files, width):
    browser.open(address, width=width)
    choose(browser, [path for name, path in files.items() if name != "broken.png"])
    for view in ("mask", "bridged", "evidence", "image", "outline"):
        browser.run("document.querySelector(`[value=${arguments[0]}]`).click();", view)
    select(browser, "point", "sensitivity-0.9")
    select(browser, "prevalence", "2")
    browser.run("document.getElementById('csv').click();")
    asked = browser.requested()
    assert {
        one for one in asked if not one.startswith(("data:", f"blob:{address.as_uri()}", address.as_uri()))
    } == set()
    assert address.as_uri() + "v1/predictions?mask=png&pictures=true" in asked
    assert browser.logged() == []
    kept = "return [document.cookie, localStorage.length, sessionStorage.length, (await indexedDB.databases()).length];"
    assert browser.run(f"return (async () => {{ {kept} }})();") == ["", 0, 0, 0]
    assert browser.run("return [innerWidth, document.documentElement.scrollWidth];") == [width, width]


def test_cards_say_what_the_model_says(browser, address, files):
    browser.open(address)
    choose(browser, files.values())
    assert card(browser, "low.png", ".probability strong") == ["20.0 %"]
    assert card(browser, "low.png", ".decision") == ["called benign"]
    assert card(browser, "high.png", ".decision") == ["called malignant"]
    assert card(browser, "high.png", "tbody th") == ["melanomamalignant", "nevus"]
    assert card(browser, "high.png", ".warnings") == []
    assert "unlike those" in card(browser, "=foreign.png", ".warnings")[0]
    assert "no usable mask (no lesion was found)" in card(browser, "empty.tif", ".warnings")[0]
    (told,) = card(browser, "broken.png", ".warnings li")
    assert told.startswith("unreadable image") and "Accepted: JPEG" in told
    facts = dict(zip(card(browser, "low.png", "dt"), card(browser, "low.png", "dd"), strict=True))
    assert facts["Area"] == "200 pixels" and facts["Longest diameter"] == "22 pixels"
    assert "4 of 5 images answered" in browser.run("return document.getElementById('status').textContent;")


def test_points_decide_and_prevalence_changes_probabilities_only(browser, address, files):
    browser.open(address)
    choose(browser, [files["low.png"], files["high.png"]])
    note = "return document.getElementById('point-note').textContent;"
    assert "found 80.0 % (70.0 % to 90.0 %) of the malignant" in browser.run(note)
    select(browser, "point", "sensitivity-0.9")
    assert card(browser, "low.png", ".decision") == ["called malignant"]
    assert "Threshold 0.200" in browser.run(note)
    select(browser, "prevalence", "50")
    assert card(browser, "low.png", ".probability strong") == ["50.0 %"]  # odds 1/4, times 4
    assert card(browser, "low.png", ".decision") == ["called malignant"]
    browser.run("document.getElementById('own').click();")
    assert card(browser, "low.png", ".probability strong") == ["20.0 %"]


def test_cards_are_sorted(browser, address, files):
    browser.open(address)
    choose(browser, files.values())
    for order, expected in {
        "falling": ["high.png", "empty.tif", "=foreign.png", "low.png", "broken.png"],
        "rising": ["low.png", "=foreign.png", "empty.tif", "high.png", "broken.png"],
        "added": list(files),
    }.items():
        select(browser, "order", order)
        assert names(browser) == expected
    select(browser, "order", "novelty")
    assert names(browser)[0] == "=foreign.png" and names(browser)[-1] == "broken.png"


def pixels(browser) -> np.ndarray:
    """What the first card's canvas shows, [height, width, 4]."""
    script = """const canvas = document.querySelector("canvas");
      return [canvas.height, canvas.width,
        [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data]];"""
    height, width, values = browser.run(script)
    return np.array(values, np.uint8).reshape(height, width, 4)


def test_views_show_what_they_say_by_keyboard_too(browser, address, files):
    from selenium.webdriver.common.keys import Keys

    browser.open(address)
    choose(browser, [files["low.png"]])
    outline = pixels(browser)
    yellow = (np.abs(outline[..., :3].astype(int) - (240, 228, 66)) < 30).all(-1)
    rows, columns = np.nonzero(yellow)
    scale = outline.shape[1] / 40
    assert np.allclose(
        [rows.min(), rows.max(), columns.min(), columns.max()], np.array([5, 15, 10, 30]) * scale, atol=scale
    )
    browser.run("document.querySelector('[value=outline]').focus();")
    browser.press(Keys.ARROW_RIGHT)
    mask = pixels(browser)
    assert mask.shape == (30, 40, 4) and (mask[..., 0] == 255).sum() == 200
    browser.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert "blue against" in browser.run("return document.querySelector('.legend').textContent;")


def test_files_are_saved(browser, address, files, tmp_path):
    browser.command("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    browser.open(address)
    choose(browser, files.values())
    browser.run("document.getElementById('csv').click(); document.querySelector('[data-save=mask]').click();")
    wanted = tmp_path / "predictions.csv", tmp_path / "low-mask.png"
    end = time.monotonic() + 20
    while not all(path.exists() for path in wanted):
        assert time.monotonic() < end
        time.sleep(0.05)
    rows = list(csv.DictReader(wanted[0].open(newline="")))
    assert [row["image"] for row in rows] == ["low.png", "high.png", "'=foreign.png", "empty.tif"]
    assert [float(row["probability"]) for row in rows] == pytest.approx([0.2, 0.8, 0.4, 0.6])
    assert rows[3]["fallback"] == "empty" and rows[2]["familiar"] == "0" and rows[0]["area"] == "200"
    assert (np.array(Image.open(wanted[1]).convert("L")) == 255).sum() == 200


def test_tables_are_escaped_as_those_of_the_commands(browser, address):
    texts = [
        "=1+1",
        "-0.5",
        "+1e5",
        "-x",
        "@a",
        "'a",
        "a\nb",
        "a\r\tb",
        "back\\slash",
        'quo"ted',
        "com,ma",
        "\u2028\u202e",
        "\u061c",
        "ä€😀",
        "-inf",
        "",
        "=😀",
    ]
    browser.open(address)
    row = "Object.fromEntries(arguments[0].map(text => ['k' + text, text]))"
    script = f"return import('./numbers.js').then(({{ csv }}) => csv([{row}]));"
    rows = list(csv.reader(io.StringIO(browser.run(script, texts), newline="")))
    assert rows == [[sinks.cell(f"k{text}") for text in texts], [sinks.cell(text) for text in texts]]


def test_the_notice_is_always_in_sight(browser, address, files):
    browser.open(address, width=390)
    choose(browser, files.values())
    browser.run("scrollTo(0, document.body.scrollHeight);")
    top = "const box = document.querySelector('.use').getBoundingClientRect(); return [box.top, box.height > 20];"
    assert browser.run(top) == [0, True]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_schemes_can_be_read(browser, address, files, scheme):
    from tests.browser.test_report_page import luminance

    browser.open(address, scheme=scheme)
    choose(browser, [files["high.png"], files["=foreign.png"]])
    script = """return arguments[0].map(selector => {
      let element = document.querySelector(selector);
      const ink = getComputedStyle(element).color;
      while (getComputedStyle(element).backgroundColor === "rgba(0, 0, 0, 0)") element = element.parentElement;
      return [selector, ink, getComputedStyle(element).backgroundColor];
    });"""
    texts = [
        "body",
        ".use",
        ".note",
        ".drop strong",
        ".decision",
        "th small",
        "dt",
        ".warnings li",
        "button",
        ".views :checked + span",
        "footer",
    ]
    for selector, ink, paper in browser.run(script, texts):
        low, high = sorted((luminance(ink), luminance(paper)))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (selector, ink, paper)


def test_every_control_has_a_name_and_can_be_reached(browser, address, files):
    browser.open(address)
    choose(browser, [files["high.png"]])
    for element in browser.driver.find_elements("css selector", "input, select, button, canvas, meter"):
        if element.is_displayed() or element.get_attribute("type") in ("file", "radio"):
            assert element.accessible_name, element.get_attribute("outerHTML")
            assert element.tag_name in ("canvas", "meter") or element.get_property("tabIndex") == 0


def test_one_card_a_page_on_paper(browser, address, files):
    import base64

    browser.open(address)
    choose(browser, [files["high.png"], files["low.png"], files["empty.tif"]])
    more = "body.append(...[...body.rows].slice(0, 2).map(row => row.cloneNode(true)));"
    for _ in range(3):  # to eight diagnoses
        browser.run(f"for (const body of document.querySelectorAll('.card tbody')) {more}")
    pdf = base64.b64decode(browser.command("Page.printToPDF")["data"])
    assert pdf.count(b"/Type /Page\n") == 3
    browser.command("Emulation.setEmulatedMedia", media="print")
    assert browser.run("return getComputedStyle(document.querySelector('.printed')).display;") == "block"


def test_images_are_dropped(browser, address):
    browser.open(address)
    wait_for(browser, "!document.getElementById('controls').hidden")
    script = """const canvas = document.createElement("canvas");
      canvas.getContext("2d").fillRect(0, 0, 10, 10);
      canvas.toBlob(blob => {
        const files = new DataTransfer();
        files.items.add(new File([blob], "dropped.png"));
        document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true }));
      });"""
    browser.run(script)
    wait_for(browser, "document.querySelectorAll('.said:not([hidden])').length === 1")
    assert names(browser) == ["dropped.png"]
