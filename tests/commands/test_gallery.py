"""The gallery of `segfusion predict`, as a parser of HTML reads it; tests/browser has what its script does."""

import html.parser
import json
import pathlib
from urllib.parse import unquote

import pytest

from segfusion_jax.commands import gallery
from segfusion_jax.runtime.atomic import write_table

DECISIONS = ("benign", "malignant")
COLUMNS = ["image", "name", "probability", "decision", "probability of nevus", "probability of melanoma"]
COLUMNS += ["mask_share", "fallback", "novelty", "familiar", "error"]


def row(name: str, probability: float | None = 0.25, **others) -> dict:
    said = {"image": f"/somewhere/{name}.png", "name": name}
    if probability is not None:
        said |= {"probability": f"{probability:.6f}", "decision": DECISIONS[probability >= 0.5]}
        said |= {"probability of nevus": 1 - probability, "probability of melanoma": probability}
        said |= {"mask_share": "0.10000", "fallback": "", "novelty": "0.4000", "familiar": "1"}
    return said | others


def written(folder: pathlib.Path, rows: list[dict], *folders: str, overlays=True, prevalence=None) -> pathlib.Path:
    """A folder as the command leaves it, without the pictures themselves."""
    for name in ("masks", *folders):
        (folder / name).mkdir()
    write_table(folder / "predictions.csv", COLUMNS, ([one.get(name, "") for name in COLUMNS] for one in rows))
    settings = {"model": "ab" * 32, "overlays": overlays, "prevalence": prevalence}
    (folder / "settings.json").write_text(json.dumps(settings))
    gallery.write(folder, DECISIONS)
    return folder / gallery.NAME


class Cards(html.parser.HTMLParser):
    """What a page has: attributes of its elements by their tags, and the text of all cards."""

    def __init__(self, path: pathlib.Path):
        super().__init__()
        self.found: dict[str, list[dict]] = {}
        self.text = ""
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        self.found.setdefault(tag, []).append(dict(attributes))

    def handle_data(self, data):
        self.text += data


def test_each_image_has_a_card_that_says_what_the_table_says(tmp_path):
    rows = [row("low", 0.1), row("high", 0.9, familiar="0"), row("none", None, error="unreadable image")]
    page = Cards(written(tmp_path, [*rows, row("whole", fallback="empty")], "overlays", "evidence"))
    kinds = {card["data-name"]: card["data-kinds"].split("|") for card in page.found["article"]}
    assert kinds == {
        "low": ["benign"],
        "high": ["malignant", "unfamiliar"],
        "none": ["without an answer"],
        "whole": ["benign", "without a usable mask"],
    }
    assert [image["src"] for image in page.found["img"]] == [
        f"overlays/{name}.png" for name in ("low", "high", "whole")
    ]
    assert all(image["loading"] == "lazy" for image in page.found["img"])
    shown = [button["data-shows"] for button in page.found["button"]][:3]
    assert shown == ["overlays/low.png", "masks/low.png", "evidence/low.png"]
    for told in ("10.0 %", "called malignant", "unlike those", "unreadable image", "no usable mask (empty)"):
        assert told in page.text
    assert "/somewhere" not in (tmp_path / gallery.NAME).read_text()


def test_names_that_others_chose_are_texts_and_links(tmp_path):
    names = ["<script>alert(1)</script>", "a\"b'c", "a#b?c%d", "ä b", "a\nb\x1b", "..", "\udcff"]
    page = Cards(written(tmp_path, [row(name) for name in names], "overlays"))
    assert len(page.found["script"]) == 1
    links = [unquote(image["src"], errors="surrogateescape") for image in page.found["img"]]
    assert links == [f"overlays/{name}.png" for name in names]
    assert "\\x1b" in page.text and "<script>alert(1)</script>" in page.text


def test_what_was_not_written_is_not_shown(tmp_path):
    (tmp_path / "overlays").mkdir()  # of an earlier command
    page = Cards(written(tmp_path, [row("one")], overlays=False, prevalence=0.02))
    assert page.found["img"][0]["src"] == "masks/one.png" and "prevalence of 2.0 %" in page.text


def test_of_very_many_the_most_probable_are_shown_and_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "MOST", 2)
    page = Cards(written(tmp_path, [row(f"{share}", share) for share in (0.3, 0.1, 0.2)]))
    assert [card["data-name"] for card in page.found["article"]] == ["0.3", "0.2"]
    assert "3 images. These are the 2 of the highest probability" in page.text


def test_a_folder_without_images_that_could_be_read(tmp_path):
    page = Cards(written(tmp_path, [row("none", None, error="empty image file")], "overlays"))
    assert "There is no answer" in page.text and "img" not in page.found


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_probabilities_at_the_ends(tmp_path, share):
    assert f"{share:.0%}".replace("%", ".0 %") in Cards(written(tmp_path, [row("one", share)])).text


def test_how_often_such_decisions_are_right_stands_above_the_cards(tmp_path, monkeypatch):
    reached = {"sensitivity at home": "0.860", "specificity at home": "0.840"}
    reached |= {"sensitivity on ISIC <2017>": "0.610", "specificity on ISIC <2017>": "0.900"}
    monkeypatch.setattr("tests.commands.test_gallery.COLUMNS", [*COLUMNS, *reached])
    page = Cards(written(tmp_path, [row("none", None), row("low", 0.1, **reached)]))
    told = "at home sensitivity 0.860, specificity 0.840; on ISIC <2017> sensitivity 0.610, specificity 0.900"
    assert f"Such decisions: {told}." in page.text
