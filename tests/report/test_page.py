import base64
import hashlib
import html.parser
import math
import re

import pytest
from PIL import Image

from segfusion_jax.report import page
from segfusion_jax.report.blocks import (
    Details,
    Estimate,
    Facts,
    Figure,
    Flow,
    Headline,
    Page,
    Scale,
    Section,
    Step,
    Table,
    Text,
)
from tests.report.html_page import HtmlPage


@pytest.fixture
def picture(tmp_path):
    Image.new("RGB", (90, 80)).save(tmp_path / "roc.png")
    return tmp_path / "roc.png"


def written(tmp_path, **content) -> HtmlPage:
    page.write(tmp_path / "report" / "index.html", Page(**({"title": "T", "verdict": "V"} | content)))
    return HtmlPage((tmp_path / "report" / "index.html").read_text(encoding="utf-8"))


def blocks(picture, text: str) -> list:
    """One of each kind, which say nothing but `text`."""
    return [
        Figure(text, text, picture),
        Table(text, (text, text), [(text, text)], text),
        Text(text),
        Facts({text: text}),
        Details(text, text),
        Flow([Step(text, 1, text, {text: 1})], [Step(text, 1, text)]),
    ]


def test_a_page_shows_everything_it_was_given(tmp_path, picture):
    shown = written(
        tmp_path,
        title="Benign or malignant: HAM10000",
        verdict="It works.",
        sample="1,502 test images",
        headlines=[Headline("ROC-AUC", Estimate(0.93, 0.91, 0.95)), Headline("Dice", Estimate(0.912))],
        warnings=["Few malignant images."],
        sections=[
            Section(
                "Results",
                [
                    Figure("ROC curve", "On test images.", picture),
                    Table(
                        "Numbers",
                        ("Name", "Count", "Number", "Estimate", "Drawn", "Nothing"),
                        [("one", 1234, 0.25, Estimate(-0.2, -0.3, -0.1), Scale(0.5, 0.4, 0.6), None)],
                        "Below.",
                    ),
                    Facts({"Device": "1 x CPU"}),
                    Details("Configuration", '{"seed": 0}'),
                    Flow([Step("found", 10, "in files", {"damaged": 2, "none of": 0})], [Step("train", 8)]),
                ],
                "How it went.",
            )
        ],
    )
    for text in (
        "Benign or malignant: HAM10000 It works. 1,502 test images",
        "ROC-AUC 0.930 0.910 to 0.950 Dice 0.912 no interval",
        "Few malignant images.",
        "Results How it went. ROC curve. On test images. Numbers Below.",
        "one 1,234 0.250 -0.200 -0.300 to -0.100 –",
        'Device 1 x CPU Configuration {"seed": 0}',
        "10 found in files 2 damaged 8 train",
        "Research use only. Not a medical device.",
    ):
        assert text in shown.text, text
    assert "none of" not in shown.text
    order = [shown.text.index(text) for text in ("Not a medical", "It works.", "0.930", "Few malignant", "ROC curve. ")]
    assert order == sorted(order)


def test_all_text_is_escaped(tmp_path, picture):
    evil = "<b>x</b><script>alert('x')</script>\"&"
    shown = written(
        tmp_path,
        title=evil,
        verdict=evil,
        sample=evil,
        headlines=[Headline(evil, Estimate(0.5))],
        headlines_note=evil,
        warnings=[evil],
        sections=[Section(evil, blocks(picture, evil), evil)],
        use=evil,
        provenance=evil,
    )
    assert "b" not in shown.tags and shown.tags.count("script") == 1
    # title twice, eight more parts of the page, a section's title twice and its intro, and what the blocks say
    assert shown.text.count(evil) == 2 + 8 + 3 + 2 + 6 + 1 + 2 + 2 + 5
    assert sum(value == f"{evil}. {evil}" for name, value in shown.attributes if name == "alt") == 1
    assert sum(value == evil for name, value in shown.attributes if name == "aria-label") == 1


def test_a_page_loads_nothing_and_runs_nothing_but_its_own(tmp_path, picture):
    picture.with_suffix(".svg").write_text("<svg/>")
    shown = written(tmp_path, sections=[Section("Results", blocks(picture, "text"))])
    assert not {"iframe", "object", "embed", "base", "form"} & set(shown.tags)
    assert all(value.startswith(("data:", "#")) for value in shown.loaded)
    assert not re.search(r"@import|url\(", shown.source)
    assert not [name for name, _ in shown.attributes if name == "style" or name.startswith("on")]
    (policy,) = (value for name, value in shown.attributes if name == "content" and "default-src" in value)
    assert policy.startswith("default-src 'none'; img-src data:;") and "unsafe" not in policy
    for kind in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(shown.inline[kind].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_figures_are_within_and_their_svg_is_offered_where_it_is_small(tmp_path, picture):
    assert "SVG" not in written(tmp_path, sections=[Section("S", [Figure("F", "", picture)])]).text
    for size, offered in ((1_000, 1), (1_000_000, 0)):
        picture.with_suffix(".svg").write_text(" " * size)
        shown = written(tmp_path, sections=[Section("S", [Figure("F", "", picture)])])
        assert ("src", f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}") in shown.attributes
        assert shown.attributes.count(("download", "roc.svg")) == offered


def test_a_figure_that_is_missing_or_no_png_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="figure 'ROC'.*nowhere.png"):
        written(tmp_path, sections=[Section("S", [Figure("ROC", "", tmp_path / "nowhere.png")])])
    Image.new("RGB", (4, 4)).save(tmp_path / "photo.jpg")
    with pytest.raises(ValueError, match="figure 'ROC'.*photo.jpg is JPEG"):
        written(tmp_path, sections=[Section("S", [Figure("ROC", "", tmp_path / "photo.jpg")])])
    assert not (tmp_path / "report").exists()


def test_a_row_has_as_many_cells_as_there_are_headings():
    with pytest.raises(ValueError, match=r"table 'Numbers': row \['a'\] has 1 cells; must have 2"):
        Table("Numbers", ("Name", "Number"), [("a",)])


def test_sections_without_blocks_are_left_out(tmp_path):
    shown = written(tmp_path, sections=[Section("Empty", [])])
    assert not {"h2", "table", "figure", "ul", "nav", "aside"} & set(shown.tags)
    assert "Empty" not in shown.text and "Not a medical device" in shown.text


def test_contents_lead_to_the_sections(tmp_path):
    shown = written(tmp_path, sections=[Section("How it was made", [Text("x")]), Section("Data", [Text("y")])])
    ids = [value for name, value in shown.attributes if name == "id"]
    assert [value[1:] for value in shown.loaded if value.startswith("#")] == ["content", "how-it-was-made", "data"]
    assert set(ids) == {"content", "how-it-was-made", "data"}


def test_sections_of_one_title_are_refused():
    with pytest.raises(ValueError, match="page 'T' has several sections 'Data'"):
        Page(title="T", verdict="V", sections=[Section("Data", []), Section("Data", [])])


def test_numbers_carry_what_they_are_sorted_by(tmp_path):
    rows = [("a", 1234, Estimate(0.12345, 0.1, 0.2)), ("b", None, Estimate(math.nan)), ("c", 0.5, "text")]
    shown = written(tmp_path, sections=[Section("S", [Table("T", ("x", "y", "z"), rows)])])
    assert [value for name, value in shown.attributes if name == "data-value"] == ["1234", "0.12345", "0.5"]


class Rectangles(html.parser.HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.found = {}
        self.feed(text)

    def handle_startendtag(self, tag, attrs):
        if tag == "rect":
            self.found[dict(attrs)["class"]] = dict(attrs)


def test_an_interval_is_drawn_where_it_lies(tmp_path):
    shown = written(tmp_path, headlines=[Headline("ROC-AUC", Estimate(0.5, 0.25, 0.75))])
    found = Rectangles(shown.source).found
    assert float(found["within"]["x"]) == 25 and float(found["within"]["width"]) == 50
    assert float(found["value"]["x"]) + float(found["value"]["width"]) / 2 == 50


@pytest.mark.parametrize("estimate", [Estimate(math.nan), Estimate(1.2), Estimate(0.1, -0.1, 0.3)])
def test_what_lies_elsewhere_is_not_drawn(tmp_path, estimate):
    assert "rect" not in written(tmp_path, headlines=[Headline("x", estimate)]).tags
