"""The page of a model elsewhere, of what two collections made up by hand would say."""

import dataclasses
import pathlib
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from sklearn import metrics as sk_metrics

from segfusion_jax.evaluation import segmentation
from segfusion_jax.input.mask_store import MaskRow
from segfusion_jax.pipeline import external, external_page
from segfusion_jax.serving.ensembles import Classes
from tests import tiny
from tests.datasets.rows import row
from tests.report.html_page import HtmlPage

CLASSES = Classes(("benign", "malignant"), (False, True), 1)


def model() -> mock.Mock:
    stated = SimpleNamespace(
        data=({"title": "Home's collection", "licence": "none"},),
        home={
            "roc_auc": {"value": 0.95, "low": 0.93, "high": 0.97},
            "sensitivity": {"value": 0.9, "low": 0.85, "high": 0.95},
            "dice": {"value": 0.9, "low": 0.88, "high": 0.92},
        },
        home_images=321,
        home_collections={"isic2017": {"n": 77, "found": {"roc_auc": {"value": 0.777}}}},
        operating_points=(),
        shares=(),
    )
    made = mock.Mock(
        threshold=0.5, classes=CLASSES.names, config=tiny.config(evaluation__min_subgroup=20), prevalence=0.2
    )
    made.classifiers.classes = CLASSES
    made.folder = SimpleNamespace(metadata=stated, digest="ab" * 32, files={"metadata.json": "cd" * 32})
    return made


def judged(name: str, title: str, n: int, origins: tuple[str, ...], noise: float) -> external.External:
    """Images that are malignant by thirds, of which the model is the less sure the more noise there is."""
    rng = np.random.default_rng(len(name))
    rows = tuple(
        row(number, image_id=f"{name}_{number}", origin=origins[number % len(origins)], target=int(number % 3 == 0))
        for number in range(n)
    )
    sides = np.array([one.target for one in rows])
    probabilities = np.clip(0.3 + 0.4 * sides + noise * rng.normal(size=n), 0.01, 0.99)
    of_classes = np.stack([1 - probabilities, probabilities], axis=1)
    classified = external.Classified(rows, probabilities, of_classes, sides, sides, np.full(n, -1))
    disc = np.hypot(*np.mgrid[-8:8, -8:8]) < 6
    overlaps = [(one, segmentation.score(np.roll(disc, number % 5, 0), disc)) for number, one in enumerate(rows[:30])]
    masks = {one.image_id: MaskRow(one.image_id, "0", 0.2, "") for one in rows}
    made = model()
    metrics = external.measure(made, classified, overlaps, made.folder.metadata, masks, resamples=100)
    metrics |= {
        "collection": "image_folder",
        "without_hash": 12,
        "left_out": {"same id": 7},
        "target": {"malignant": {"melanoma": n // 3}},
    }
    metrics["novelty"] = {"flagged": {"value": 0.2, "low": 0.1, "high": 0.3}, "kept": {"value": 0.99}}
    picture = np.full((16, 16, 3), 180, np.uint8)
    overlays = {"worst": [(picture, disc, disc, f"{rows[0].image_id}\nDice 1.00")]}
    return external.External(name, title, rows, classified, dict.fromkeys(masks, ""), overlaps, overlays, metrics)


@pytest.fixture(scope="module")
def found() -> list[external.External]:
    return [
        judged("near", "Near collection", 90, ("one clinic",), 0.05),
        judged("farther", "Far collection", 120, ("clinic A", "clinic B"), 0.4),
    ]


@pytest.fixture(scope="module")
def folder(found, tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("elsewhere")
    folders = {folder / one.name: one for one in found}
    for inner, one in folders.items():
        external_page.draw(inner, model(), one, resamples=100)
    external_page.write(folder, model(), folders, photographs=True, pseudonyms="")
    return folder


def masked(one: external.External) -> external.External:
    """The same, as if its images had no labels of both kinds."""
    metrics = {name: value for name, value in one.metrics.items() if name not in ("classification", "subgroups")}
    return dataclasses.replace(one, metrics=metrics)


def test_the_first_thing_is_home_beside_elsewhere_and_its_origins(found, folder):
    page = HtmlPage((folder / "index.html").read_text())
    far = found[1].classified
    area = sk_metrics.roc_auc_score(far.sides, far.probabilities)
    first = page.text[page.text.index("Generalisation") : page.text.index("Images by collection")]
    for told in (
        "Home's collection, at home 321 0.950",
        "Near collection 90",
        "Far collection, clinic A 60",
        f"{area:.3f}",
    ):
        assert told in " ".join(first.split())
    assert "isic2017, at home 77 0.777" in " ".join(first.split())
    assert "one clinic" not in first  # one origin tells nothing beside its collection
    drawn = (folder / "figures/elsewhere.svg").read_text()
    for name in ("At home", "Elsewhere", "Far collection, by origin", "clinic B", "Dice", "ROC-AUC"):
        assert f">{name}" in drawn


def test_what_does_not_hold_elsewhere_is_said_first(folder):
    text = " ".join(HtmlPage((folder / "index.html").read_text()).text.split())
    warnings = text[text.index("Read this first") : text.index("Generalisation")]
    assert "Far collection: ROC-AUC is 0." in warnings and "wholly below the 0.950 at home" in warnings
    assert "Near collection: ROC-AUC is" not in warnings
    assert "Far collection: Images that the model was trained on or chosen by" in warnings and "7 same id" in warnings
    assert warnings.count("Of 12 images that the model was trained on or chosen by it carries no hash") == 2
    assert warnings.count("are unlike those that the classifier was trained on") == 2


def test_each_collection_has_its_sections_and_alone_they_bear_no_name(found, folder, tmp_path):
    several = HtmlPage((folder / "index.html").read_text()).source
    for title in ("Near collection: Classification", "Far collection: Segmentation", "Far collection: Subgroups"):
        assert f"<h2>{title}</h2>" in several
    external_page.write(tmp_path, model(), {tmp_path: found[0]}, photographs=True, pseudonyms="")
    alone = HtmlPage((tmp_path / "index.html").read_text()).source
    assert "<h2>Classification</h2>" in alone and "SegFusion on Near collection</h1>" in alone
    assert "figures/elsewhere.png" in (tmp_path / "summary.md").read_text()


def test_without_photographs_there_is_none_of_an_earlier_page_either(found, tmp_path):
    external_page.draw(tmp_path, model(), masked(found[0]), resamples=100)
    assert (tmp_path / "figures/overlays_worst.png").exists()
    external_page.draw(tmp_path, model(), dataclasses.replace(masked(found[0]), overlays={}), resamples=100)
    external_page.write(tmp_path, model(), {tmp_path: found[0]}, photographs=False, pseudonyms="key.csv")
    assert not list((tmp_path / "figures").glob("overlays_*"))
    text = " ".join(HtmlPage((tmp_path / "index.html").read_text()).text.split())
    assert "Pictures of patients none" in text and "which is whose says key.csv" in text


def test_of_masks_alone_only_these_are_compared(found, tmp_path):
    external_page.write(tmp_path, model(), {tmp_path: masked(found[0])}, photographs=True, pseudonyms="")
    text = HtmlPage((tmp_path / "index.html").read_text()).text
    assert "Decisions cannot be judged" in text and "mean Dice" in text and "Classification" not in text
