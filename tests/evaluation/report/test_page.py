import dataclasses
import html.parser

import pytest
from PIL import Image

from segfusion_jax.evaluation import report

METRICS = {
    "segmentation": {"dice": {"value": 0.9124, "low": 0.9, "high": 0.92}, "n": {"value": 1502.0}},
    "classification": {
        "roc_auc": {"value": 0.93, "low": 0.91, "high": 0.95},
        "mcc": {"value": -0.2, "low": -0.3, "high": -0.1},
        "prevalence": {"value": 0.195},
        "threshold": {"value": 0.31},
        "n": {"value": 1502.0},
    },
}


class Page(html.parser.HTMLParser):
    """Tags, attributes and text of a page; checks that tags close in order."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.attributes, self.text, self._open = [], [], [], []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "img"):
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "style" not in self._open:
            self.text.append(data)

    def has(self, text: str) -> bool:
        return text in " ".join(" ".join(self.text).split())


@pytest.fixture
def content(tmp_path):
    Image.new("RGB", (900, 300)).save(tmp_path / "roc.png")
    return report.Report(
        title="Benign or malignant: HAM10000",
        summary="It works.",
        warnings=["Few malignant images."],
        metrics=METRICS,
        counts={"train": {"images": 7012, "malignant": 1360}, "test": {"images": 1502}},
        facts={"Device": "1 x CPU"},
        figures=[report.Figure("ROC curve", "On test images.", tmp_path / "roc.png")],
        config='{"seed": 0}',
        failures=[report.Failure("ISIC_1", "HAM_1", 1, 0.02, None), report.Failure("ISIC_2", "HAM_2", 0, 0.99, 0.5)],
    )


def page(content, tmp_path) -> Page:
    report.write(tmp_path / "report" / "index.html", content)
    return Page((tmp_path / "report" / "index.html").read_text(encoding="utf-8"))


def test_page_shows_everything_it_was_given(content, tmp_path):
    shown = page(content, tmp_path)
    for text in (
        "Benign or malignant: HAM10000",
        "It works.",
        "Few malignant images.",
        "1,502 test images classified · 19.5 % of them malignant · threshold 0.310",
        "0.930 0.910 to 0.950",
        "Matthews correlation -0.200 -0.300 to -0.100",
        "Train 7,012 1,360 Test 1,502 0",
        "Device 1 x CPU",
        "ROC curve. On test images.",
        "ISIC_1 HAM_1 malignant 0.020 –",
        "ISIC_2 HAM_2 benign 0.990 0.500",
        '{"seed": 0}',
        "Research use only. Not a medical device.",
    ):
        assert shown.has(text), text


def test_page_opens_with_the_verdict(content, tmp_path):
    shown = page(content, tmp_path)
    order = [" ".join(shown.text).index(text) for text in ("It works.", "0.930", "Few malignant", "ROC curve", "HAM_1")]
    assert order == sorted(order)


def test_page_loads_nothing(content, tmp_path):
    shown = page(content, tmp_path)
    assert not {"script", "link", "iframe", "object"} & set(shown.tags)
    addresses = [value for name, value in shown.attributes if name in ("src", "href", "srcset", "data")]
    assert len(addresses) == 1
    assert all(address.startswith("data:image/png;base64,") for address in addresses)
    style = (tmp_path / "report" / "index.html").read_text()
    assert "url(" not in style and "@import" not in style


def test_all_text_is_escaped(content, tmp_path):
    evil = "<script>alert('x')</script>\"&"
    content = dataclasses.replace(
        content,
        title=evil,
        summary=evil,
        warnings=[evil],
        metrics={evil: {evil: {"value": 0.5}}},
        counts={evil: {evil: 1}},
        facts={evil: evil},
        figures=[report.Figure(evil, evil, content.figures[0].path)],
        config=evil,
        failures=[report.Failure(evil, evil, 1, 0.5, 0.5)],
    )
    shown = page(content, tmp_path)
    assert "script" not in shown.tags
    assert " ".join(shown.text).count(evil) == 15
    assert sum(value == f"{evil}. {evil}" for name, value in shown.attributes if name == "alt") == 1


def test_sides_are_called_what_they_are(content, tmp_path):
    shown = page(dataclasses.replace(content, sides=("other", "melanoma")), tmp_path)
    assert shown.has("% of them melanoma") and shown.has("Probability of 'melanoma'")
    assert shown.has("ISIC_1 HAM_1 melanoma 0.020") and shown.has("ISIC_2 HAM_2 other 0.990")


def test_empty_sections_are_left_out(tmp_path):
    empty = report.Report(
        title="T",
        summary="S",
        warnings=[],
        metrics={"segmentation": {}},
        counts={},
        facts={},
        figures=[],
        config="",
        failures=[],
    )
    shown = page(empty, tmp_path)
    assert not {"h2", "table", "figure", "ul"} & set(shown.tags)
    assert shown.has("Not a medical device")


def test_a_figure_that_is_missing_or_no_png_is_refused(content, tmp_path):
    with pytest.raises(FileNotFoundError, match="figure 'ROC'.*nowhere.png"):
        page(dataclasses.replace(content, figures=[report.Figure("ROC", "", tmp_path / "nowhere.png")]), tmp_path)
    Image.new("RGB", (4, 4)).save(tmp_path / "photo.jpg")
    with pytest.raises(ValueError, match="figure 'ROC'.*photo.jpg is JPEG"):
        page(dataclasses.replace(content, figures=[report.Figure("ROC", "", tmp_path / "photo.jpg")]), tmp_path)


def test_table_is_aligned():
    assert report.table(METRICS).splitlines() == [
        "                         value  95 % interval",
        "segmentation",
        "  Dice                   0.912  0.900 to 0.920",
        "  Images                 1,502",
        "classification",
        "  ROC-AUC                0.930  0.910 to 0.950",
        "  Matthews correlation  -0.200  -0.300 to -0.100",
        "  Prevalence             0.195",
        "  Threshold              0.310",
        "  Images                 1,502",
    ]


def test_table_leaves_out_an_empty_section():
    assert "segmentation" not in report.table({"segmentation": {}, "classification": METRICS["classification"]})


def test_an_undefined_value_is_a_dash():
    assert report.table({"classification": {"mcc": {"value": float("nan")}}}).endswith("–")
