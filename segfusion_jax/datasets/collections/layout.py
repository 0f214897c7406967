"""What each file of anybody's folder is: picture, mask, or neither; which mask is of which picture.

Masks lie in a folder of masks (`masks/`, `Mask/`, `SegmentationClass/`), or their names end or begin so (`a_mask.png`,
`a_seg.png`, `mask_a.png`). The mask of `train/images/a.jpg` may be `train/masks/a.png`, `train/images/a_mask.png`,
`masks/train/a.png` or, where no other picture is called a, `masks/a.png`; in any case.
"""

import collections
import dataclasses
import posixpath
import re
from collections.abc import Iterable, Mapping

from segfusion_jax.datasets.collections import official
from segfusion_jax.datasets.collections.columns import key
from segfusion_jax.datasets.files import File

_MASK_FOLDERS = (
    *("mask", "masks", "maske", "masken", "segmentation", "segmentations", "segmentationclass", "segmentationclasspng"),
    *("seg", "segs", "groundtruth", "gt", "lesionmask", "lesionmasks", "segmentationmask", "segmentationmasks"),
)
IMAGE_FOLDERS = (
    *("image", "images", "img", "imgs", "jpegimages", "jpeg", "jpg", "png", "photo", "photos", "picture", "pictures"),
    *("bild", "bilder", "foto", "fotos", "default", "input", "inputs", "data"),
)
"""By what names folders go that only say that images lie in them, as `columns.key` writes them."""

_WORDS = "segmentation|segmentations|seg|masks|mask|maske|groundtruth|ground_truth|gt|lesion"
_ENDING = re.compile(rf"(.+?)[\s._-]+({_WORDS})", re.IGNORECASE)
_BEGINNING = re.compile(r"(masks|mask|seg|gt)[\s._-]+(.+)", re.IGNORECASE)
_ALWAYS = "segmentation"  # the ending of ISIC's masks, of which a picture's name never has it


@dataclasses.dataclass(frozen=True)
class Layout:
    """The files of a folder by their paths in it.

    Attributes:
      pictures: image files that are no masks.
      masks: image files that are masks by their names or their folders.
      others: what is neither.
    """

    pictures: Mapping[str, File]
    masks: Mapping[str, File]
    others: Mapping[str, File]


def sort(files: Mapping[str, File], named_masks: Iterable[str] = ()) -> Layout:
    """Tells pictures, masks and other files apart.

    Args:
      files: files by path.
      named_masks: paths that a table calls masks.
    """
    named = set(named_masks)
    images = {path for path in files if path.lower().endswith(official.IMAGE_SUFFIXES)}
    masks = {path for path in images if path in named or any(key(part) in _MASK_FOLDERS for part in _folders(path))}
    masks |= _masks_beside(images - masks)
    parts = images - masks, masks, files.keys() - images
    return Layout(*({path: file for path, file in files.items() if path in part} for part in parts))


def masks_of(pictures: Iterable[str], masks: Iterable[str]) -> dict[str, list[str]]:
    """Returns the masks of each picture that has some; all by path."""
    by_place, by_name = collections.defaultdict(list), collections.defaultdict(list)
    for path in pictures:
        by_place[_place(path), _stem(path)].append(path)
        by_name[_stem(path)].append(path)
    found = collections.defaultdict(list)
    for path in masks:
        place = _place(path)
        for stem in _bare(path):
            here = by_place.get((place, stem), [])
            near = [other for other in by_name.get(stem, []) if _within(place, _place(other))]
            same = here or near
            if same:
                found[same[0]] += [path] if len(same) == 1 else []
                break
    return {path: mine for path, mine in found.items() if mine}


class Finder:
    """Finds files by what a table calls them: path or name, with or without suffix, in any case.

    >>> finder = Finder(["images/Im1.JPG", "b.png"])
    >>> finder.find("im1.jpg"), finder.find("images/Im1"), finder.find("b.png"), finder.find("c")
    ('images/Im1.JPG', 'images/Im1.JPG', 'b.png', None)
    """

    def __init__(self, paths: Iterable[str]):
        self._paths = set(paths)
        self._found: list[dict[str, list[str]]] = [collections.defaultdict(list) for _ in range(4)]
        for path in self._paths:
            for found, name in zip(self._found, self._names(path), strict=True):
                found[name].append(path)

    def find(self, called: str) -> str | None:
        """Returns the path of the only file that goes by this name, the longest match first; None without such."""
        path = posixpath.normpath(called)
        if path in self._paths:
            return path
        lowered = path.lower()
        near = [[*self._found[0].get(lowered, ()), *self._found[0].get(f"images/{lowered}", ())]]
        near += [[*self._found[1].get(lowered, ()), *self._found[1].get(f"images/{lowered}", ())]]
        near += [self._found[2].get(lowered, []), self._found[3].get(lowered, [])] if "/" not in path else []
        hits = next(filter(None, near), [])
        return hits[0] if len(hits) == 1 else None

    @staticmethod
    def _names(path: str) -> tuple[str, ...]:
        stem = posixpath.splitext(path)[0]
        return tuple(name.lower() for name in (path, stem, posixpath.basename(path), posixpath.basename(stem)))


def _masks_beside(images: set[str]) -> set[str]:
    """Returns those whose names are another's with "_mask" or so, and those that end as one of these does."""
    stems = {posixpath.splitext(path)[0].lower() for path in images} | {_stem(path) for path in images}
    proven = {_ALWAYS} | {
        ending
        for path in images
        for ending, base in _marks(path)
        if base in stems or posixpath.join(posixpath.dirname(path).lower(), base) in stems
    }
    return {path for path in images if any(ending in proven for ending, _ in _marks(path))}


def _marks(path: str) -> list[tuple[str, str]]:
    """Returns what in the name of a file says that it is a mask, and the rest of the name."""
    stem = _stem(path)
    after, before = _ENDING.fullmatch(stem), _BEGINNING.fullmatch(stem)
    found = [(after[2], after[1])] if after else []
    return [*found, (f"{before[1]} ", before[2])] if before else found


def _bare(path: str) -> list[str]:
    """Returns the names that the picture of a mask may have, the likeliest first."""
    names = [_stem(path), *(base for _, base in _marks(path))]
    return names + [stem for stem, suffix in map(posixpath.splitext, names) if suffix in official.IMAGE_SUFFIXES]


def _stem(path: str) -> str:
    return posixpath.splitext(posixpath.basename(path))[0].lower()


def _folders(path: str) -> list[str]:
    return path.split("/")[:-1]


def _place(path: str) -> tuple[str, ...]:
    """Returns the folders around a file, without those that only say what lies there."""
    return tuple(name.lower() for name in _folders(path) if key(name) not in (*_MASK_FOLDERS, *IMAGE_FOLDERS))


def _within(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    return set(one) <= set(other) or set(other) <= set(one)
