"""Malignancy of several classes on the host and on the device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segfusion_jax.models.malignancy import malignancy, malignancy_logit

MALIGNANT = (True, True, True, False, False, False, False)
"""Of seven diagnoses."""


def test_it_is_the_sum_over_malignant_classes():
    probabilities = np.array([[0.5, 0.2, 0.3], [0.0, 0.9, 0.1]])
    np.testing.assert_allclose(malignancy(probabilities, (False, True, True)), [0.5, 1.0])
    assert malignancy(probabilities[0], np.array([False, True, True])) == 0.5
    assert malignancy(np.array([[0.2, 0.4, 0.3, 0.1]]), np.full(4, True))[0] == 1.0  # 1 + 2e-16 as a sum
    with pytest.raises(ValueError, match="positive: int64 array"):
        malignancy(probabilities, np.array([0, 1, 1]))
    with pytest.raises(ValueError, match=r"shape \(2,\): must be bool, one a class of probabilities \(2, 3\)"):
        malignancy(probabilities, (False, True))


def test_the_logit_on_the_device_is_that_of_the_sum_on_the_host():
    logits = np.random.default_rng(0).normal(0, 4, (50, 7)).astype(np.float32)
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probability = malignancy(exponentials / exponentials.sum(axis=1, keepdims=True), MALIGNANT)
    logit = jax.jit(malignancy_logit, static_argnums=1)(logits, MALIGNANT)
    assert logit.shape == (50,) and logit.dtype == jnp.float32
    np.testing.assert_allclose(logit, np.log(probability / (1 - probability)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(jax.nn.sigmoid(logit), probability, rtol=1e-4)


def test_the_logit_is_told_where_probabilities_would_round():
    logits = jnp.array([[90.0, 80, 0, 0, 0, -90, 0], [-300, -300, -300, 300, 0, 0, 0]])
    np.testing.assert_allclose(
        malignancy_logit(logits, MALIGNANT), [90 + np.log1p(np.exp(-10)) - np.log(3), -600 + np.log(3)], rtol=1e-6
    )


def test_a_single_logit_is_that_of_the_positive_class():
    np.testing.assert_array_equal(malignancy_logit(jnp.array([[0.3], [-7.0]]), (False, True)), np.float32([0.3, -7]))


def test_where_nothing_counts_as_malignant_it_is_the_logit_of_the_most_probable_class():
    logits = np.array([[2.0, 0.0, 1.0], [-1.0, 3.0, 0.5]], np.float32)
    shares = np.exp(logits.astype(np.float64))
    shares = (shares / shares.sum(axis=1, keepdims=True)).max(axis=1)
    np.testing.assert_allclose(malignancy_logit(logits, (False,) * 3), np.log(shares / (1 - shares)), rtol=1e-5)
