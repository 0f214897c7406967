"""Masks in COCO files, as CVAT, Label Studio, Roboflow and others export them: polygons and run lengths, in and out.

A pixel is lesion if its middle lies inside a polygon (by the even-odd rule) or if a run covers it. Coordinates count
from the upper left corner of the upper left pixel; run lengths go down the columns.
"""

import dataclasses
import io
import json
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from segfusion_jax.datasets.files import File, composed

_PIXELS = 89_000_000  # of the largest image that is read
_TOLERANCE = 1.0  # pixels by which a written polygon may cut corners, so that few points are to be moved by hand


class Entry(NamedTuple):
    """An image of a COCO file.

    Attributes:
      file: path of the COCO file.
      called: what the file calls the image.
      mask: what is drawn on it; None = nothing.
    """

    file: str
    called: str
    mask: "CocoMask | None"


@dataclasses.dataclass(frozen=True)
class CocoMask:
    """What is drawn on one image, read as a file: a PNG of 0 and 255.

    Attributes:
      name: what the COCO file calls the image.
      height: of the image, in pixels.
      width: of the image, in pixels.
      drawn: JSON of a list of segmentations, polygons ([x, y, x, y, ...] each) or run lengths.
    """

    name: str
    height: int
    width: int
    drawn: str = dataclasses.field(repr=False)

    @property
    def size(self) -> int:
        """Length of the segmentations' text."""
        return len(self.drawn)

    @property
    def stamp(self) -> int:
        """Checksum of them."""
        return zlib.crc32(self.drawn.encode())

    def read(self) -> bytes:
        """Returns the mask as PNG.

        Raises:
          ValueError: a segmentation is none.
        """
        buffer = io.BytesIO()
        Image.fromarray(np.where(self.pixels(), 255, 0).astype(np.uint8)).save(buffer, "PNG")
        return buffer.getvalue()

    def pixels(self) -> np.ndarray:
        """Returns whether each pixel is lesion, [height, width] bool."""
        lesion = np.zeros((self.height, self.width), bool)
        for segmentation in json.loads(self.drawn):
            if isinstance(segmentation, dict):
                lesion |= _from_runs(segmentation, self.height, self.width)
            else:
                for polygon in segmentation:
                    lesion |= _from_polygon(polygon, self.height, self.width)
        return lesion

    def __str__(self) -> str:
        return f"COCO annotation of {self.name}"


def read(path: str, file: File, meant: Mapping[str, str]) -> list[Entry]:
    """Reads a COCO file; JSON of something else has no entries.

    Args:
      path: what entries call the file.
      file: the file.
      meant: what a category's name means, in lower case: "lesion", or "" for what is no lesion.

    Raises:
      OSError, ValueError: it cannot be read, or not be understood.
    """
    try:
        content = json.loads(file.read().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: no JSON: {error}") from None
    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        return []
    try:
        names = {one["id"]: str(one["name"]) for one in content.get("categories") or []}
        drawn: dict[Any, list] = {one["id"]: [] for one in content["images"]}
        wanted = _lesions({names.get(one.get("category_id"), "") for one in content["annotations"]}, meant)
        for one in content["annotations"]:
            if one.get("segmentation") and names.get(one.get("category_id"), "") in wanted:
                drawn[one["image_id"]].append(_checked(one["segmentation"]))
        return [_entry(path, image, drawn[image["id"]]) for image in content["images"]]
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{file}: a COCO file that cannot be understood: {what}") from None


def document(masks: Iterable[tuple[str, np.ndarray]]) -> dict[str, Any]:
    """Returns a COCO file of one category, "lesion": a polygon for each part of a mask, or, with holes, run lengths.

    Polygons keep within a pixel of the mask.

    Args:
      masks: what each image is called, and its mask, [height, width] bool.
    """
    images, annotations = [], []
    for number, (called, lesion) in enumerate(masks, 1):
        height, width = map(int, lesion.shape)
        images.append({"id": number, "file_name": called, "height": height, "width": width})
        for segmentation, box, area in _segmentations(lesion):
            facts = {"id": len(annotations) + 1, "image_id": number, "category_id": 1, "bbox": box, "area": area}
            annotations.append(facts | {"segmentation": segmentation, "iscrowd": int(isinstance(segmentation, dict))})
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "lesion"}]}


def _lesions(names: set[str], meant: Mapping[str, str]) -> set[str]:
    """Returns which of the categories that are drawn are lesions."""
    told = {name: meant.get(name.strip().lower()) for name in names}
    wanted = {name for name in names if told[name] != ""}
    unknown = sorted(name for name in wanted if told[name] is None)
    if len(wanted) > 1 and unknown:
        raise ValueError(
            f"categories {', '.join(map(repr, sorted(names)))}: which are lesions? Say it in [values.category] of a "
            f'labels.toml: {unknown[0]!r} = "lesion", or = "" for what is none'
        )
    return wanted


def _entry(path: str, image: Mapping[str, Any], drawn: list) -> Entry:
    called, height, width = image["file_name"], image["height"], image["width"]
    if not isinstance(called, str) or not all(type(side) is int and side > 0 for side in (height, width)):
        raise ValueError(f"image {called!r} of {width!r} x {height!r} pixels")
    if height * width > _PIXELS:
        raise ValueError(f"image {called!r} is over {_PIXELS} pixels")
    called = composed(called)
    return Entry(path, called, CocoMask(called, height, width, json.dumps(drawn)) if drawn else None)


def _checked(segmentation: Any) -> list[list[float]] | dict[str, Any]:
    """Returns polygons or run lengths as they are.

    Raises:
      ValueError: it is neither.
    """
    if isinstance(segmentation, dict):
        counts, size = segmentation["counts"], segmentation["size"]
        runs = _runs(counts) if isinstance(counts, str) else counts
        if not isinstance(runs, list) or not all(type(run) is int and run >= 0 for run in runs):
            raise ValueError(f"run lengths {str(counts)[:40]!r}")
        return {"counts": runs, "size": [int(size[0]), int(size[1])]}
    polygons = [segmentation] if segmentation and not isinstance(segmentation[0], list) else segmentation
    for polygon in polygons:
        numbers = [float(value) for value in polygon]
        if (
            len(numbers) < 6
            or len(numbers) % 2
            or not all(math.isfinite(value) and abs(value) < 1e6 for value in numbers)
        ):
            raise ValueError(f"polygon {str(polygon)[:40]}: must be x, y of three corners or more")
    return [[float(value) for value in polygon] for polygon in polygons]


def _runs(text: str) -> list[int]:
    """Returns the run lengths that COCO writes as a text: five bits a letter, from the third on as differences."""
    runs, value, shift = [], 0, 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError(f"run lengths {text[:40]!r}")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs


def _from_runs(segmentation: Mapping[str, Any], height: int, width: int) -> np.ndarray:
    runs, size = segmentation["counts"], segmentation["size"]
    if size != [height, width] or sum(runs) != height * width:
        raise ValueError(f"run lengths of {sum(runs)} pixels and size {size} on an image of {height} x {width}")
    lesion = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return lesion.reshape(width, height).T


def _from_polygon(polygon: Sequence[float], height: int, width: int) -> np.ndarray:
    """Returns the pixels whose middles lie inside: each edge turns over all pixels right of it, row by row."""
    corners = np.array(polygon).reshape(-1, 2)
    turns = np.zeros((height, width + 1), np.int32)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        low, high = np.clip(np.ceil(np.sort([y0, y1]) - 0.5), 0, height).astype(int)
        rows = np.arange(low, high)
        if rows.size:
            crossings = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
            turns[rows, np.clip(np.ceil(crossings - 0.5), 0, width).astype(int)] += 1
    return np.cumsum(turns, axis=1)[:, :width] % 2 == 1


def _segmentations(lesion: np.ndarray) -> list[tuple[list | dict, list[float], float]]:
    """Returns segmentation, box (x, y, width, height) and area of each part of a mask; of one with holes, of all."""
    # Twice as large, so that the contour, which joins middles of pixels, runs around the middles of the mask's.
    large = np.kron(lesion, np.ones((2, 2), np.uint8)).astype(np.uint8)
    contours, hierarchy = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return []
    if any(parent >= 0 for parent in hierarchy[0][:, 3]):
        flat = lesion.T.ravel()
        borders = np.flatnonzero(np.diff(flat)) + 1
        edges = np.concatenate([[0], borders, [flat.size]])
        runs = [0] * bool(flat[0]) + np.diff(edges).tolist()
        x, y, width, height = cv2.boundingRect(lesion.astype(np.uint8))
        box = [float(x), float(y), float(width), float(height)]
        return [({"counts": runs, "size": list(map(int, lesion.shape))}, box, float(lesion.sum()))]
    found = []
    for contour in contours:
        simple = cv2.approxPolyDP(contour, 2 * _TOLERANCE, closed=True)
        corners = (simple if len(simple) > 2 else contour)[:, 0].astype(float) / 2 + 0.25
        (x, y), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
        area = float(cv2.contourArea(corners.astype(np.float32)))
        found.append(([corners.ravel().tolist()], [x, y, right - x, bottom - y], area))
    return found
