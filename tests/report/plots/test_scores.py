import numpy as np
import pytest

from segfusion_jax.report import plots
from segfusion_jax.report.plots import style
from tests.report.plots.pictures import words


def bins(name: str, **changes) -> plots.Reliability:
    mean = np.array([0.1, 0.5, 0.9])
    fields = {"mean": mean, "share": mean**2, "low": mean**2 - 0.01, "high": mean**2 + 0.05}
    return plots.Reliability(name, **(fields | {"probabilities": np.linspace(0, 1, 30)} | changes))


def test_confusion_matrix_counts_and_shades_by_share_of_the_diagnosis(tmp_path):
    labels = np.array([0] * 90 + [1] * 10)
    decisions = labels.copy()
    decisions[:9] = 1
    figure = plots.confusion_matrix(tmp_path / "two.png", labels == 1, decisions == 1)
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), [[0.9, 0.1], [0, 1]])
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["81\n90.0 %", "9\n10.0 %", "0\n0.0 %", "10\n100.0 %"]
    assert {"Benign", "Malignant", "Diagnosis", "Called by the model"} <= set(words(tmp_path / "two.png"))


def test_confusion_matrix_of_many_classes_tells_one_without_images(tmp_path):
    names = ["nevus", "melanoma", "keratosis", "vascular lesion", "dermatofibroma"]
    figure = plots.confusion_matrix(tmp_path / "five.png", np.array([0, 0, 1, 2, 3]), np.array([0, 1, 1, 2, 4]), names)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[:2] == ["1\n50 %", "1\n50 %"]
    assert texts[3 * 5 + 4] == "1\n100 %"
    assert texts[4 * 5 :] == ["–"] * 5
    assert "Vascular lesion" in words(tmp_path / "five.png")


@pytest.mark.parametrize(
    ("targets", "decisions", "message"),
    [
        ([0, 1], [0.2, 0.7], "hold 0.2"),
        ([0, 2], [0, 1], "hold 2"),
        ([0, 1], [0, 1, 1], r"decisions \(3,\)"),
        ([], [], "at least one image"),
    ],
)
def test_confusion_matrix_refuses_what_is_no_class(targets, decisions, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        plots.confusion_matrix(tmp_path / "figure.png", np.array(targets), np.array(decisions))


def test_histogram_shows_shares_of_each_class(tmp_path):
    labels = np.array([0] * 30 + [1] * 10)
    probabilities = np.where(labels, 0.9, 0.1)
    probabilities[:3] = 0.9
    figure = plots.probability_histogram(tmp_path / "histogram.png", labels, probabilities, 0.4)
    shares = [stairs.get_data().values for stairs in figure.axes[0].patches]
    assert [values.sum() for values in shares] == pytest.approx([1] * 4)  # each class filled, then outlined
    assert [values[22] for values in shares[::2]] == pytest.approx([0.1, 1])  # 0.88 to 0.92
    assert {"Benign (n = 30)", "Malignant (n = 10)", "Threshold 0.400"} <= set(words(tmp_path / "histogram.png"))
    with pytest.raises(ValueError, match="both classes must be present"):
        plots.probability_histogram(tmp_path / "x.png", np.zeros(4), np.full(4, 0.5), 0.5)


def test_reliability_shows_bins_with_intervals_over_a_histogram(tmp_path):
    curves = [bins("Uncalibrated"), bins("Calibrated", share=np.array([0.1, 0.5, 0.9]), low=np.zeros(3))]
    figure = plots.reliability_diagram(tmp_path / "reliability.png", curves)
    above, below = figure.axes
    for container, curve, colour in zip(above.containers, curves, (style.VERMILLION, style.BLUE), strict=True):
        data, _, (whiskers,) = container
        np.testing.assert_allclose(data.get_data(), (curve.mean, curve.share))
        ends = np.array(whiskers.get_segments())[:, :, 1]
        np.testing.assert_allclose(ends[:, 0], np.minimum(curve.low, curve.share))
        np.testing.assert_allclose(ends[:, 1], np.maximum(curve.high, curve.share))
        assert data.get_color() == colour
    assert [stairs.get_data().values.sum() for stairs in below.patches] == [30, 30]
    assert {"Uncalibrated", "Calibrated", "Perfect calibration"} <= set(words(tmp_path / "reliability.png"))


def test_reliability_refuses_bins_that_do_not_match(tmp_path):
    with pytest.raises(ValueError, match="'Calibrated'"):
        plots.reliability_diagram(tmp_path / "x.png", [bins("Calibrated", low=np.zeros(2))])
    with pytest.raises(ValueError, match="3 curves"):
        plots.reliability_diagram(tmp_path / "x.png", [bins("a")] * 3)
