import numpy as np
import pytest

from segfusion_jax.report import plots
from segfusion_jax.report.plots import style
from tests.report.plots.pictures import amount, pixels

IMAGE = np.full((40, 60, 3), 128, np.uint8)
DISC = np.hypot(*np.ogrid[-20:20, -30:30]) < 12


def test_overlays_draw_each_mask_in_its_colour_and_closed_at_the_border(tmp_path):
    nothing, everything = np.zeros_like(DISC), np.ones_like(DISC)
    cases = {"both": (DISC, DISC[::-1]), "none": (nothing, nothing), "all": (everything, nothing)}
    for name, (annotation, prediction) in cases.items():
        plots.segmentation_overlays(tmp_path / f"{name}.png", [(IMAGE, annotation, prediction, "ISIC_1")])
    both, none, whole = (pixels(tmp_path / f"{name}.png") for name in cases)
    assert amount(both, style.YELLOW) > amount(none, style.YELLOW) + 50
    assert amount(whole, style.SKY) > amount(none, style.SKY) + 300
    assert not (tmp_path / "both.svg").exists()


def test_titles_that_are_too_long_are_wrapped(tmp_path):
    title = "a name of an image that is longer than its cell\nDice 0.50"
    figure = plots.segmentation_overlays(tmp_path / "long.png", [(IMAGE, DISC, DISC, title)] * 4)
    lines = figure.axes[0].get_title().splitlines()
    assert " ".join(lines[:-1]) == title.splitlines()[0]
    assert max(map(len, lines)) <= 24 and lines[-1] == "Dice 0.50"


def test_false_negatives_show_mask_probability_and_name(tmp_path):
    missed = [plots.Missed(f"ISIC_{i}", IMAGE, DISC if i else np.zeros_like(DISC), 0.125) for i in range(4)]
    figure = plots.false_negatives(tmp_path / "missed.png", missed)
    assert [axes.get_title() for axes in figure.axes[:4]] == [f"ISIC_{i}\nprobability 0.125" for i in range(4)]
    assert [len(axes.collections) for axes in figure.axes] == [0, 1, 1, 1]
    assert amount(pixels(tmp_path / "missed.png"), style.SKY) > 150


def test_bridge_panels_show_all_three_pictures(tmp_path):
    green = np.broadcast_to(np.uint8([20, 200, 40]), IMAGE.shape)
    plots.bridge_panels(tmp_path / "bridge.png", [(IMAGE, DISC * np.uint8(255), green, "ISIC_1")] * 2)
    picture = pixels(tmp_path / "bridge.png")
    cell = amount(picture, "#14c828")
    assert cell > 50_000
    assert amount(picture, "#808080") > 0.9 * cell
    assert amount(picture, "#000000") > 0.6 * cell


def test_explanations_lay_evidence_over_the_whole_image(tmp_path):
    evidence = np.array([[-5.0, 0.0], [1.0, 4.0]])
    panel = plots.Explanation("ISIC_1\nmelanoma", IMAGE, IMAGE // 2, DISC, evidence, 0.734)
    none = panel._replace(evidence=np.zeros((3, 3)), inside_share=np.nan)
    figure = plots.explanations(tmp_path / "evidence.png", [panel, none])
    image, seen, over = figure.axes[:6:2]  # of the first panel, from above
    heat = over.images[1]
    np.testing.assert_array_equal(seen.images[0].get_array(), IMAGE // 2)
    np.testing.assert_allclose(heat.get_array(), [[-1, 0], [0.2, 0.8]])
    assert heat.get_extent() == over.images[0].get_extent()
    assert over.get_xlabel() == "73 % inside the lesion"
    nothing = np.ma.filled(figure.axes[5].images[1].get_array(), np.nan)  # matplotlib masks what is not a number
    np.testing.assert_array_equal(nothing, np.zeros((3, 3)))
    assert figure.axes[5].get_xlabel() == "no evidence"
    assert [bool(axes.collections) for axes in (image, seen, over)] == [True, False, True]


def test_augmentation_sheet_takes_rows_of_any_length(tmp_path):
    copy = (IMAGE, DISC * np.uint8(255))
    figure = plots.augmentation_sheet(tmp_path / "sheet.png", [[copy] * 3, [copy]])
    assert [len(axes.images) for axes in figure.axes] == [1, 1, 1, 1, 0, 0]
    assert [len(axes.collections) for axes in figure.axes] == [1, 1, 1, 1, 0, 0]
    with pytest.raises(ValueError, match=r"\[1, 0\]"):
        plots.augmentation_sheet(tmp_path / "x.png", [[copy], []])


@pytest.mark.parametrize(
    "draw", [plots.segmentation_overlays, plots.bridge_panels, plots.explanations, plots.false_negatives]
)
def test_galleries_without_images_are_refused(draw, tmp_path):
    with pytest.raises(ValueError, match="no image"):
        draw(tmp_path / "x.png", [])
