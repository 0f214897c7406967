import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest
from sklearn import metrics

from segfusion_jax.training import losses

CROSS_ENTROPY = {"kind": "cross_entropy", "focal_gamma": 2.0, "class_weights": (1.0, 1.0)}


ONES = (1.0,) * 7


def random_classes(n: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits of seven classes, their probabilities in float64, and labels."""
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 3, (n, 7)).astype(np.float32)
    shares = np.exp(logits.astype(np.float64))
    return logits, shares / shares.sum(1, keepdims=True), rng.integers(0, 7, n)


def random_labels(n: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, their probabilities in float64, and labels."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, n).astype(np.float32)
    return logits, 1 / (1 + np.exp(-logits.astype(np.float64))), rng.integers(0, 2, n)


def test_classification_loss_is_scikit_learns_log_loss():
    logits, probability, label = random_labels()
    loss = losses.classification_loss(jnp.array(logits)[:, None], jnp.array(label), **CROSS_ENTROPY)
    assert loss.shape == (40,) and loss.dtype == jnp.float32
    for value, p, y in zip(loss, probability, label, strict=True):
        assert float(value) == pytest.approx(metrics.log_loss([y], [p], labels=[0, 1]), rel=1e-4)


def test_class_weights_multiply_the_losses_of_their_class():
    logits, probability, label = random_labels()
    weighted = losses.classification_loss(
        jnp.array(logits)[:, None], jnp.array(label), **(CROSS_ENTROPY | {"class_weights": (0.5, 3.0)})
    )
    expected = metrics.log_loss(label, probability, sample_weight=np.where(label, 3.0, 0.5), normalize=False)
    assert float(weighted.sum()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.5])
def test_focal_loss_is_that_of_the_paper(gamma):
    logits, probability, label = random_labels()
    options = {"kind": "focal", "focal_gamma": gamma, "class_weights": (2.0, 5.0)}
    loss = losses.classification_loss(jnp.array(logits)[:, None], jnp.array(label), **options)
    of_label = np.where(label, probability, 1 - probability)
    expected = -np.where(label, 5.0, 2.0) * (1 - of_label) ** gamma * np.log(of_label)
    np.testing.assert_allclose(loss, expected, rtol=2e-4, atol=1e-7)


def test_softmax_loss_is_scikit_learns_log_loss():
    logits, probability, label = random_classes()
    loss = losses.classification_loss(jnp.array(logits), jnp.array(label), **(CROSS_ENTROPY | {"class_weights": ONES}))
    assert loss.shape == (40,) and loss.dtype == jnp.float32
    for value, p, y in zip(loss, probability, label, strict=True):
        assert float(value) == pytest.approx(metrics.log_loss([y], [p], labels=range(7)), rel=1e-4)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.5])
def test_focal_loss_of_seven_classes_is_that_of_the_paper(gamma):
    logits, probability, label = random_classes()
    weights = (2.0, 5.0, 1.0, 0.5, 3.0, 1.0, 0.25)
    options = {"kind": "focal", "focal_gamma": gamma, "class_weights": weights}
    loss = losses.classification_loss(jnp.array(logits), jnp.array(label), **options)
    of_label = probability[np.arange(40), label]
    expected = -np.array(weights)[label] * (1 - of_label) ** gamma * np.log(of_label)
    np.testing.assert_allclose(loss, expected, rtol=2e-4, atol=1e-7)


@pytest.mark.parametrize("kind", ["cross_entropy", "focal"])
def test_a_softmax_of_two_classes_is_a_sigmoid_of_their_difference(kind):
    logits, _, label = random_labels()
    options = CROSS_ENTROPY | {"kind": kind, "class_weights": (0.5, 3.0)}
    two = np.stack([logits, 3 * logits], axis=1)
    softmax = losses.classification_loss(jnp.array(two), jnp.array(label), **options)
    sigmoid = losses.classification_loss(jnp.array(2 * logits)[:, None], jnp.array(label), **options)
    np.testing.assert_allclose(softmax, sigmoid, rtol=1e-4, atol=5e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_softmax_losses_and_gradients_of_hopeless_and_certain_logits_are_finite(gamma):
    logits, label = jnp.array([[200.0, 0.0, -200.0]] * 2), jnp.array([0, 2])
    for kind in ("cross_entropy", "focal"):
        options = {"kind": kind, "focal_gamma": gamma, "class_weights": (1.0, 1.0, 1.0)}
        loss, pull = jax.vjp(lambda z, options=options: losses.classification_loss(z, label, **options), logits)
        np.testing.assert_allclose(loss, [0, 400])
        np.testing.assert_allclose(pull(jnp.ones(2))[0], [[0, 0, 0], [1, 0, -1]], atol=1e-6)


COARSE = ((True, True, False, False, False, False, False), (False, False, False, True, True, True, True))


def test_loss_of_a_coarse_label_by_hand():
    logits = jnp.log(jnp.array([[1.0, 3.0, 4.0, 2.0]]))  # probabilities .1, .3, .4 and .2
    coarse = ((True, True, False, False), (False, True, True, True))
    options = CROSS_ENTROPY | {"class_weights": (1.0, 1.0, 1.0, 1.0, 1.0, 3.0), "coarse": coarse}
    loss = [losses.classification_loss(logits, jnp.array([label]), **options)[0] for label in (2, 4, 5)]
    np.testing.assert_allclose(loss, [-np.log(0.4), -np.log(0.4), -3 * np.log(0.9)], rtol=1e-6)


@pytest.mark.parametrize(("kind", "gamma"), [("cross_entropy", 0.0), ("focal", 2.0)])
def test_where_labels_are_classes_coarse_ones_change_nothing(kind, gamma):
    logits, _, label = random_classes()
    options = {"kind": kind, "focal_gamma": gamma, "class_weights": ONES}

    def loss(logits, **coarse):
        return losses.classification_loss(logits, jnp.array(label), **options, **coarse).sum()

    more = {"coarse": COARSE}
    np.testing.assert_allclose(loss(jnp.array(logits), **more), loss(jnp.array(logits)), rtol=1e-5)
    gradients = [jax.grad(lambda z, c=c: loss(z, **c))(jnp.array(logits)) for c in ({}, more)]
    np.testing.assert_allclose(*gradients, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("kind", "gamma"), [("cross_entropy", 0.0), ("focal", 1.5)])
def test_loss_and_gradient_of_coarse_labels(kind, gamma):
    """The gradient in logits by hand: of -log p it is p_j less, inside the label, p_j over the label's p."""
    logits, probability, _ = random_classes()
    label = np.arange(40) % 2 + 7
    inside = np.array(COARSE)[label - 7]
    options = {"kind": kind, "focal_gamma": gamma, "class_weights": (*ONES, 1.0, 1.0), "coarse": COARSE}
    loss, pull = jax.vjp(lambda z: losses.classification_loss(z, jnp.array(label), **options), jnp.array(logits))
    p = (probability * inside).sum(1)
    np.testing.assert_allclose(loss, -((1 - p) ** gamma) * np.log(p), rtol=1e-4, atol=1e-7)
    slope = (1 - p) ** gamma - gamma * (1 - p) ** max(gamma - 1, 0) * p * -np.log(p)  # d loss / d -log p
    expected = slope[:, None] * (probability - inside * probability / p[:, None])
    if not gamma:
        np.testing.assert_allclose(pull(jnp.ones(40))[0], expected, rtol=1e-4, atol=1e-6)
    jax.test_util.check_grads(
        lambda z: losses.classification_loss(z, jnp.array(label), **options), (jnp.array(logits),), order=1, rtol=0.02
    )


def test_a_coarse_label_of_hopeless_and_certain_logits_is_finite():
    logits = jnp.array([[200.0, 0.0, -200.0]] * 2)
    options = CROSS_ENTROPY | {"class_weights": (1.0,) * 5, "coarse": ((True, True, False), (False, True, True))}
    loss, pull = jax.vjp(lambda z: losses.classification_loss(z, jnp.array([3, 4]), **options), logits)
    np.testing.assert_allclose(loss, [0, 200])
    np.testing.assert_allclose(pull(jnp.ones(2))[0], [[0, 0, 0], [1, -1, 0]], atol=1e-6)


def test_losses_of_hopeless_and_certain_logits_are_finite():
    logits, label = jnp.array([[-200.0], [200.0], [-200.0], [200.0]]), jnp.array([0, 1, 1, 0])
    for kind in ("cross_entropy", "focal"):
        loss = losses.classification_loss(logits, label, **(CROSS_ENTROPY | {"kind": kind}))
        np.testing.assert_allclose(loss, [0, 0, 200, 200])


def test_dice_loss_by_hand():
    # Probabilities are 1/2 in the first image; in the second they are 1 in the upper row and 0 in the lower one.
    logits = jnp.array([[[0.0, 0.0], [0.0, 0.0]], [[99.0, 99.0], [-99.0, -99.0]]])[..., None]
    mask = jnp.array([[[1.0, 0.0], [0.0, 0.0]], [[1.0, 0.25], [0.0, 0.0]]])[..., None]
    expected = [1 - (2 * 0.5 + 1) / (2 + 1 + 1), 1 - (2 * 1.25 + 1) / (2 + 1.25 + 1)]
    np.testing.assert_allclose(losses.segmentation_loss(logits, mask, kind="dice"), expected, rtol=1e-6)


def test_dice_loss_of_an_empty_mask_left_empty_is_zero():
    logits, mask = jnp.full((1, 4, 4, 1), -99.0), jnp.zeros((1, 4, 4, 1))
    assert float(losses.segmentation_loss(logits, mask, kind="dice")[0]) == pytest.approx(0.0, abs=1e-6)


def test_cross_entropy_of_masks_is_the_mean_over_pixels_of_each_image():
    rng = np.random.default_rng(1)
    logits, mask = rng.normal(0, 2, (3, 4, 6, 1)).astype(np.float32), rng.random((3, 4, 6, 1)).astype(np.float32)
    probability = 1 / (1 + np.exp(-logits.astype(np.float64)))
    expected = -(mask * np.log(probability) + (1 - mask) * np.log(1 - probability)).mean((1, 2, 3))
    bce, dice, both = (
        losses.segmentation_loss(jnp.array(logits), jnp.array(mask), kind=kind) for kind in ("bce", "dice", "bce_dice")
    )
    np.testing.assert_allclose(bce, expected, rtol=1e-5)
    np.testing.assert_allclose(both, bce + dice, rtol=1e-6)
