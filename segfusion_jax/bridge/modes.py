"""The modes of the bridge: what each of them does, in one table. Nobody else compares their names."""

import dataclasses
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Mode:
    """Says how the mask meets the image.

    Attributes:
      blend: `(image, mask, hard, alpha)` to what the classifier sees. The image [..., 3] and the mask [..., 1] are in
        [0, 1], `hard` [..., 1] is 1 where the mask is lesion and 0 elsewhere, of their dtype; NumPy or JAX.
      dilates: whether the mask is grown first.
      crops: whether image and mask are cut to the box of the mask, which may have been grown.
      channels: number of channels of what the classifier sees.
      unmasked: the mode that shows a classifier of as many channels all of the image.
      is_tried_with_annotations: whether the study of the modes also takes annotated masks, to tell what better masks
        could bring.
    """

    blend: Callable[[Any, Any, Any, float], Any]
    dilates: bool = False
    crops: bool = False
    channels: int = 3
    unmasked: str = "none"
    is_tried_with_annotations: bool = False


def _whole(image, mask, hard, alpha):
    return image


def _lesion(image, mask, hard, alpha):
    return image * hard


def _dimmed(image, mask, hard, alpha):
    return image * (alpha + (1 - alpha) * hard)


def _soft(image, mask, hard, alpha):
    return image * mask


def _joined(image, mask, hard, alpha):
    return image.__array_namespace__().concatenate([image, mask], axis=-1)


def _background(image, mask, hard, alpha):
    return image * (1 - hard)


def _silhouette(image, mask, hard, alpha):
    return 0 * image + hard


MODES = {
    "none": Mode(_whole),
    "black": Mode(_lesion, is_tried_with_annotations=True),
    "dim": Mode(_dimmed, is_tried_with_annotations=True),
    "soft": Mode(_soft),
    "dilate": Mode(_lesion, dilates=True),
    "crop": Mode(_whole, crops=True, is_tried_with_annotations=True),
    "crop_dilate": Mode(_lesion, dilates=True, crops=True),
    "channel": Mode(_joined, channels=4, unmasked="channel"),
    "background_only": Mode(_background),  # a control: how much the surroundings alone tell
    "mask_only": Mode(_silhouette),  # a control: how much the outline alone tells
}
"""By the names that `config.BRIDGE_MODES` accepts."""

REFERENCE = "none"
"""The mode that all others are compared with: no bridge."""
