"""The networks of a run, as they are before their training."""

from typing import Any

from segfusion_jax.config import Config
from segfusion_jax.models.from_config import load_backbone, load_unet, make_classifier, make_unet
from segfusion_jax.models.functional import Functional
from segfusion_jax.runtime.devices import AXIS, Devices
from segfusion_jax.training.seeds import derive_seed


class Networks:
    """Makes the U-Nets and classifiers that a config describes, their initial weights drawn from its seed.

    Args:
      config: config of the run.
      devices: where they are trained.
    """

    def __init__(self, config: Config, devices: Devices):
        self._config = config
        self._options: dict[str, Any] = dict(
            dtype=devices.compute_dtype(config.compute_dtype),
            axis_name=AXIS if config.parallel.sync_batch_norm else None,
        )

    def unet(self, fold: int) -> Functional:
        """Returns the U-Net that never meets a fold; with the pretrained weights that the config names, if any."""
        return load_unet(self._config.segmenter, self.random_unet(fold))

    def random_unet(self, fold: int) -> Functional:
        """Returns the U-Net that never meets a fold, with random weights throughout."""
        seed, segmenter = derive_seed(self._config.seed, "segment", "weights", fold), self._config.segmenter
        return make_unet(segmenter, seed=seed, remat=segmenter.training.remat, **self._options)

    def classifier(self, number: int, num_logits: int) -> Functional:
        """Returns the classifier numbered so; all but its last layer is pretrained if the config names weights."""
        return load_backbone(self._config.classifier, self.random_classifier(number, num_logits))

    def random_classifier(self, number: int, num_logits: int) -> Functional:
        """Returns the classifier numbered so, with random weights throughout."""
        config, seed = self._config.classifier, classifier_seed(self._config, number, "weights")
        remat, bridge = config.training.remat, self._config.bridge
        return make_classifier(config, bridge, seed=seed, remat=remat, num_logits=num_logits, **self._options)


def classifier_seed(config: Config, number: int, *purpose: str) -> int:
    """Returns a seed of the classifier numbered so; those of an ensemble have their own."""
    member = (number,) if config.classifier.fold_ensemble else ()
    return derive_seed(config.seed, "classify", *purpose, config.classifier.seed, *member)
