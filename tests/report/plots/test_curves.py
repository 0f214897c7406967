import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk_metrics

from segfusion_jax.evaluation import classification
from segfusion_jax.report import plots
from segfusion_jax.report.plots import curves
from tests.report.plots.pictures import words

DRAW = (plots.roc_curve, plots.pr_curve, plots.decision_curve)
FEW = {"resamples": 20}


def sample(seed: int, n: int = 150) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities with ties, and groups of one to a few images."""
    generator = np.random.default_rng(seed)
    labels = generator.random(n) < 0.3
    probabilities = np.round(1 / (1 + np.exp(1 - generator.normal(size=n) - 1.5 * labels)), 2)
    return labels, probabilities, generator.integers(n // 2, size=n)


def line(figure, name: str) -> np.ndarray:
    """The points [n, 2] of the line with this name in the legend."""
    (found,) = [found for found in figure.axes[0].get_lines() if found.get_label() == name]
    return np.column_stack(found.get_data()).astype(float)


def band(figure) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places, lower and upper edge of the band."""
    data = figure.axes[0].collections[0].get_paths()[0].vertices
    places = np.unique(data[:, 0])
    edges = [data[data[:, 0] == place, 1] for place in places]
    return places, np.array([edge.min() for edge in edges]), np.array([edge.max() for edge in edges])


def resampled(labels, probabilities, groups, curve, resamples: int) -> np.ndarray:
    """The percentiles of `curve` over samples in which the images of drawn groups are really repeated."""
    names, generator = np.unique(groups), np.random.default_rng(0)
    drawn = []
    for _ in range(resamples):
        rows = [np.flatnonzero(groups == name) for name in names[generator.integers(names.size, size=names.size)]]
        drawn.append(curve(labels[np.concatenate(rows)], probabilities[np.concatenate(rows)]))
    return np.percentile(drawn, (2.5, 97.5), axis=0)


def test_roc_curve_and_its_band_are_those_of_scikit_learn(tmp_path):
    labels, probabilities, groups = sample(0)
    figure = plots.roc_curve(tmp_path / "roc.png", plots.Judged(labels, probabilities, 0.4, groups, **FEW))
    rates = sk_metrics.roc_curve(labels, probabilities, drop_intermediate=False)[:2]
    np.testing.assert_allclose(line(figure, "Model"), np.column_stack(rates))
    places, *edges = band(figure)

    def curve(labels, probabilities):
        false_positive, true_positive, _ = sk_metrics.roc_curve(labels, probabilities, drop_intermediate=False)
        return np.interp(places, false_positive, true_positive)

    np.testing.assert_allclose(edges, resampled(labels, probabilities, groups, curve, 20), atol=1e-12)
    scores = classification.metrics(labels, probabilities, 0.4)
    np.testing.assert_allclose(line(figure, "Threshold 0.400"), [[1 - scores["specificity"], scores["sensitivity"]]])
    assert f"ROC curve, area {scores['roc_auc']:.3f}" in words(tmp_path / "roc.png")


def test_pr_curve_and_its_band_are_those_of_scikit_learn(tmp_path):
    labels, probabilities, groups = sample(1)
    figure = plots.pr_curve(tmp_path / "pr.png", plots.Judged(labels, probabilities, 0.4, groups, **FEW))
    precision, recall, _ = sk_metrics.precision_recall_curve(labels, probabilities)
    drawn = line(figure, "Model")
    np.testing.assert_allclose(drawn[1:], np.column_stack([recall, precision])[-2::-1])
    assert drawn[0].tolist() == [0, drawn[1, 1]]  # no precision is made up where nothing is recalled
    places, *edges = band(figure)

    def curve(labels, probabilities):
        precision, recall, _ = sk_metrics.precision_recall_curve(labels, probabilities)
        return [precision[recall >= place - 1e-9][-1] for place in places]  # of the highest threshold that reaches it

    np.testing.assert_allclose(edges, resampled(labels, probabilities, groups, curve, 20), atol=1e-12)
    assert f"Chance (prevalence {labels.mean():.3f})" in words(tmp_path / "pr.png")
    scores = classification.metrics(labels, probabilities, 0.4)
    np.testing.assert_allclose(line(figure, "Threshold 0.400"), [[scores["recall"], scores["precision"]]])


def test_pr_curve_of_a_hand_worked_case(tmp_path):
    labels, probabilities = np.array([0, 1, 0, 1]), np.array([0.9, 0.8, 0.7, 0.6])
    figure = plots.pr_curve(tmp_path / "pr.png", plots.Judged(labels, probabilities, 0.75, range(4), **FEW))
    # The highest score is benign, so precision starts at 0.
    expected = [[0, 0], [0, 0], [0.5, 1 / 2], [0.5, 1 / 3], [1, 2 / 4]]
    np.testing.assert_allclose(line(figure, "Model"), expected)


def test_pr_curve_has_no_operating_point_where_nothing_is_called(tmp_path):
    labels, probabilities, groups = sample(1)
    plots.pr_curve(tmp_path / "pr.png", plots.Judged(labels, probabilities * 0.9, 0.99, groups, **FEW))
    assert not [text for text in words(tmp_path / "pr.png") if text.startswith("Threshold")]


def test_net_benefit_of_a_hand_worked_case(tmp_path):
    labels, probabilities = np.array([1, 0, 1, 0]), np.array([0.8, 0.6, 0.4, 0.2])
    figure = plots.decision_curve(tmp_path / "net.png", plots.Judged(labels, probabilities, 0.5, range(4), **FEW))
    for place, benefit in line(figure, "Model"):
        odds = place / (1 - place)
        hits, alarms = next(
            counts
            for highest, counts in ((0.2, (2, 2)), (0.4, (2, 1)), (0.6, (1, 1)), (0.8, (1, 0)), (1, (0, 0)))
            if place <= highest
        )
        assert benefit == pytest.approx((hits - alarms * odds) / 4)
    for place, benefit in line(figure, "Treat all"):
        assert benefit == pytest.approx(0.5 - 0.5 * place / (1 - place))
    assert line(figure, "Model")[0].tolist() == [0, 0.5]  # at 0 all are treated: the prevalence


def test_band_of_the_decision_curve_is_that_of_repeated_images(tmp_path):
    labels, probabilities, groups = sample(2)
    figure = plots.decision_curve(tmp_path / "net.png", plots.Judged(labels, probabilities, 0.4, groups, **FEW))
    places, *edges = band(figure)

    def curve(labels, probabilities):
        called = probabilities >= places[:, None]
        return (called & labels).mean(1) - (called & ~labels).mean(1) * places / (1 - places)

    np.testing.assert_allclose(edges, resampled(labels, probabilities, groups, curve, 20), atol=1e-12)


@pytest.mark.parametrize(("malignant", "threshold", "end"), [(2, 0.01, 0.08), (2, 0.4, 0.5), (50, 0.5, 0.95)])
def test_decision_curve_covers_sensible_thresholds(malignant, threshold, end, tmp_path):
    labels = np.arange(100) < malignant
    figure = plots.decision_curve(
        tmp_path / "net.png", plots.Judged(labels, 0.2 + 0.5 * labels, threshold, range(100), **FEW)
    )
    assert figure.axes[0].get_xlim() == pytest.approx((0, end))


def test_bands_hold_the_true_curve_and_widen_when_images_of_a_group_are_alike():
    truth = stats.norm.sf(stats.norm.isf(0.2) - 1.5)  # sensitivity at a false positive rate of 0.2, two normals
    inside, widths = 0, []

    def curve(malignant, benign):
        return np.interp([0.2], curves._rate(benign), curves._rate(malignant))

    for seed in range(60):
        generator = np.random.default_rng(seed)
        labels = np.arange(60) % 3 == 0
        scores = stats.norm.cdf(generator.normal(size=60) + 1.5 * labels)
        labels, scores, groups = (np.repeat(values, 3) for values in (labels, scores, np.arange(60)))
        _, low, high = curves._band(curve, plots.Judged(labels, scores, 0.5, groups, 200))
        inside += bool(low[0] <= truth <= high[0])
        _, narrow_low, narrow_high = curves._band(curve, plots.Judged(labels, scores, 0.5, range(180), 200))
        widths.append((high - low)[0] / (narrow_high - narrow_low)[0])
    assert inside >= 50
    assert np.mean(widths) == pytest.approx(np.sqrt(3), rel=0.15)


def test_resamples_of_one_class_are_left_out():
    labels = np.arange(20) < 2
    images = plots.Judged(labels, np.linspace(0.1, 0.9, 20), 0.5, range(20), resamples=50)
    edges = curves._band(lambda malignant, benign: malignant[:3] / malignant.sum(), images)
    assert np.isfinite(edges[1:]).all()


@pytest.mark.parametrize("draw", DRAW)
def test_input_without_a_curve_is_refused(draw, tmp_path):
    labels, probabilities, groups = sample(0)
    path = tmp_path / "figure.png"
    with pytest.raises(ValueError, match="both classes must be present"):
        draw(path, plots.Judged(np.zeros(4), np.full(4, 0.5), 0.5, range(4)))
    with pytest.raises(ValueError, match="149 groups"):
        draw(path, plots.Judged(labels, probabilities, 0.5, groups[1:]))
    with pytest.raises(ValueError, match="1 distinct"):
        draw(path, plots.Judged(labels, probabilities, 0.5, ["one"] * 150))
    with pytest.raises(ValueError, match="resamples = 0"):
        draw(path, plots.Judged(labels, probabilities, 0.5, groups, resamples=0))
    assert not path.exists()
