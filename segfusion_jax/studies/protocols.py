"""By how much does leakage flatter? The same images and models under the paper's protocol and under an honest one."""

import pathlib
from collections.abc import Iterator

from segfusion_jax.config import Config
from segfusion_jax.stages import classify, segment
from segfusion_jax.stages.workdir import classifier_rows, load_prepared
from segfusion_jax.studies.variants import changed

PROTOCOLS = ("grouped", "by_image", "paper")
"""From none to the paper's: nothing leaks; images are split at random; so are augmented copies of them, and the classes
of the test split are balanced."""


def configs(config: Config, workdir: pathlib.Path) -> Iterator[tuple[str, Config]]:
    """Each protocol with the bridge of `config` and without one.

    All train for as many steps: the paper's, whose copies make ten times as many images, no longer than the honest one.
    """
    for protocol in PROTOCOLS:
        for mode in dict.fromkeys((config.bridge.mode, "none")):
            variant = changed(changed(config, "splits", protocol=protocol), "bridge", mode=mode)
            if protocol == "paper":
                variant = _as_long_as(workdir / f"grouped_{config.bridge.mode}", variant)
            yield f"{protocol}_{mode}", variant


def _as_long_as(honest: pathlib.Path, config: Config) -> Config:
    """`config` with epochs of as many steps as those of the run in `honest`."""
    prepared = load_prepared(config, honest)
    steps = {
        "segmenter": segment.steps_per_epoch(config, segment.divide(config, prepared)[0]),
        "classifier": classify.steps_per_epoch(config, classifier_rows(prepared, config, "train")),
    }
    for name, number in steps.items():
        batch_size = getattr(config, name).training.batch_size
        config = changed(config, f"{name}.training", images_per_epoch=number * batch_size)
    return config
