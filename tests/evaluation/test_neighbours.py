"""Nearest neighbours against scikit-learn's."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from segfusion_jax.evaluation import neighbours


def test_the_nearest_is_scikit_learns():
    rng = np.random.default_rng(0)
    known, labels, asked = rng.normal(size=(300, 8)), rng.integers(0, 2, 300), rng.normal(size=(2100, 8))
    peer = KNeighborsClassifier(n_neighbors=1).fit(known, labels)
    found = neighbours.recall(known, labels, asked)
    np.testing.assert_array_equal(found.nearest, peer.kneighbors(asked, return_distance=False)[:, 0])
    np.testing.assert_array_equal(found.probabilities >= 0.5, peer.predict(asked) == 1)


def test_a_known_image_is_recalled_for_certain():
    known, labels = np.array([[0.0, 0.0], [3.0, 4.0], [9.0, 9.0]]), np.array([0, 1, 1])
    found = neighbours.recall(known, labels, known)
    assert found.nearest.tolist() == [0, 1, 2] and found.probabilities.tolist() == [0.0, 1.0, 1.0]
    middle = neighbours.recall(known, labels, np.array([[1.5, 2.0]]))
    assert middle.probabilities == pytest.approx([0.5])


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="all 2 known images are of one class"):
        neighbours.recall(np.zeros((2, 1)), np.ones(2), np.zeros((1, 1)))
    with pytest.raises(ValueError, match=r"known \(2, 1\), labels \(2,\), asked \(1, 3\)"):
        neighbours.recall(np.zeros((2, 1)), np.array([0, 1]), np.zeros((1, 3)))
