"""Whether an image is of the kind that a model was trained on: how far its features lie from those of training images.

The distance is Mahalanobis': of features x to the Gaussian of mean m and covariance C, sqrt((x - m)' C^-1 (x - m)). To
detect foreign images by it, from the layers of a classifier: K. Lee et al., A Simple Unified Framework for Detecting
Out-of-Distribution Samples and Adversarial Attacks, NeurIPS 2018 (arXiv 1807.03888); here with one Gaussian for all
classes, since the question is not which class an image is of. The covariance is shrunk: O. Ledoit and M. Wolf, Journal
of Multivariate Analysis 88 (2004).
"""

import dataclasses
import pathlib

import numpy as np
import safetensors.numpy

KEPT = 0.99
"""Share of validation images that the limit lets pass."""
ROUNDING = 1e-5
"""A feature whose standard deviation is at most this share of its mean is taken as constant, and tells nothing."""

_FEATURES = 8192


@dataclasses.dataclass(frozen=True)
class Novelty:
    """A Gaussian of the features of training images, and the distance from it up to which an image is familiar.

    Attributes:
      mean: [features] float32.
      whitening: [features, features that vary] float32; features less their mean, times it, have the identity as
        covariance.
      limit: distance, above 0.
    """

    mean: np.ndarray
    whitening: np.ndarray
    limit: float = 1.0

    def score(self, features: np.ndarray) -> np.ndarray:
        """Returns Mahalanobis distances over the limit, float64 [n], from 0: above 1 an image is unfamiliar.

        Args:
          features: [n, features].

        Raises:
          ValueError: another shape, or a number that is not finite.
        """
        features = _checked(features)
        if features.shape[1] != self.mean.size:
            raise ValueError(f"features {features.shape}: must be (n, {self.mean.size}), as those it was fitted on")
        whitened = (features - self.mean) @ self.whitening.astype(np.float64)
        return np.linalg.norm(whitened, axis=1) / self.limit

    def limited(self, features: np.ndarray, kept: float = KEPT) -> "Novelty":
        """Returns the same Gaussian with the limit within which at least the share `kept` of familiar images stays.

        Args:
          features: [n, features] of images that it was not fitted on, at least one.
          kept: share of images that must stay within the limit, in (0, 1].

        Raises:
          ValueError: as `score`, or another share.
        """
        if not 0 < kept <= 1:
            raise ValueError(f"kept = {kept}: must be in (0, 1]")
        limit = self.limit * np.quantile(self.score(features), kept, method="higher")
        return dataclasses.replace(self, limit=float(limit))

    def save(self, path: pathlib.Path) -> None:
        """Writes a safetensors file."""
        # safetensors writes the memory as it lies, whatever its order
        arrays = {"mean": self.mean, "whitening": np.ascontiguousarray(self.whitening), "limit": np.array(self.limit)}
        path.write_bytes(safetensors.numpy.save(arrays))

    @classmethod
    def load(cls, path: pathlib.Path) -> "Novelty":
        """Reads what `save` wrote.

        Raises:
          FileNotFoundError: there is no such file.
          ValueError: it holds something else, such as other shapes or a number that is not finite.
        """
        try:
            arrays = safetensors.numpy.load(path.read_bytes())
            mean, whitening, limit = arrays["mean"], arrays["whitening"], arrays["limit"]
        except (safetensors.SafetensorError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not what Novelty.save writes: {error}") from error
        shapes = mean.shape, whitening.shape, limit.shape
        fits = mean.ndim == 1 and whitening.ndim == 2 and whitening.shape[0] == mean.size and limit.size == 1
        if not fits or 0 in whitening.shape or max(whitening.shape) > _FEATURES:
            raise ValueError(
                f"{path} is not what Novelty.save writes: shapes {shapes}: must be (features,), (features, features "
                f"that vary), at most {_FEATURES} of each, and one limit"
            )
        if not all(array.dtype.kind == "f" and np.isfinite(array).all() for array in (mean, whitening, limit)):
            raise ValueError(f"{path} is not what Novelty.save writes: a number that is not finite")
        if limit.item() <= 0:
            raise ValueError(f"{path}: limit = {limit.item()}: must be above 0")
        return cls(mean, whitening, limit.item())


def fit(features: np.ndarray) -> Novelty:
    """Returns the Gaussian of training images; its limit is 1 until `limited` sets it.

    Features are divided by their standard deviations before the covariance is shrunk, which pulls it towards a multiple
    of the identity, so that their scales do not matter. A constant feature is left out.

    Args:
      features: [n, features] of training images.

    Raises:
      ValueError: another shape, a number that is not finite, or features that are the same in all images.
    """
    features = _checked(features)
    mean, scale = features.mean(axis=0), features.std(axis=0)
    varies = scale > ROUNDING * np.abs(mean)
    if not varies.any():
        raise ValueError(f"features {features.shape} are the same in all images: no distance can be told by them")
    standardised = (features - mean)[:, varies] / scale[varies]
    from sklearn import covariance  # takes a second, which who only scores need not wait for

    correlation, _ = covariance.ledoit_wolf(standardised, assume_centered=True)
    whitening = np.zeros((mean.size, varies.sum()), np.float32)
    whitening[varies] = np.linalg.inv(np.linalg.cholesky(correlation)).T / scale[varies, None]
    return Novelty(mean.astype(np.float32), whitening)


def _checked(features: np.ndarray) -> np.ndarray:
    features = np.asarray(features, np.float64)
    if features.ndim != 2 or 0 in features.shape:
        raise ValueError(f"features {features.shape}: must be (n, features), neither of them 0")
    if not np.isfinite(features).all():
        raise ValueError("features hold a number that is not finite")
    return features
