"""Fields that say where something lies on one machine, and a config without what they say."""

import dataclasses
import pathlib

from segfusion_jax.config.root import Config

PLACES = (
    *("data.root", "data.records", "data.labels", "splits.table"),
    *("segmenter.pretrained", "classifier.pretrained"),
)
"""Fields that name a file or a folder; so do the `root` of each of `data.collections`, and `bridge.masks` of a released
model."""


def unplaced(config: Config) -> Config:
    """Returns the config without the paths of this machine, which concern nobody and may hold a user's name.

    Of files the last part of the path is left. A folder of images may bear the name of who keeps them, so nothing of
    its path is; and masks are said to be predicted, whoever trained the U-Nets.
    """
    sources = {name: dataclasses.replace(source, root="") for name, source in config.data.collections.items()}
    labels = _last(config.data.labels)
    return dataclasses.replace(
        config,
        bridge=dataclasses.replace(config.bridge, masks="predicted" if config.bridge.released else config.bridge.masks),
        data=dataclasses.replace(config.data, root="", records="", labels=labels, collections=sources),
        splits=dataclasses.replace(config.splits, table=_last(config.splits.table)),
        segmenter=dataclasses.replace(config.segmenter, pretrained=_last(config.segmenter.pretrained)),
        classifier=dataclasses.replace(config.classifier, pretrained=_last(config.classifier.pretrained)),
    )


def _last(path: str) -> str:
    return pathlib.PurePath(path).name
