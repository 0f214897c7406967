"""How far the intervals of the evaluation can be trusted, and what they cost.

    python benchmarks/intervals.py

Coverage: how often the 95 % interval of a metric holds its true value, over simulated test sets whose images are alike
within a lesion; by drawing lesions, as the evaluation does, by drawing images, and, of ROC-AUC, by DeLong. The truth is
that of a very large test set. Calibration error: how often percentile intervals hold it for a perfect model, which is
why the evaluation gives none. Cost: seconds of processor time for 2,000 resamples.
"""

import argparse
import pathlib
import sys
import time

import numpy as np
from scipy import special

from segfusion_jax.evaluation import bootstrap, calibration, classification, weighted

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # for the tests' DeLong, which nothing in the package needs
from tests.evaluation import delong  # noqa: E402

THRESHOLD = 0.3


def main() -> None:
    """Prints the three tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=400, help="simulated test sets")
    arguments = parser.parse_args()
    coverage(arguments.sets)
    calibration_error(arguments.sets // 2)
    cost()


def simulate(rng: np.random.Generator, lesions: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns groups, labels and probabilities of lesions with one to four images; 25 % are malignant."""
    groups = np.repeat(np.arange(lesions), rng.integers(1, 5, lesions))
    labels = (rng.random(lesions) < 0.25)[groups]
    logits = rng.normal(0, 1, lesions)[groups] + rng.normal(0, 0.6, groups.size) + 1.8 * labels - 1.9
    return groups, labels, special.expit(logits)


def coverage(sets: int) -> None:
    """Prints how often the interval of each metric holds the true value, on test sets of 400 lesions."""
    rng = np.random.default_rng(0)
    _, labels, probabilities = simulate(rng, 400_000)
    truth = classification.metrics(labels, probabilities, THRESHOLD)
    truth |= classification.operating_point(labels, probabilities, THRESHOLD)
    held: dict[str, list[tuple[bool, bool]]] = {}
    by_delong = []
    for number in range(sets):
        groups, labels, probabilities = simulate(rng, 400)
        statistics = weighted.classification_statistics(labels, probabilities, THRESHOLD)
        statistics |= weighted.operating_statistics(labels, probabilities, THRESHOLD)
        of_groups, of_images = (
            bootstrap.intervals(statistics, drawn, resamples=1000, seed=number)
            for drawn in (groups, np.arange(groups.size))
        )
        for name in statistics:
            found = (of_groups[name], of_images[name])
            held.setdefault(name, []).append(tuple(low <= truth[name] <= high for low, high, _ in found))
        low, high = delong.interval(labels, probabilities)
        by_delong.append(low <= truth["roc_auc"] <= high)
    print(f"coverage of 95 % intervals, {sets} test sets\n{'':20}{'lesions':>9}{'images':>9}")
    for name, pairs in held.items():
        print(f"{name:20}{np.mean(pairs, axis=0)[0]:>9.1%}{np.mean(pairs, axis=0)[1]:>9.1%}")
    print(f"roc_auc by DeLong   {'':9}{np.mean(by_delong):>9.1%}\n")


def calibration_error(sets: int) -> None:
    """Prints how often percentile intervals hold the calibration error of a model whose probabilities are right."""
    rng = np.random.default_rng(0)

    def right(n: int) -> tuple[np.ndarray, np.ndarray]:
        probabilities = special.expit(rng.normal(-1.5, 1.5, n))
        return rng.random(n) < probabilities, probabilities

    truth = calibration.expected_calibration_error(*right(2_000_000))
    for n in (300, 1500):
        held, value_below = [], []
        for _ in range(sets):
            labels, probabilities = right(n)
            value = calibration.expected_calibration_error(labels, probabilities)
            drawn = (rng.integers(n, size=n) for _ in range(200))
            errors = [calibration.expected_calibration_error(labels[d], probabilities[d]) for d in drawn]
            low, high = np.percentile(errors, (2.5, 97.5))
            held.append(low <= truth <= high)
            value_below.append(value < low)
        print(
            f"calibration error, {n} images: true value held {np.mean(held):.1%}, own below {np.mean(value_below):.1%}"
        )


def cost() -> None:
    """Prints the processor time that the intervals of all metrics take together."""
    for n in (1_500, 10_000, 30_000):
        rng = np.random.default_rng(0)
        labels = rng.random(n) < 0.2
        probabilities = special.expit(rng.normal(size=n) + 2 * labels - 2)
        start = time.process_time()
        values = classification.metrics(labels, probabilities, THRESHOLD)
        statistics = weighted.classification_statistics(labels, probabilities, THRESHOLD)
        bootstrap.entries(values, statistics, (np.arange(n) // 2).tolist())
        print(f"2,000 resamples of all metrics, {n:6,} images: {time.process_time() - start:.2f} s")


if __name__ == "__main__":
    main()
