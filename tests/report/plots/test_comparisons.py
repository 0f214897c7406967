import numpy as np
import pytest

from segfusion_jax.report import plots
from tests.report.plots.pictures import words

ROWS = [
    plots.Row("female", [{"value": 0.8, "low": 0.7, "high": 0.9}, {"value": 0.5}], "Sex", (1200, 30)),
    plots.Row("male", [{"value": 0.6, "low": 0.5, "high": 0.8}, {"value": 0.4}], "Sex", (900, 20)),
    plots.Row("over 60", [{}, {"value": 0.3}], "Age", (9, 1)),
]


def marks(axes, count: int) -> np.ndarray:
    """The points of the lines of `count` points, [lines, 2 count]."""
    lines = [line for line in axes.get_lines() if line.get_color() != "#333333" and len(line.get_xdata()) == count]
    return np.array([np.concatenate(line.get_data()) for line in lines])


def test_values_and_intervals_stand_at_their_rows(tmp_path):
    path = tmp_path / "forest.png"
    options = {"references": [0.75, None], "counts": ["n", "malignant"]}
    figure = plots.forest(path, ROWS, ["ROC-AUC", "Dice"], **options)
    names, auc, dice = figure.axes
    places = {text.get_text(): text.get_position()[1] for text in names.texts}
    female, male, over = (places[row.name] for row in ROWS)
    assert places["Sex"] < female < male < places["Age"] < over
    np.testing.assert_allclose(marks(auc, 1), [[0.8, female], [0.6, male]])
    np.testing.assert_allclose(marks(auc, 2), [[0.7, 0.9, female, female], [0.5, 0.8, male, male]])
    np.testing.assert_allclose(marks(dice, 1), [[0.5, female], [0.4, male], [0.3, over]])
    assert not marks(dice, 2).size
    assert (places["1,200"], places["20"], places["9"]) == (female, male, over)
    top, bottom = auc.get_ylim()[::-1]
    assert top < min(places.values()) and bottom > over
    assert [line.get_xdata()[0] for line in auc.get_lines() if line.get_color() == "#333333"] == [0.75]
    assert not [line for line in dice.get_lines() if line.get_color() == "#333333"]
    assert {"ROC-AUC", "Dice", "malignant", "Age"} <= set(words(path))


def test_rows_without_headings_and_counts(tmp_path):
    rows = [plots.Row(name, [{"value": 0.1, "low": -0.1, "high": 0.2}]) for name in ("crop", "attenuate")]
    figure = plots.forest(tmp_path / "forest.png", rows, ["Difference of ROC-AUC"], references=[0])
    assert [text.get_text() for text in figure.axes[0].texts] == ["crop", "attenuate"]
    np.testing.assert_allclose(marks(figure.axes[1], 1), [[0.1, 0], [0.1, 1]])


def test_tables_that_do_not_match_are_refused(tmp_path):
    path = tmp_path / "forest.png"
    with pytest.raises(ValueError, match="0 rows"):
        plots.forest(path, [], ["Dice"])
    with pytest.raises(ValueError, match="'female': 2 entries and 2 counts: must be 1 and 2"):
        plots.forest(path, ROWS, ["Dice"], counts=["n", "malignant"])
    with pytest.raises(ValueError, match="'female'"):
        plots.forest(path, ROWS, ["ROC-AUC", "Dice"])
    with pytest.raises(ValueError, match="1 references"):
        plots.forest(path, ROWS, ["ROC-AUC", "Dice"], references=[0.5], counts=["n", "malignant"])
