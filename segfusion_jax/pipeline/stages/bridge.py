"""Stage 4: one mask an image, always from U-Nets that never saw the image's group."""

import collections
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
from absl import logging

from segfusion_jax.bridge import masked
from segfusion_jax.bridge.resize import resize
from segfusion_jax.config import Config
from segfusion_jax.datasets.prepared import Prepared
from segfusion_jax.datasets.table import Row
from segfusion_jax.input import decode, mask_store
from segfusion_jax.input.loader import Examples
from segfusion_jax.pipeline.workdir import load_prepared, unet_weights
from segfusion_jax.runtime.devices import make_devices
from segfusion_jax.serving.ensembles import SegmenterEnsemble


def bridge(config: Config, workdir: pathlib.Path) -> None:
    """Writes `masks/`: the cleaned masks of the config's own collection, but for unused images, and whence they are.

    An image in fold k gets the mask of the U-Net that never saw fold k; a test image, which is in no fold, the mean of
    all U-Nets. With `bridge.masks` "annotated" each gets its annotation.

    Raises:
      ValueError: annotated masks are asked for and an image has none.
    """
    devices = make_devices(config.parallel)
    prepared = load_prepared(config, workdir)
    used = ("train", "validation", "test")
    rows = [row for row in prepared.rows if row.source == config.data.collection and row.split in used]
    if config.bridge.masks == "annotated":
        found = annotated_masks(config, prepared, rows)
    else:
        found = masks(config, SegmenterEnsemble(config, devices, unet_weights(config, workdir)), prepared, rows)
    if not devices.is_lead:
        collections.deque(found, maxlen=0)
        return
    mask_store.write(workdir / "masks", found)
    written = mask_store.MaskStore(workdir / "masks").rows
    fallbacks = collections.Counter(row.fallback for row in written if row.fallback)
    logging.info("bridge: %d masks, whole image instead: %s", len(written), dict(fallbacks) or "none")


def unets_for(row: Row, config: Config) -> list[int]:
    """Which U-Nets may segment an image: those that never saw its group."""
    return [row.fold] if row.fold >= 0 else list(range(config.splits.num_folds))


def masks(
    config: Config, segmenters: SegmenterEnsemble, prepared: Prepared, rows: Sequence[Row]
) -> Iterator[tuple[mask_store.MaskRow, bytes]]:
    """The cleaned masks of `rows`, encoded, by the U-Nets that may segment each of them."""
    for fold in sorted({row.fold for row in rows}):
        members = tuple(row for row in rows if row.fold == fold)
        unets = unets_for(members[0], config)
        logging.info("bridge: %d images by U-Net %s", len(members), "+".join(map(str, unets)))
        for row, probability in segmenters.predict(Examples(prepared, members, config.segmenter.image_size), unets):
            lesion = np.round(probability * masked.WHOLE).astype(np.uint8)
            yield stored(row, lesion, "+".join(map(str, unets)), config)


def annotated_masks(
    config: Config, prepared: Prepared, rows: Sequence[Row]
) -> Iterator[tuple[mask_store.MaskRow, bytes]]:
    """The annotated masks of `rows`, cleaned like predicted ones and of their resolution, encoded.

    Raises:
      ValueError: an image has none.
    """
    for row in rows:
        _, annotation = decode.read(prepared, row)
        if annotation is None:
            raise ValueError(f"config.bridge.masks = 'annotated': image {row.image_id} has no annotated mask")
        yield stored(row, resize(annotation, config.segmenter.image_size), "annotation", config)


def stored(row: Row, lesion: np.ndarray, maker: str, config: Config) -> tuple[mask_store.MaskRow, bytes]:
    """What `mask_store.write` takes of a mask, cleaned.

    Args:
      row: of the image.
      lesion: [height, width] uint8, 255 = certainly lesion.
      maker: as of `MaskRow.unets`.
      config: its section `bridge` counts.
    """
    mask, fallback = masked.clean(lesion, config.bridge)
    area = float((mask >= config.bridge.threshold * masked.WHOLE).mean())
    return mask_store.MaskRow(row.image_id, maker, round(area, 5), fallback), decode.encode_mask(mask)
