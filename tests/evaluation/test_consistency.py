"""The arithmetic of published figures, against tables of decisions counted out."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn import metrics

from segfusion_jax.evaluation import consistency

COUNTS = st.integers(1, 300)


def decided(tp: int, fp: int, fn: int, tn: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and decisions with such a table."""
    labels = np.repeat([1, 0, 1, 0], [tp, fp, fn, tn])
    return labels, np.repeat([1, 1, 0, 0], [tp, fp, fn, tn])


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_what_a_table_of_decisions_says_of_itself(tp, fp, fn, tn):
    labels, decisions = decided(tp, fp, fn, tn)
    stated = metrics.precision_score(labels, decisions), metrics.recall_score(labels, decisions), labels.mean()
    assert consistency.alarm_rate(*stated) == pytest.approx(fp / (fp + tn))
    assert consistency.accuracy(*stated) == pytest.approx(metrics.accuracy_score(labels, decisions))
    balanced, accuracy = metrics.balanced_accuracy_score(labels, decisions), metrics.accuracy_score(labels, decisions)
    assume(balanced > 0.5)
    assert accuracy <= consistency.largest_accuracy(balanced, labels.mean()) + 1e-9
    largest = consistency.largest_mcc(accuracy, labels.mean())
    assert metrics.matthews_corrcoef(labels, decisions) <= largest + 1e-6


@pytest.mark.parametrize(("positives", "errors"), [(20, 3), (5, 3), (50, 10), (3, 8), (90, 15)])
def test_the_largest_mcc_is_that_of_the_best_table(positives, errors):
    tables = [
        decided(positives - fn, errors - fn, fn, 100 - positives - errors + fn)
        for fn in range(min(errors, positives) + 1)
        if errors - fn <= 100 - positives
    ]
    best = max(metrics.matthews_corrcoef(*table) for table in tables)
    assert consistency.largest_mcc(1 - errors / 100, positives / 100) == pytest.approx(best, abs=0.01)
    assert consistency.largest_mcc(1 - errors / 100, positives / 100) >= best - 1e-9


def test_the_largest_accuracy_is_reached():
    pairs = itertools.product(np.linspace(0, 1, 101), repeat=2)
    reached = max(0.3 * s + 0.7 * t for s, t in pairs if s + t <= 1.8 + 1e-9)
    assert consistency.largest_accuracy(0.9, 0.3) == pytest.approx(reached)


def test_what_the_papers_figures_do_not_meet():
    assert consistency.largest_accuracy(0.938, 0.497) < 0.9821  # its own ROC curve of HAM10000
    assert consistency.largest_mcc(0.9901, 584 / 33126) == pytest.approx(0.796, abs=0.001)  # .97 is printed
    assert consistency.largest_mcc(0.9901, 0.5) == pytest.approx(0.980, abs=0.001)


@pytest.mark.parametrize("value", [0.0, -0.1, 1.1, float("nan")])
def test_what_is_no_share_is_refused(value):
    with pytest.raises(ValueError, match="accuracy = .*: must be above 0 and at most 1"):
        consistency.largest_mcc(value, 0.5)
