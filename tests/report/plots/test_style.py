import threading

import matplotlib
import numpy as np
import pytest
from PIL import Image

from segfusion_jax.report import plots
from segfusion_jax.report.plots import style
from tests.report.plots.pictures import pixels, words

LABELS = np.arange(40) % 4 == 0
PROBABILITIES = np.linspace(0.05, 0.95, 40)


def draw(path) -> None:
    plots.roc_curve(path, plots.Judged(LABELS, PROBABILITIES, 0.4, range(40), resamples=20))


def test_drawings_are_png_of_300_dpi_and_svg_with_text(tmp_path):
    path = tmp_path / "new" / "roc.png"
    draw(path)
    with Image.open(path) as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert {"Sensitivity", "1 − specificity", "Model", "0.8"} <= set(words(path))


def test_equal_figures_are_equal_bytes(tmp_path):
    draw(tmp_path / "once.png")
    draw(tmp_path / "again.png")
    for suffix in (".png", ".svg"):
        once, again = ((tmp_path / name).with_suffix(suffix).read_bytes() for name in ("once", "again"))
        assert once == again
    assert b"<dc:date>" not in (tmp_path / "once.svg").read_bytes()


def test_layout_is_settled_to_a_few_digits(tmp_path):
    """The solver's last digits vary between processes, and would be part of an SVG's bytes."""
    figure, axes = style.single("Title", "x", "y")
    style.save_drawing(figure, tmp_path / "figure.png")
    np.testing.assert_array_equal(axes.get_position().bounds, np.round(axes.get_position().bounds, 6))
    assert axes.get_position().height < 0.9  # of the figure, so that title and labels have their place


def test_drawing_in_threads_leaves_the_global_state_alone(tmp_path):
    settings = [name for name in matplotlib.rcParams if name != "backend"]  # which is resolved when it is looked at
    before = [matplotlib.rcParams[name] for name in settings]
    draw(tmp_path / "alone.png")
    threads = [threading.Thread(target=draw, args=(tmp_path / f"{i}.png",)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(2):
        np.testing.assert_array_equal(pixels(tmp_path / f"{i}.png"), pixels(tmp_path / "alone.png"))
        assert (tmp_path / f"{i}.svg").read_bytes() == (tmp_path / "alone.svg").read_bytes()
    assert [matplotlib.rcParams[name] for name in settings] == before


def test_other_file_names_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"roc\.pdf: must end in \.png"):
        draw(tmp_path / "roc.pdf")


@pytest.mark.parametrize("save", [style.save_drawing, style.save_gallery])
def test_a_dollar_in_a_name_begins_no_formula(tmp_path, save):
    figure = style.drawing(3, 2)
    figure.subplots().set_title(r"class $\frac{ of 5$")
    save(figure, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 0
