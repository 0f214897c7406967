"""Images that a caller brings, arrays and files, as a source of examples."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from segfusion_jax.bridge.resize import resize
from segfusion_jax.datasets import images as image_files
from segfusion_jax.datasets.files import DiskFile
from segfusion_jax.input.examples import Batch


@dataclasses.dataclass(frozen=True)
class Arrays:
    """Arrays as examples; rows are their numbers.

    Attributes:
      images: uint8 [height, width, 3] each, of any sizes.
      image_size: (height, width) that they are resized to.
      masks: uint8 [height, width] each, 255 = lesion, of any sizes; None = empty ones.
    """

    images: Sequence[np.ndarray]
    image_size: tuple[int, int]
    masks: Sequence[np.ndarray] | None = None

    @property
    def rows(self) -> Sequence[int]:
        """Numbers of the images."""
        return range(len(self.images))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Batch:
        mask = np.zeros(self.image_size, np.uint8) if self.masks is None else self.masks[index]
        return {
            "image": resize(self.images[index], self.image_size),
            "mask": resize(mask, self.image_size)[..., None],
            "label": np.int32(-1),
            "weight": np.float32(1),
        }


def load(images: np.ndarray | Sequence[np.ndarray | str | pathlib.Path]) -> list[np.ndarray]:
    """Returns arrays as they are and files as `prepare` reads them, uint8 [height, width, 3] RGB each.

    Raises:
      ValueError: an array is not uint8 [height, width, 3], a file is not an image, or `images` is a single one.
      FileNotFoundError: a file is not there.
    """
    if isinstance(images, str | pathlib.Path):
        raise ValueError(f"images = {str(images)!r}: must be a sequence, such as [{str(images)!r}]")
    if isinstance(images, np.ndarray) and images.ndim == 3:
        raise ValueError(f"images is an array {images.shape}: must be a sequence of images; of a single one, [image]")
    return [_load(image, number) for number, image in enumerate(images)]


def _load(image: np.ndarray | str | pathlib.Path, number: int) -> np.ndarray:
    if isinstance(image, str | pathlib.Path):
        path = pathlib.Path(image).expanduser()
        if not path.exists():
            raise FileNotFoundError(f"{image}: no such file")
        try:
            return image_files.read(DiskFile(path, path.stat().st_size))
        except ValueError as error:
            raise ValueError(f"{image}: {error}") from error
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise ValueError(f"image {number} is {array.dtype} {array.shape}: must be uint8 (height, width, 3)")
    return array
