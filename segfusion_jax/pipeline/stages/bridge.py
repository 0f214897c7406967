"""Stage 4: one mask an image, always from U-Nets that never saw the image's group."""

import collections
import logging
from collections.abc import Iterator, Sequence

import numpy as np

from segfusion_jax.bridge.clean import clean
from segfusion_jax.bridge.levels import is_lesion, to_levels
from segfusion_jax.bridge.resize import resize
from segfusion_jax.config import Bridge
from segfusion_jax.datasets.prepared import Prepared
from segfusion_jax.datasets.table import Row
from segfusion_jax.input import decode, mask_store
from segfusion_jax.input.examples import Examples
from segfusion_jax.pipeline.run import Run

_log = logging.getLogger(__name__)


def bridge(run: Run) -> None:
    """Writes the cleaned masks of the images of the run's own collection, but for unused ones, and whence they are.

    An image in fold k gets the mask of the U-Net that never saw fold k; a test image, which is in no fold, the mean of
    all U-Nets. With `bridge.masks` "annotated" each gets its annotation; with that of a released model, of whose images
    none is there, the mean of its U-Nets.

    Raises:
      ValueError: annotated masks are asked for and an image has none.
    """
    masks = masks_of(run, run.prepared, run.split.masked)
    if not run.devices.is_lead:
        collections.deque(masks, maxlen=0)
        return
    run.write_masks(masks)
    fallbacks = collections.Counter(row.fallback for row in run.masks.rows if row.fallback)
    _log.info("bridge: %d masks, whole image instead: %s", len(run.masks.rows), dict(fallbacks) or "none")


def unets_for(row: Row, num_folds: int) -> list[int]:
    """Returns which of the U-Nets may segment an image: those that never saw its group."""
    return [row.fold] if row.fold >= 0 else list(range(num_folds))


def masks_of(run: Run, prepared: Prepared, rows: Sequence[Row]) -> Iterator[tuple[mask_store.MaskRow, bytes]]:
    """Yields the masks that the run's bridge takes of some images of `prepared`, which may be others than its own.

    Raises:
      ValueError: annotated masks are asked for and an image has none.
    """
    if run.config.bridge.masks == "annotated":
        return annotated_masks(run, prepared, rows)
    return predicted_masks(run, prepared, rows)


def predicted_masks(run: Run, prepared: Prepared, rows: Sequence[Row]) -> Iterator[tuple[mask_store.MaskRow, bytes]]:
    """Yields the cleaned masks of `rows`, encoded, by the U-Nets that may segment each of them."""
    for unets, members in _shared_out(run, rows):
        by = "+".join(map(str, unets)) if unets else "all" if run.unet_weights else "none"
        _log.info("bridge: %d images by U-Net %s", len(members), by)
        source = Examples(prepared, members, run.config.segmenter.image_size)
        for row, probability in run.segmenters.predict(source, unets):
            lesion = to_levels(probability)
            yield stored(row, lesion, by, run.config.bridge)


def _shared_out(run: Run, rows: Sequence[Row]) -> list[tuple[list[int] | None, tuple[Row, ...]]]:
    """Returns images with the U-Nets that may segment them; None: all there are, a released model's, if any."""
    if not run.num_unets:
        return [(None, tuple(rows))] if rows else []
    folds = {fold: tuple(row for row in rows if row.fold == fold) for fold in sorted({row.fold for row in rows})}
    return [(unets_for(members[0], run.config.splits.num_folds), members) for members in folds.values()]


def annotated_masks(run: Run, prepared: Prepared, rows: Sequence[Row]) -> Iterator[tuple[mask_store.MaskRow, bytes]]:
    """Yields the annotated masks of `rows`, cleaned like predicted ones and of their resolution, encoded.

    Raises:
      ValueError: an image has none.
    """
    for row in rows:
        _, annotation = decode.read(prepared, row)
        if annotation is None:
            raise ValueError(f"config.bridge.masks = 'annotated': image {row.image_id} has no annotated mask")
        lesion = resize(annotation, run.config.segmenter.image_size)
        yield stored(row, lesion, "annotation", run.config.bridge)


def stored(row: Row, lesion: np.ndarray, maker: str, bridge: Bridge) -> tuple[mask_store.MaskRow, bytes]:
    """Returns what `mask_store.write` takes of a mask, cleaned.

    Args:
      row: the image.
      lesion: [height, width] uint8, 255 = certainly lesion.
      maker: who made the mask, as `MaskRow.unets` says it.
      bridge: config, of which threshold, min_area and max_border count.
    """
    mask, fallback = clean(lesion, bridge)
    area = float(is_lesion(mask, bridge).mean())
    return mask_store.MaskRow(row.image_id, maker, round(area, 5), fallback), decode.encode_mask(mask)
