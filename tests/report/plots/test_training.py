import numpy as np
import pytest

from segfusion_jax.report import plots
from segfusion_jax.report.plots import style, training

ROWS = [{"step": 5 * e, "epoch": e, "split": s, "loss": 1 / e} for e in range(1, 6) for s in ("train", "validation")]


def test_both_splits_are_drawn_in_a_panel_a_metric(tmp_path):
    rows = [row | {"dice": 0.5, "roc_auc": 0.6} for row in ROWS]
    figure = plots.training_curves(tmp_path / "three.png", rows)
    assert [axes.get_title() for axes in figure.axes] == ["Loss", "Dice", "ROC-AUC", ""]
    train, validation = figure.axes[0].get_lines()
    for line in (train, validation):
        np.testing.assert_allclose(line.get_data(), ([1, 2, 3, 4, 5], [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]))
    assert (train.get_color(), validation.get_color()) == (style.BLUE, style.VERMILLION)
    assert train.get_linestyle() != validation.get_linestyle()


def test_a_split_or_a_metric_may_be_missing(tmp_path):
    figure = plots.training_curves(tmp_path / "train.png", [row for row in ROWS if row["split"] == "train"])
    assert len(figure.axes[0].get_lines()) == 1
    with pytest.raises(ValueError, match="no metric"):
        plots.training_curves(tmp_path / "none.png", [{"step": 1, "epoch": 1, "split": "train"}])


def test_curves_of_many_steps_are_means_of_neighbours():
    points = [(1.0, 2.0), (2.0, 4.0), (3.0, 9.0)]
    assert training._means(points, most=3) == ([1, 2, 3], [2, 4, 9])
    assert training._means(points, most=2) == ([2, 3], [3, 9])
    assert [len(column) for column in training._means([(float(step), 0.0) for step in range(1001)])] == [40, 40]
