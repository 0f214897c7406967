"""A collection that needs no download: drawn lesions whose labels overlap like real ones.

A lesion's looks follow from one hidden number, its severity, which is normal with unit variance around 0 for nevi and
around `SEPARATION` for melanomas. No classifier can therefore expect an ROC-AUC above Phi(SEPARATION / sqrt(2)) = 0.944
on new lesions, however large it is. A score above that is a leak.
"""

import dataclasses
import functools
import io

import numpy as np
from PIL import Image

from segfusion_jax import config
from segfusion_jax.datasets.collections import rendering
from segfusion_jax.datasets.files import Folder
from segfusion_jax.datasets.record import Problem, Record

TITLE = "synthetic lesions"
ADDRESS = "drawn by segfusion_jax.datasets.collections.synthetic; nothing to download"
LICENCE = "none needed"
SEPARATION = 2.25  # between the mean severities of the two classes, in standard deviations
MALIGNANT_SHARE = 0.3  # of lesions
TEST_TIME_AUGMENTATIONS = (0.62, 0.26, 0.12)  # odds that a lesion is photographed once, twice, three times

_VERSION = 1  # of the drawings; raise when they change
_SITES = ("abdomen", "back", "chest", "face", "lower extremity", "upper extremity")


def read(root: Folder, data: config.Data) -> tuple[list[Record], list[Problem]]:
    """Draws `data.synthetic_images` images; image i depends on `data.synthetic_seed` and i only.

    Args:
      root: not used.
      data: fields `synthetic_images` and `synthetic_seed`.

    Returns:
      Records with JPEG images of 192 x 144 pixels (width x height), PNG masks of 0 and 255 in the same frame, and no
      problems.
    """
    del root
    records: list[Record] = []
    number = 0
    while len(records) < data.synthetic_images:
        records.extend(_photographs(data.synthetic_seed, number, first=len(records)))
        number += 1
    return records[: data.synthetic_images], []


def _photographs(seed: int, number: int, *, first: int) -> list[Record]:
    """Returns all views of lesion `number`, whose images are numbered from `first`."""
    malignant = _malignant(np.random.default_rng((seed, 1, number)))
    rng = np.random.default_rng((seed, 3, number))
    age, sex = float(np.clip(5 * round(rng.normal(50, 16) / 5), 15, 85)), str(rng.choice(["female", "male"]))
    site = str(rng.choice(_SITES))
    records = []
    for index in range(first, first + 1 + int(rng.choice(len(TEST_TIME_AUGMENTATIONS), p=TEST_TIME_AUGMENTATIONS))):
        view = _View(seed, number, index)
        records.append(
            Record(
                image_id=f"SYN_{index:07d}",
                image=_Drawn(f"SYN_{index:07d}.jpg", view),
                mask=_Drawn(f"SYN_{index:07d}.png", view),
                lesion_id=f"SYNL_{number:07d}",
                diagnosis="melanoma" if malignant else "nevus",
                malignant=malignant,
                age=age,
                sex=sex,
                site=site,
                source="synthetic",
            )
        )
    return records


@dataclasses.dataclass(frozen=True, eq=False)
class _View:
    """A photograph of a lesion, drawn when it is first asked for."""

    seed: int
    number: int  # of the lesion
    index: int  # of the image

    @functools.cached_property
    def encoded(self) -> dict[str, bytes]:
        """By suffix: the image in JPEG, the mask in PNG."""
        rng = np.random.default_rng((self.seed, 2, self.index))
        image, mask = rendering.view(rng, _lesion(self.seed, self.number))
        return {".jpg": _encode(image, "JPEG", quality=int(rng.integers(82, 96))), ".png": _encode(mask, "PNG")}


@dataclasses.dataclass(frozen=True)
class _Drawn:
    """The image or the mask of a view, as a file."""

    name: str
    view: _View
    size: int = 0  # not known before it is drawn
    stamp: int = _VERSION

    def read(self) -> bytes:
        """Draws it."""
        return self.view.encoded[self.name[-4:]]


@functools.lru_cache(maxsize=64)
def _lesion(seed: int, number: int) -> rendering.Lesion:
    rng = np.random.default_rng((seed, 1, number))
    return rendering.lesion(rng, severity=rng.normal(SEPARATION * _malignant(rng)))


def _malignant(rng: np.random.Generator) -> int:
    """Draws whether a lesion is malignant, the first thing that is drawn of it."""
    return int(rng.random() < MALIGNANT_SHARE)


def _encode(pixels: np.ndarray, image_format: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, image_format, **options)
    return buffer.getvalue()
