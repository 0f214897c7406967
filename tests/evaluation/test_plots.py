import threading

import matplotlib
import numpy as np
import pytest
from PIL import Image

from segfusion_jax.evaluation import plots

IMAGE = np.full((40, 60, 3), 128, np.uint8)
DISC = np.hypot(*np.ogrid[-20:20, -30:30]) < 12


def pixels(path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.info["dpi"] == pytest.approx((150, 150), abs=0.1)
        return np.asarray(image.convert("RGB")).astype(int)


def amount(picture: np.ndarray, colour: str) -> int:
    """Pixels of nearly this colour."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(picture - wanted).max(axis=-1) < 12).sum())


@pytest.fixture
def scores():
    generator = np.random.default_rng(0)
    labels = generator.random(200) < 0.3
    return labels, 1 / (1 + np.exp(1 - generator.normal(size=200) - 1.5 * labels))


@pytest.mark.parametrize("draw", [plots.roc_curve, plots.pr_curve, plots.probability_histogram])
def test_score_figures_show_model_and_threshold(draw, scores, tmp_path):
    path = tmp_path / "new" / "figure.png"
    draw(path, *scores, 0.4)
    assert amount(pixels(path), plots.BLUE) > 200
    assert amount(pixels(path), plots.VERMILLION) > 50


@pytest.mark.parametrize("draw", [plots.roc_curve, plots.pr_curve, plots.probability_histogram])
def test_one_class_is_refused(draw, tmp_path):
    with pytest.raises(ValueError, match="both classes must be present"):
        draw(tmp_path / "figure.png", np.zeros(4), np.full(4, 0.5), 0.5)


def test_confusion_matrix_shades_by_share_of_the_diagnosis(tmp_path):
    labels = np.array([0] * 90 + [1] * 10)
    plots.confusion_matrix(tmp_path / "right.png", labels, labels == 1)
    plots.confusion_matrix(tmp_path / "wrong.png", labels, labels == 0)
    right, wrong = pixels(tmp_path / "right.png"), pixels(tmp_path / "wrong.png")
    height, width = right.shape[:2]
    corners = [(0.12, 0.2), (0.82, 0.9), (0.12, 0.9), (0.82, 0.2)]
    darkness = [[255 * 3 - p[int(y * height), int(x * width)].sum() for y, x in corners] for p in (right, wrong)]
    assert min(darkness[0][:2]) > max(darkness[0][2:]) + 200
    assert min(darkness[1][2:]) > max(darkness[1][:2]) + 200


def test_confusion_matrix_refuses_probabilities(scores, tmp_path):
    with pytest.raises(ValueError):
        plots.confusion_matrix(tmp_path / "figure.png", *scores)


def test_training_curves_draw_both_splits_and_grow_with_the_metrics(tmp_path):
    rows = [
        {"step": 5 * e, "epoch": e, "split": s, "loss": 1 / e} for e in range(1, 6) for s in ("train", "validation")
    ]
    plots.training_curves(tmp_path / "one.png", rows)
    plots.training_curves(tmp_path / "four.png", [row | {"dice": 0.5, "roc_auc": 0.6, "rate": 1.0} for row in rows])
    plots.training_curves(tmp_path / "train.png", [row for row in rows if row["split"] == "train"])
    one, four, train = (pixels(tmp_path / f"{name}.png") for name in ("one", "four", "train"))
    assert four.shape[0] > one.shape[0] and four.shape[1] > one.shape[1]
    assert amount(train, plots.VERMILLION) < 0.5 * amount(one, plots.VERMILLION)  # the legend's line is left
    with pytest.raises(ValueError, match="no metric"):
        plots.training_curves(tmp_path / "none.png", [{"step": 1, "epoch": 1, "split": "train"}])


def test_overlays_draw_each_mask_in_its_colour_and_closed_at_the_border(tmp_path):
    nothing, everything = np.zeros_like(DISC), np.ones_like(DISC)
    cases = {"both": (DISC, DISC[::-1]), "none": (nothing, nothing), "all": (everything, nothing)}
    for name, (annotation, prediction) in cases.items():
        plots.segmentation_overlays(tmp_path / f"{name}.png", [(IMAGE, annotation, prediction, "ISIC_1")])
    both, none, whole = (pixels(tmp_path / f"{name}.png") for name in cases)
    assert amount(both, plots.YELLOW) > amount(none, plots.YELLOW) + 100
    assert amount(whole, plots.SKY) > amount(none, plots.SKY) + 300
    with pytest.raises(ValueError, match="no image"):
        plots.segmentation_overlays(tmp_path / "x.png", [])


def test_bridge_panels_show_all_three_pictures(tmp_path):
    green = np.broadcast_to(np.uint8([20, 200, 40]), IMAGE.shape)
    plots.bridge_panels(tmp_path / "bridge.png", [(IMAGE, DISC * np.uint8(255), green, "ISIC_1")] * 2)
    picture = pixels(tmp_path / "bridge.png")
    cell = amount(picture, "#14c828")
    assert cell > 20_000
    assert amount(picture, "#808080") > 0.9 * cell
    assert amount(picture, "#000000") > 0.6 * cell
    with pytest.raises(ValueError, match="no image"):
        plots.bridge_panels(tmp_path / "x.png", [])


def test_augmentation_sheet_takes_rows_of_any_length(tmp_path):
    copy = (IMAGE, DISC * np.uint8(255))
    plots.augmentation_sheet(tmp_path / "sheet.png", [[copy] * 3, [copy]])
    picture = pixels(tmp_path / "sheet.png")
    assert amount(picture, plots.SKY) > 400
    plots.augmentation_sheet(tmp_path / "full.png", [[copy] * 3, [copy] * 3])
    assert amount(pixels(tmp_path / "full.png"), plots.SKY) > 1.3 * amount(picture, plots.SKY)
    with pytest.raises(ValueError, match=r"\[1, 0\]"):
        plots.augmentation_sheet(tmp_path / "x.png", [[copy], []])


def test_drawing_in_threads_leaves_the_global_state_alone(scores, tmp_path):
    settings = [name for name in matplotlib.rcParams if name != "backend"]  # which is resolved when it is looked at
    before = [matplotlib.rcParams[name] for name in settings]
    plots.roc_curve(tmp_path / "alone.png", *scores, 0.4)
    threads = [threading.Thread(target=plots.roc_curve, args=(tmp_path / f"{i}.png", *scores, 0.4)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(3):
        np.testing.assert_array_equal(pixels(tmp_path / f"{i}.png"), pixels(tmp_path / "alone.png"))
    assert [matplotlib.rcParams[name] for name in settings] == before


def test_curves_of_many_steps_are_means_of_neighbours():
    points = [(1.0, 2.0), (2.0, 4.0), (3.0, 9.0)]
    assert plots._means(points, most=3) == ([1, 2, 3], [2, 4, 9])
    assert plots._means(points, most=2) == ([2, 3], [3, 9])
    assert [len(column) for column in plots._means([(float(step), 0.0) for step in range(1001)])] == [40, 40]
