import numpy as np
import pytest
from scipy import special, stats

from segfusion_jax.evaluation import bootstrap, weighted
from tests.evaluation import delong


def simulate(seed: int, n: int, decimals: int = 2) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % 3 == 0
    return labels, np.round(special.expit(generator.normal(size=n) + labels), decimals)


def by_definition(labels: np.ndarray, *models: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Areas and covariance from all pairs of images, as DeLong et al. wrote them down."""
    kernels = []
    for probabilities in models:
        malignant, benign = probabilities[labels][:, None], probabilities[~labels][None, :]
        kernels.append((malignant > benign) + 0.5 * (malignant == benign))
    kernels = np.array(kernels)
    areas = kernels.mean(axis=(1, 2))
    covariance = np.zeros((len(models), len(models)))
    for axis in (1, 2):
        components = kernels.mean(axis=3 - axis) - areas[:, None]
        count = components.shape[1]
        covariance += components @ components.T / (count - 1) / count
    return areas, covariance


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("decimals", [1, 9])  # with ties and without
def test_the_variance_is_that_of_the_definition(seed, decimals):
    labels, a = simulate(seed, 31, decimals)
    b = simulate(seed + 10, 31, decimals)[1]
    areas, covariance = by_definition(labels, a, b)
    assert delong.auc_variance(labels, a) == pytest.approx(covariance[0, 0])
    comparison = delong.compare(labels, a, b)
    error = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    z = (areas[0] - areas[1]) / error
    assert comparison.difference == pytest.approx(areas[0] - areas[1])
    assert comparison.high - comparison.low == pytest.approx(2 * 1.959964 * error)
    assert comparison.p_value == pytest.approx(2 * (1 - stats.norm.cdf(abs(z))))


def test_the_variance_is_that_of_many_samples():
    areas, variances = [], []
    for seed in range(400):
        labels, probabilities = simulate(seed, 150, 9)
        areas.append(by_definition(labels, probabilities)[0][0])
        variances.append(delong.auc_variance(labels, probabilities))
    assert np.mean(variances) == pytest.approx(np.var(areas), rel=0.15)


def test_the_interval_is_symmetric_in_the_logit():
    labels, probabilities = simulate(0, 90)
    area, low, high = by_definition(labels, probabilities)[0][0], *delong.interval(labels, probabilities)
    assert special.logit(area) - special.logit(low) == pytest.approx(special.logit(high) - special.logit(area))
    half = 1.959964 * np.sqrt(delong.auc_variance(labels, probabilities))
    assert (low + high) / 2 < area  # towards the middle
    assert high - low == pytest.approx(2 * half, rel=0.03)


def test_the_variance_is_the_bootstraps():
    labels, probabilities = simulate(1, 600)
    statistic = weighted.roc_auc(labels, probabilities)
    values = np.concatenate([statistic(weights) for weights in bootstrap.draws(np.arange(600), 4000, 0)])
    assert delong.auc_variance(labels, probabilities) == pytest.approx(values.var(), rel=0.08)


def test_perfect_and_equal_models():
    labels = np.array([0, 0, 1, 1])
    perfect = np.array([0.1, 0.2, 0.8, 0.9])
    assert delong.interval(labels, perfect) == (1.0, 1.0)
    assert delong.interval(labels, 1 - perfect) == (0.0, 0.0)
    assert delong.compare(labels, perfect, perfect / 2) == (0.0, 0.0, 0.0, 1.0)
    assert delong.compare(labels, perfect, 1 - perfect) == (1.0, 1.0, 1.0, 0.0)


def test_one_image_has_no_variance():
    with pytest.raises(ValueError, match="1 malignant and 3 benign images"):
        delong.auc_variance(np.array([1, 0, 0, 0]), np.array([0.4, 0.1, 0.2, 0.6]))
