import html.parser
import json
import re

import pytest

from segfusion_jax.config import Config
from tests import tiny


class Page(html.parser.HTMLParser):
    """What a browser would load, and the text."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.loaded, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loaded += [value for name, value in attrs if name in ("src", "srcset", "href", "data", "poster")]

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def page(finished) -> Page:
    return Page((finished / "report/index.html").read_text())


def test_the_page_loads_nothing(finished, page):
    pictures = [value for value in page.loaded if value.startswith("data:image/png;base64,")]
    assert len(pictures) == len(list((finished / "evaluation/figures").iterdir()))
    assert all(value.startswith(("data:", "#")) for value in page.loaded)
    assert not {"script", "link", "iframe", "object", "embed"} & set(page.tags)
    assert not re.search(r"@import|url\((?!['\"]?data:)", (finished / "report/index.html").read_text())


def test_the_page_says_what_was_measured(finished, page):
    metrics = json.loads((finished / "evaluation/metrics.json").read_text())
    audit = json.loads((finished / "splits/audit.json").read_text())
    for section, name in (("classification", "roc_auc"), ("classification", "mcc"), ("segmentation", "jaccard")):
        assert f"{metrics[section][name]['value']:.3f}" in page.text
    for split in ("train", "validation", "test"):
        assert str(audit["splits"][split]["images"]) in page.text
    assert "drawn by a program" in page.text and '"mode": "dim"' in page.text


def test_fall_backs_are_counted(finished, page):
    masks = tiny.table(finished / "masks/masks.csv")
    fallbacks = sum(bool(mask["fallback"]) for mask in masks)
    assert fallbacks and f"{fallbacks} of {len(masks)} images had no usable mask" in page.text


def test_failures_are_listed_missed_malignant_ones_first(finished, page):
    metrics = json.loads((finished / "evaluation/metrics.json").read_text())
    threshold = metrics["classification"]["threshold"]["value"]
    rows = tiny.table(finished / "evaluation/predictions.csv")
    missed, alarms = (
        [
            r["image_id"]
            for r in rows
            if r["label"] == label and (float(r["probability"]) >= threshold) == (label == "0")
        ]
        for label in "10"
    )
    failures = page.text[page.text.index("Worst test images") :]
    shown = [image_id for image_id in dict.fromkeys(re.findall(r"SYN_\d+", failures)) if image_id in missed + alarms]
    assert shown and len(shown) == min(20, len(missed + alarms))
    assert set(shown[: len(missed)]) == set(missed[:20])


def test_the_model_folder_is_complete(finished):
    folder = finished / "model"
    metadata = json.loads((folder / "metadata.json").read_text())
    assert {path.name for path in folder.iterdir()} == {"metadata.json", *metadata["classifiers"], *metadata["unets"]}
    assert Config.from_json(json.dumps(metadata["config"])) == tiny.BASE
    assert metadata["threshold"] == metadata["metrics"]["classification"]["threshold"]["value"]
    for fold, name in enumerate(metadata["unets"]):
        trained = (finished / f"segmentation/fold_{fold}/weights.safetensors").read_bytes()
        assert (folder / name).read_bytes() == trained
    trained = (finished / "classification/weights.safetensors").read_bytes()
    assert (folder / metadata["classifiers"][0]).read_bytes() == trained
