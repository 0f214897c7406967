import logging

import numpy as np
import pytest
from scipy import special, stats
from sklearn.linear_model import LogisticRegression

from segfusion_jax.evaluation import calibration
from segfusion_jax.evaluation.calibration import Calibration


def drawn(seed: int, n: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and logits that are `temperature` times what they should be."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(-1.5, 1.5, n)
    return generator.random(n) < special.expit(logits), logits * temperature


def drawn_classes(seed: int, n: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2, (n, 4))
    return (logits + generator.gumbel(size=(n, 4))).argmax(axis=1), logits * temperature


def test_hand_worked_calibration_error():
    # two bins of three: mean probabilities 0.2 and 0.8, shares 1/3 and 2/3
    labels, probabilities = np.array([0, 1, 0, 1, 1, 0]), np.array([0.1, 0.2, 0.3, 0.7, 0.8, 0.9])
    expected = (abs(0.6 - 1) + abs(2.4 - 2)) / 6
    assert calibration.expected_calibration_error(labels, probabilities, bins=2) == pytest.approx(expected)
    assert calibration.expected_calibration_error(labels[::-1], probabilities[::-1], bins=2) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_bins_hold_equally_many_where_no_scores_are_tied(seed):
    labels, logits = drawn(seed, 60, 1.0)
    probabilities = special.expit(logits)
    order = np.argsort(probabilities)
    gaps = (probabilities - labels)[order].reshape(15, 4).sum(axis=1)
    expected = np.abs(gaps).sum() / 60
    assert calibration.expected_calibration_error(labels, probabilities) == pytest.approx(expected)
    assert [found.n for found in calibration.reliability(labels, probabilities)] == [6] * 10


def test_ties_stay_together():
    labels, probabilities = np.array([0, 1] * 4), np.full(8, 0.5)
    assert calibration.expected_calibration_error(labels, probabilities, bins=4) == 0.0
    (one,) = calibration.reliability(labels, probabilities, bins=4)
    assert (one.probability, one.observed, one.n) == (0.5, 0.5, 8)


def test_ties_count_half():
    # of the three at 0.5, two and a half of four images lie below: the second of two bins, where 0.2 is not
    labels, probabilities = np.array([1, 0, 0, 0]), np.array([0.2, 0.5, 0.5, 0.5])
    expected = (abs(0.2 - 1) + 1.5) / 4
    assert calibration.expected_calibration_error(labels, probabilities, bins=2) == pytest.approx(expected)


def test_one_bin_is_calibration_in_the_large():
    labels, logits = drawn(4, 50, 2.0)
    probabilities = special.expit(logits)
    expected = abs(probabilities.mean() - labels.mean())
    assert calibration.expected_calibration_error(labels, probabilities, bins=1) == pytest.approx(expected)


def test_reliability_intervals_are_wilsons():
    labels, probabilities = np.array([0, 0, 0, 1, 0, 1, 1, 1]), np.array([0.1] * 4 + [0.7] * 4)
    low, high = calibration.reliability(labels, probabilities, bins=2)
    z, p, n = stats.norm.ppf(0.975), 0.25, 4
    middle, half = (p + z**2 / 2 / n) / (1 + z**2 / n), z * np.sqrt(p * (1 - p) / n + z**2 / 4 / n**2) / (1 + z**2 / n)
    assert low == pytest.approx((0.1, 0.25, 4, middle - half, middle + half))
    assert high == pytest.approx((0.7, 0.75, 4, 1 - middle - half, 1 - middle + half))
    (none,) = calibration.reliability(np.zeros(3), np.full(3, 0.2))  # one class alone will do
    assert none.low == 0.0 < none.high


def test_a_perfect_model_lies_in_its_range_and_others_above():
    inside = []
    for seed in range(60):
        labels, logits = drawn(seed, 300, 1.0)
        low, high = calibration.calibrated_ece(special.expit(logits), np.arange(300), resamples=200)
        inside.append(low <= calibration.expected_calibration_error(labels, special.expit(logits)) <= high)
    assert 0.88 <= np.mean(inside) <= 1.0
    labels, logits = drawn(0, 300, 4.0)
    _, high = calibration.calibrated_ece(special.expit(logits), np.arange(300))
    assert calibration.expected_calibration_error(labels, special.expit(logits)) > high


def test_chance_is_larger_where_images_come_in_groups():
    probabilities = special.expit(drawn(0, 400, 1.0)[1])
    alone = calibration.calibrated_ece(probabilities, np.arange(400))
    grouped = calibration.calibrated_ece(np.sort(probabilities), np.arange(400) // 10)
    assert grouped[1] > 1.5 * alone[1]
    assert alone == calibration.calibrated_ece(probabilities, [f"lesion {i:03}" for i in range(400)])
    with pytest.raises(ValueError, match="groups has 3 values"):
        calibration.calibrated_ece(probabilities, [1, 2, 3])


@pytest.mark.parametrize("temperature", [0.3, 1.0, 3.0])
def test_the_temperature_is_found(temperature):
    for targets, logits in (drawn(0, 20_000, temperature), drawn_classes(0, 5_000, temperature)):
        assert calibration.fit_temperature(targets, logits) == pytest.approx(temperature, rel=0.05)


def test_one_logit_is_logistic_regression_without_intercept():
    targets, logits = drawn(1, 500, 2.0)
    expected = (
        1 / LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(logits[:, None], targets).coef_[0, 0]
    )
    assert calibration.fit_temperature(targets, logits) == pytest.approx(expected, rel=1e-4)
    assert calibration.fit_temperature(targets, logits[:, None]) == pytest.approx(expected, rel=1e-4)
    two = np.stack([-logits / 2, logits / 2], axis=1)  # the same model as a softmax
    assert calibration.fit_temperature(targets, two) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("shift", [None, (0.5, -1.0, 0.2, 0.0)])
def test_no_other_temperature_has_a_smaller_loss(shift):
    targets, logits = drawn_classes(2, 200, 2.0)
    best = calibration.fit_temperature(targets, logits, shift)

    def loss(temperature: float) -> float:
        calibrated = Calibration(temperature, shift or (0.0,) * 4).apply(logits)
        return -special.log_softmax(calibrated, axis=1)[np.arange(200), targets].mean()

    assert loss(best) <= min(map(loss, np.geomspace(0.05, 20, 400)))


def test_one_logit_is_shifted_too():
    generator = np.random.default_rng(0)
    logits = generator.normal(2, 2, 50_000)
    targets = generator.random(50_000) < special.expit(logits / 2 - 0.7)
    assert calibration.fit_temperature(targets, logits, (-0.7,)) == pytest.approx(2.0, rel=0.05)


def test_a_model_worse_than_chance_gets_the_largest_temperature():
    targets, logits = drawn(3, 500, 1.0)
    assert calibration.fit_temperature(targets, -logits - 3) == pytest.approx(20, rel=1e-12)


@pytest.mark.parametrize(
    ("targets", "logits", "message"),
    [
        ([0, 0, 1], [-3.0, -1.0, 2.0], "largest logit in their class"),
        ([0, 0, 1], [1.0, 1.0, 1.0], "the same logits"),
        ([0, 1, 2], [[3.0, 0, 0], [0, 2, 1], [0, 0, 1]], "largest logit in their class"),
        ([0, 1, 2], [[1.0, 2, 3], [2, 3, 4], [0, 1, 2]], "the same logits"),
    ],
)
def test_where_no_temperature_can_be_told_it_is_one(targets, logits, message, caplog):
    with caplog.at_level(logging.WARNING, logger="segfusion_jax"):
        assert calibration.fit_temperature(np.array(targets), np.array(logits)) == 1.0
    assert message in caplog.text


def test_calibration_is_applied():
    np.testing.assert_allclose(Calibration(2.0, (0.5,)).apply(np.array([1.0, -3.0])), [1.0, -1.0])
    np.testing.assert_allclose(Calibration(2.0, (0.5,)).apply(np.array([[1.0], [-3.0]])), [[1.0], [-1.0]])
    np.testing.assert_allclose(Calibration(0.5, (0.0, 1.0)).apply(np.array([[1.0, 2.0]])), [[2.0, 5.0]])
    for logits in (np.zeros((2, 3)), np.zeros(2), np.zeros(())):
        with pytest.raises(ValueError, match="must be \\(n, 2\\)"):
            Calibration(1.0, (0.0, 0.0)).apply(logits)
    for temperature in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="temperature = "):
            Calibration(temperature)
    for shift in ((), (float("nan"),)):
        with pytest.raises(ValueError, match="shift = "):
            Calibration(1.0, shift)


def test_a_shift_undoes_balanced_sampling():
    # 1 % natural, 50 % trained: a probability of 1/2 becomes 1 %
    (shift,) = calibration.prior_shift(0.01, 0.5)
    assert special.expit(0 + shift) == pytest.approx(0.01)
    shares = calibration.prior_shift((90, 9, 1), (1 / 3, 1 / 3, 1 / 3))
    np.testing.assert_allclose(special.softmax(np.zeros(3) + shares), [0.9, 0.09, 0.01])
    assert calibration.prior_shift((3, 1), (6, 2)) == pytest.approx((0, 0))


def test_a_shift_is_bayes_theorem():
    # likelihoods of three findings in three classes; posteriors under other shares follow by a shift of the logits
    likelihood = np.array([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8]])
    trained, natural = np.array([0.3, 0.3, 0.4]), np.array([0.8, 0.15, 0.05])
    posterior = {}
    for name, shares in (("trained", trained), ("natural", natural)):
        joint = likelihood.T * shares
        posterior[name] = joint / joint.sum(axis=1, keepdims=True)
    calibrated = Calibration(1.0, calibration.prior_shift(natural, trained)).apply(np.log(posterior["trained"]))
    np.testing.assert_allclose(special.softmax(calibrated, axis=1), posterior["natural"])


def test_prevalence_is_shifted_as_logits_are():
    probabilities = np.array([0.0, 0.1, 0.5, 0.9, 1.0])
    (shift,) = calibration.prior_shift(0.02, 0.3)
    with np.errstate(divide="ignore"):
        expected = special.expit(special.logit(probabilities) + shift)
    np.testing.assert_allclose(calibration.shift_prevalence(probabilities, 0.3, 0.02), expected)
    np.testing.assert_allclose(calibration.shift_prevalence(probabilities, 0.3, 0.3), probabilities)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="bins = 0"):
        calibration.expected_calibration_error(np.array([0, 1]), np.array([0.1, 0.9]), bins=0)
    for natural, trained in ((0.0, 0.5), (0.5, 1.0), ((0.5, 0.5), 0.5), ((1, 0), (1, 1)), ((), ())):
        with pytest.raises(ValueError, match="natural|trained"):
            calibration.prior_shift(natural, trained)
    with pytest.raises(ValueError, match="deployed = 1"):
        calibration.shift_prevalence(np.array([0.5]), 0.5, 1)
    with pytest.raises(ValueError, match="class 2: must be from 0 to 1"):
        calibration.fit_temperature(np.array([0, 2]), np.array([0.1, 0.2]))
    with pytest.raises(ValueError, match="of 3 images"):
        calibration.fit_temperature(np.array([0, 1, 1]), np.array([0.1, 0.2]))
    with pytest.raises(ValueError, match="must be finite"):
        calibration.fit_temperature(np.array([0, 1]), np.array([0.1, np.inf]))
    with pytest.raises(ValueError, match=r"must be \(n, 2\)"):
        calibration.fit_temperature(np.array([0, 1]), np.array([0.1, 0.2]), shift=(0.1, 0.2))


def test_equal_classes_divide_by_their_shares():
    equal = calibration.of_equal_classes(np.array([[0.5, 0.5], [0.1, 0.9]]), (0.9, 0.1))
    np.testing.assert_allclose(equal, [[0.1, 0.9], [1 / 82, 81 / 82]])  # odds times 9


def test_a_class_of_no_share_is_never_named():
    odds = np.array([0.5 / 0.75, 0.3 / 0.25, 0.0])
    equal = calibration.of_equal_classes(np.array([[0.5, 0.3, 0.2]]), (0.75, 0.25, 0.0))
    np.testing.assert_allclose(equal, [odds / odds.sum()])
