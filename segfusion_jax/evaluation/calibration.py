"""Whether a probability of 30 % comes true in 30 % of cases, and what is done so that it does.

Temperature scaling: C. Guo et al., On Calibration of Modern Neural Networks, ICML 2017 (arXiv 1706.04599). Correction
of shares: M. Saerens, P. Latinne and C. Decaestecker, Neural Computation 14 (2002).
"""

import dataclasses
import logging
import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from segfusion_jax.evaluation import arrays

_log = logging.getLogger(__name__)

TEMPERATURES = (0.05, 20.0)  # what `fit_temperature` looks among
ECE_BINS = 15


class Bin(NamedTuple):
    """Images of similar probability.

    Attributes:
      probability: mean probability of malignancy of these images.
      observed: the share of malignant images among them.
      n: number of images.
      low: lower end of Wilson's 95 % interval of the share, which takes images as independent.
      high: upper end of that interval.
    """

    probability: float
    observed: float
    n: int
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What is done to logits before they become probabilities: logits / temperature + shift.

    Attributes:
      temperature: above 0; above 1 makes probabilities less certain.
      shift: added to each logit, in nats; one number a logit.

    Raises:
      ValueError: a temperature that is not above 0 or not finite, or a shift that is empty or not finite.
    """

    temperature: float = 1.0
    shift: tuple[float, ...] = (0.0,)

    def __post_init__(self):
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature = {self.temperature}: must be above 0 and finite")
        if not self.shift or not all(map(math.isfinite, self.shift)):
            raise ValueError(f"shift = {self.shift}: must be finite numbers, one a logit")

    def apply(self, logits: np.ndarray) -> np.ndarray:
        """Returns calibrated logits of the same shape, float64.

        Args:
          logits: [n] or [n, 1] of malignancy, or [n, classes].

        Raises:
          ValueError: there is not one logit an image for each number of `shift`.
        """
        logits = np.asarray(logits, dtype=np.float64)
        columns = logits.shape[1] if logits.ndim == 2 else 1
        if logits.ndim not in (1, 2) or columns != len(self.shift):
            raise ValueError(f"logits {logits.shape}: must be (n, {len(self.shift)}), as many as shift = {self.shift}")
        return logits / self.temperature + np.array(self.shift)


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray, bins: int = ECE_BINS) -> float:
    """Returns the mean distance between probability and observed share, over bins of equally many images.

    Bins are cut by rank: an image belongs to bin floor(bins * r / n), where r is the number of images with a lower
    probability plus half of those with the same one. Equal probabilities thus stay together, and bins may then hold
    unequal numbers or none.

    Args:
      labels: [n] bool or integers, 1 malignant; one class alone will do.
      probabilities: [n] of malignancy, in [0, 1].
      bins: number of bins, at least 1.

    Returns:
      Between 0 and 1: sum over bins of |sum of probabilities - number of malignant images| / n. Even of a perfect model
      it is above 0, the more so the fewer images there are.

    Raises:
      ValueError: as `arrays.binary`, or fewer than one bin.
    """
    labels, probabilities = arrays.binary(labels, probabilities)
    gaps = np.bincount(_equal_mass(probabilities, bins), probabilities - labels)
    return float(np.abs(gaps).sum() / labels.size)


def calibrated_ece(
    probabilities: np.ndarray, groups: Sequence[Hashable], *, bins: int = ECE_BINS, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Returns between what values the expected calibration error of a perfect model lies in 95 % of cases.

    In place of an interval of the error, which the bootstrap gets wrong: an error within this range may be chance. The
    labels are drawn from the probabilities (J. Brocker and L. A. Smith, Weather and Forecasting 22 (2007)), with one
    random number a group, since the images of a lesion are benign or malignant together.

    Args:
      probabilities: [n] of malignancy, in [0, 1].
      groups: [n] name of each image's group, all of one type.
      bins: as in `expected_calibration_error`.
      resamples: number of draws.
      seed: seed of the draws.

    Returns:
      The 2.5th and the 97.5th percentile.

    Raises:
      ValueError: as `expected_calibration_error`, `groups` is of another number of images, or no resamples.
    """
    _, probabilities = arrays.binary(np.zeros(len(probabilities), bool), probabilities)
    if len(groups) != probabilities.size:
        raise ValueError(f"groups has {len(groups)} values: must be one for each of {probabilities.size} images")
    if resamples < 1:
        raise ValueError(f"resamples = {resamples}: must be at least 1")
    names, index = np.unique(np.asarray(arrays.named(groups)), return_inverse=True)
    place = _equal_mass(probabilities, bins)
    generator = np.random.default_rng(seed)
    errors = []
    for _ in range(resamples):
        labels = generator.random(names.size)[index] < probabilities
        errors.append(np.abs(np.bincount(place, probabilities - labels)).sum() / probabilities.size)
    low, high = np.percentile(errors, (2.5, 97.5))
    return float(low), float(high)


def reliability(labels: np.ndarray, probabilities: np.ndarray, bins: int = 10) -> list[Bin]:
    """Returns probability and observed share in bins of equally many images, for a reliability diagram.

    Args:
      labels: as in `expected_calibration_error`.
      probabilities: as in `expected_calibration_error`.
      bins: number of bins, at least 1; they are cut as in `expected_calibration_error`.

    Returns:
      The bins that hold images, by rising probability.

    Raises:
      ValueError: as `expected_calibration_error`.
    """
    from scipy import stats  # as `optimize` below, takes half a second, which who only calibrates need not wait for

    labels, probabilities = arrays.binary(labels, probabilities)
    place = _equal_mass(probabilities, bins)
    result = []
    for inside in (place == number for number in np.unique(place)):
        malignant, n = int(labels[inside].sum()), int(inside.sum())
        low, high = stats.binomtest(malignant, n).proportion_ci(method="wilson")
        result.append(Bin(float(probabilities[inside].mean()), malignant / n, n, float(low), float(high)))
    return result


def fit_temperature(
    targets: np.ndarray,
    logits: np.ndarray,
    shift: Sequence[float] | None = None,
    possible: np.ndarray | None = None,
) -> float:
    """Returns the temperature with the smallest log loss of `logits / temperature + shift`.

    For logits of validation images, which took no part in training. Where no temperature can be told it is 1, and a
    warning is logged: all images have the same logits, or the largest logit of each image is of its label (the smaller
    the temperature, the smaller the loss). Otherwise it lies within 0.05 and 20; logits that are worse than useless get
    20.

    Args:
      targets: [n] integers or bool: 1 malignant where there is one logit, else the number of the class or coarse label.
      logits: [n] or [n, 1] of malignancy (sigmoid), or [n, classes] (softmax).
      shift: what is added to the logits, as in `Calibration`; None for nothing.
      possible: as in `shares.class_counts`; the probability of a coarse label is that of its classes together. None:
        each target is a class.

    Raises:
      ValueError: shapes do not fit, a target is no class, or a logit is not finite.
    """
    logits = np.asarray(logits, dtype=np.float64)
    if logits.ndim == 1:
        logits = logits[:, None]
    if logits.ndim != 2 or len(logits) != len(targets) or not np.isfinite(logits).all():
        raise ValueError(f"logits {logits.shape}: must be finite and of {len(targets)} images, (n,) or (n, logits)")
    zeros = np.zeros_like(logits)
    shifts = zeros if shift is None else Calibration(shift=tuple(shift)).apply(zeros)
    if logits.shape[1] == 1:  # a sigmoid is the softmax of two, the first of them 0
        logits, shifts = np.hstack([zeros, logits]), np.hstack([zeros, shifts])
    possible = np.eye(logits.shape[1], dtype=bool) if possible is None else possible
    inside = possible[arrays.classes(targets, len(possible))]
    if not np.diff(logits - logits[:, :1], axis=0).any():
        _log.warning("temperature: all %d images have the same logits; it stays 1", len(logits))
        return 1.0
    if (np.where(inside, logits, -np.inf).max(axis=1) == logits.max(axis=1)).all():
        _log.warning("temperature: all %d images have the largest logit in their class; it stays 1", len(logits))
        return 1.0

    def log_loss(log_temperature: float) -> float:
        log_probabilities = special.log_softmax(logits / math.exp(log_temperature) + shifts, axis=1)
        return -float(special.logsumexp(np.where(inside, log_probabilities, -np.inf), axis=1).mean())

    from scipy import optimize

    # convex in 1 / temperature, so there is one minimum; the search itself never tries the bounds
    bounds = (math.log(TEMPERATURES[0]), math.log(TEMPERATURES[1]))
    found = optimize.minimize_scalar(log_loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return math.exp(min((float(found.x), *bounds), key=log_loss))


def prior_shift(natural: float | Sequence[float], trained: float | Sequence[float]) -> tuple[float, ...]:
    """Returns what to add to the logits of a model that learned from other shares of the classes than it will meet.

    Balanced sampling and balanced class weights both make the trained shares equal, whatever the images' were. Of class
    weights in general, they are the weighted shares.

    Args:
      natural: share of malignant images, in (0, 1), for a model of one logit; or the share of each class, above 0, for
        one of [classes] logits. Shares of classes are divided by their sum, so that numbers of images will do.
      trained: shares in the same form where the model was trained.

    Returns:
      `Calibration.shift`: one number, the difference of the log odds; or one a class, log(natural / trained).

    Raises:
      ValueError: the two are not of one form, or a share is out of range.
    """
    to, of = (np.asarray(shares, dtype=np.float64) for shares in (natural, trained))
    if to.shape != of.shape or to.ndim > 1 or to.size == 0:
        raise ValueError(f"natural {natural} and trained {trained}: must be two numbers, or equally many of each")
    for name, shares in (("natural", to), ("trained", of)):
        if not ((shares > 0) & (shares < (1 if to.ndim == 0 else np.inf))).all():
            raise ValueError(f"{name} = {shares}: must be above 0, and one share alone below 1")
    if to.ndim == 0:
        return (float(special.logit(to) - special.logit(of)),)
    return tuple((np.log(to / to.sum()) - np.log(of / of.sum())).tolist())


def of_equal_classes(probabilities: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """Returns what probabilities would be if all classes were equally frequent (Saerens et al.), float64 [n, classes].

    Args:
      probabilities: [n, classes], rows sum to 1.
      shares: share of each class in the images for which the probabilities hold, from 0; the
        result of a class of share 0 is 0.
    """
    given = np.asarray(shares, np.float64)
    odds = np.asarray(probabilities, np.float64) / np.where(given > 0, given, np.inf)
    return odds / odds.sum(axis=1, keepdims=True)


def shift_prevalence(probabilities: np.ndarray, trained: float, deployed: float) -> np.ndarray:
    """Returns probabilities of malignancy where the malignant share is another, by Bayes' theorem; float64, same shape.

    Args:
      probabilities: probabilities of malignancy, in [0, 1], right where the share is `trained`.
      trained: malignant share there, in (0, 1).
      deployed: malignant share where they will be used, in (0, 1).

    Raises:
      ValueError: a share outside (0, 1).
    """
    for name, share in (("trained", trained), ("deployed", deployed)):
        if not 0 < share < 1:
            raise ValueError(f"{name} = {share}: must be above 0 and below 1")
    probabilities = np.asarray(probabilities, dtype=np.float64)
    malignant = probabilities * (deployed / trained)
    return malignant / (malignant + (1 - probabilities) * ((1 - deployed) / (1 - trained)))


def _equal_mass(probabilities: np.ndarray, bins: int) -> np.ndarray:
    """Returns the number of each image's bin, [n], by the rule of `expected_calibration_error`."""
    if bins < 1:
        raise ValueError(f"bins = {bins}: must be at least 1")
    _, index, counts = np.unique(probabilities, return_inverse=True, return_counts=True)
    doubled = 2 * np.cumsum(counts) - counts  # whole numbers, so that no image on an edge is rounded
    return (bins * doubled // (2 * probabilities.size))[index]
