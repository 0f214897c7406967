"""The ladder and the curves beside published figures: what is drawn is what was given."""

import numpy as np
import pytest

from segfusion_jax.report import plots

RUNGS = ["Copies on both sides", "Lesions together"]


def entry(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.05, "high": value + 0.05}


def test_every_line_has_its_values_and_intervals(tmp_path):
    lines = {
        "dim": plots.Line([entry(0.98), entry(0.81)]),
        "memory": plots.Line([entry(0.8), {}], faint=True),
    }
    figure = plots.ladder(
        tmp_path / "ladder.png", RUNGS, lines, y_label="Balanced accuracy", levels={"published": 0.982}
    )
    (axes,) = figure.axes
    drawn = {str(line.get_label()): np.asarray(line.get_ydata()).tolist() for line in axes.lines}
    assert drawn["dim"] == [0.98, 0.81] and drawn["memory"] == [0.8]
    whiskers = [np.asarray(line.get_ydata()).tolist() for line in axes.lines if len(set(line.get_xdata())) == 1]
    assert [0.98 - 0.05, 0.98 + 0.05] in whiskers and len(whiskers) >= 3
    assert [0.982, 0.982] in [np.asarray(line.get_ydata()).tolist() for line in axes.lines]
    assert "published" in {text.get_text() for text in axes.texts}
    assert (tmp_path / "ladder.png").exists() and (tmp_path / "ladder.svg").exists()


@pytest.mark.parametrize("count", [1, 4])
def test_lines_that_do_not_fit_are_refused(tmp_path, count):
    lines = {str(number): plots.Line([entry(0.5)] * count) for number in range(count)}
    with pytest.raises(ValueError, match="must be"):
        plots.ladder(tmp_path / "ladder.png", RUNGS, lines, y_label="", levels={})


def test_published_points_stand_in_both_curves(tmp_path):
    labels, probabilities = np.array([0, 0, 1, 1]), np.array([0.1, 0.6, 0.4, 0.9])
    stated = plots.Stated(alarms=0.02, recall=0.97, precision=0.98, best_balanced_accuracy=0.938)
    figure = plots.stated_curves(tmp_path / "curves.png", {"Honest": (labels, probabilities)}, stated)
    points = [
        (line.get_xdata()[0], line.get_ydata()[0])
        for axes in figure.axes
        for line in axes.lines
        if line.get_label() == "Published point"
    ]
    assert points == [(0.02, 0.97), (0.97, 0.98)]
    (ceiling,) = [line for line in figure.axes[0].lines if str(line.get_label()).startswith("Published curve")]
    alarms, recall = np.asarray(ceiling.get_xdata()), np.asarray(ceiling.get_ydata())
    np.testing.assert_allclose((recall + 1 - alarms) / 2, 0.938)
    assert "Honest, area 0.750" in figure.axes[0].get_legend_handles_labels()[1]
