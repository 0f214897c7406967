"""Unfamiliar features: distances against hand-worked and drawn Gaussians."""

import numpy as np
import pytest
from scipy import spatial, stats

from segfusion_jax.evaluation import novelty
from segfusion_jax.evaluation.novelty import Novelty


@pytest.fixture(scope="module")
def correlated():
    """5,000 images of 3 features, of which two nearly agree, and their true mean and covariance."""
    mean, covariance = np.array([1.0, -2.0, 30.0]), np.array([[1.0, 0.95, 0.0], [0.95, 1.0, 0.0], [0.0, 0.0, 400.0]])
    return np.random.default_rng(0).multivariate_normal(mean, covariance, 5000), mean, covariance


def test_hand_worked():
    # standard deviations 2 and 1 at right angles; so symmetric that nothing is left to shrink to
    features = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]]) * np.sqrt(2) + [10, 5]
    fitted = novelty.fit(features)
    np.testing.assert_allclose(fitted.mean, [10, 5])
    np.testing.assert_allclose(fitted.score([[10, 5], [12, 5], [10, 8], [14, 6]]), [0, 1, 3, 5**0.5], rtol=1e-6)


def test_distances_are_mahalanobis(correlated):
    features, mean, covariance = correlated
    found = novelty.fit(features).score(features[:50])
    expected = [spatial.distance.mahalanobis(one, mean, np.linalg.inv(covariance)) for one in features[:50]]
    np.testing.assert_allclose(found, expected, rtol=0.1)
    against, along = np.array([[1.0, -1.0, 0.0], [1.0, 1.0, 0.0]]) + mean
    scores = novelty.fit(features).score([against, along])
    assert scores[0] > 5 * scores[1]  # what breaks a correlation is far


def test_squared_distances_of_new_images_follow_chi_squared():
    rng = np.random.default_rng(1)
    mixed = np.eye(20) + 0.2 * rng.normal(size=(20, 20))
    train, new = (rng.normal(size=(n, 20)) @ mixed for n in (4000, 2000))
    squared = novelty.fit(train).score(new) ** 2
    assert squared.mean() == pytest.approx(20, rel=0.05)
    assert (squared > stats.chi2(20).ppf(0.9)).mean() == pytest.approx(0.1, abs=0.03)


def test_scales_and_shifts_of_features_do_not_matter(correlated):
    features, _, _ = correlated
    scale, shift = np.array([1e-3, 7.0, 500.0]), np.array([0.1, -4.0, 1e3])
    moved = novelty.fit(features * scale + shift).score(features[:20] * scale + shift)
    np.testing.assert_allclose(moved, novelty.fit(features).score(features[:20]), rtol=1e-3)


def test_fewer_images_than_features_will_do():
    rng = np.random.default_rng(2)
    fitted = novelty.fit(rng.normal(size=(20, 60)))
    scores = fitted.score(np.concatenate([rng.normal(size=(200, 60)), rng.normal(size=(200, 60)) + 3]))
    assert np.isfinite(scores).all() and scores[:200].max() < scores[200:].min()


def test_constant_features_are_left_out(correlated, tmp_path):
    features, _, _ = correlated
    padded = np.insert(features, 1, 7 + 1e-6 * np.random.default_rng(3).normal(size=len(features)), axis=1)
    fitted = novelty.fit(padded)
    np.testing.assert_allclose(fitted.score(padded), novelty.fit(features).score(features), rtol=1e-3)
    np.testing.assert_array_equal(fitted.score(padded + [0, 5, 0, 0]), fitted.score(padded))
    fitted.save(tmp_path / "novelty.safetensors")
    np.testing.assert_array_equal(Novelty.load(tmp_path / "novelty.safetensors").score(padded), fitted.score(padded))


def test_the_limit_lets_the_share_pass_that_it_is_to(correlated):
    features, mean, _ = correlated
    other = features[4000:]
    fitted = novelty.fit(features[:4000])
    for kept in (0.5, 0.99, 1.0):
        scores = fitted.limited(other, kept).score(other)
        assert kept <= (scores <= 1 + 1e-12).mean() < kept + 0.002
    assert (fitted.limited(other[:10], 0.95).score(other[:10]) <= 1 + 1e-12).all()  # nine of ten would be too few
    limited = fitted.limited(other)
    np.testing.assert_allclose(limited.score(other) * limited.limit, fitted.score(other))
    assert limited.limited(other).limit == pytest.approx(limited.limit)
    assert limited.score(mean[None])[0] < 0.1


def test_what_is_saved_is_what_is_loaded(correlated, tmp_path):
    features, _, _ = correlated
    fitted = novelty.fit(features).limited(features)
    fitted.save(tmp_path / "novelty.safetensors")
    loaded = Novelty.load(tmp_path / "novelty.safetensors")
    np.testing.assert_array_equal(loaded.score(features), fitted.score(features))
    assert fitted.mean.dtype == fitted.whitening.dtype == np.float32


def test_files_that_are_something_else_are_named(tmp_path):
    path = tmp_path / "novelty.safetensors"
    with pytest.raises(FileNotFoundError, match="novelty.safetensors"):
        Novelty.load(path)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="novelty.safetensors is not what Novelty.save writes"):
        Novelty.load(path)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros(3), r"features \(3,\): must be \(n, features\)"),
        (np.zeros((0, 3)), r"features \(0, 3\): must be"),
        (np.array([[1.0, 2.0], [np.nan, 3.0]]), "features hold a number that is not finite"),
        (np.array([[1.0, 2.0]]), r"features \(1, 2\) are the same in all images"),
        (np.array([[1.0, 2.0], [1.0, 2.0 + 1e-7]]), r"features \(2, 2\) are the same in all images"),
    ],
)
def test_features_that_give_no_gaussian_are_refused(features, message):
    with pytest.raises(ValueError, match=message):
        novelty.fit(features)


def test_other_features_and_shares_are_refused(correlated):
    fitted = novelty.fit(correlated[0])
    with pytest.raises(ValueError, match=r"features \(2, 4\): must be \(n, 3\), as those it was fitted on"):
        fitted.score(np.zeros((2, 4)))
    for kept in (0.0, 1.1, float("nan")):
        with pytest.raises(ValueError, match=rf"kept = {kept}: must be in \(0, 1\]"):
            fitted.limited(correlated[0], kept)
