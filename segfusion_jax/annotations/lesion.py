"""The one answer to 'which grey level is lesion', for training, evaluation and whoever else reads a mask."""

import numpy as np

READINGS = ("auto", "above_128", "nonzero", "inverted")
"""How a mask can be read, beside a grey level such as "1", which then is the lesion's."""

_MOST_LABELS = 20  # numbers of classes; grey levels of a soft mask are more, or higher


class AmbiguousMask(ValueError):
    """A mask that can be read in two ways; says which."""


def lesion(mask: np.ndarray, reading: str = "auto", *, ignored: int = -1) -> np.ndarray:
    """Returns where the lesion is in a mask of grey levels.

    >>> lesion(np.uint8([[0, 1, 1, 0]])).tolist()
    [[False, True, True, False]]
    >>> lesion(np.uint8([[0, 1, 2, 0]]), "2").tolist()
    [[False, False, True, False]]

    Args:
      mask: [height, width] uint8: 0 and 1; 0 and 255; 0 and any other level, as of a palette; or soft, where lesion is
        what is above 128, by the rule of the official scorer of ISIC.
      reading: "auto", what was just said; or, whatever the levels: "above_128"; "nonzero"; "inverted", lesion where
        "auto" has skin; or the lesion's level, "1".
      ignored: level of pixels that nobody judged; they count as skin. -1 = there are none.

    Returns:
      [height, width] bool.

    Raises:
      AmbiguousMask: the reading is "auto" and the levels are numbers of classes, none is above 128, or the whole border
        is lesion and something within is not, as where black is lesion.
      ValueError: no such array, or no such reading.
    """
    if mask.dtype != np.uint8 or mask.ndim != 2:
        raise ValueError(f"mask: {mask.dtype} array of shape {mask.shape}: must be uint8 [height, width]")
    judged = mask != ignored
    match reading:
        case "above_128":
            found = mask > 128
        case "nonzero":
            found = mask > 0
        case "auto":
            found = _by_levels(mask, judged)
            _refuse_inverted(found, judged)
        case "inverted":
            found = ~_by_levels(mask, judged)
        case _ if reading.isascii() and reading.isdigit() and int(reading) <= 255:
            found = mask == int(reading)
        case _:
            raise ValueError(f"reading = {reading!r}: must be one of {', '.join(READINGS)}, or a level from 0 to 255")
    return found & judged


def _by_levels(mask: np.ndarray, judged: np.ndarray) -> np.ndarray:
    levels = np.flatnonzero(np.bincount(mask[judged], minlength=256)).tolist()
    if not levels or levels[-1] <= 1 or (len(levels) == 2 and levels[0] == 0):
        return mask > 0
    classes = [level for level in levels if 0 < level <= _MOST_LABELS]
    if classes and levels[-1] == 255 and {*levels} - {0, 255} == {*classes}:
        raise AmbiguousMask(
            f"its grey levels are {_listed(levels)}: either 255 is lesion (above_128), or the low ones are classes, "
            f"one of them lesion ({classes[0]}), and 255 is what nobody judged"
        )
    if levels[-1] <= 128:
        raise AmbiguousMask(
            f"its grey levels are {_listed(levels)}, none above 128: either all but 0 is lesion (nonzero), or one "
            f"level is ({levels[-1]})"
        )
    return mask > 128


def _refuse_inverted(found: np.ndarray, judged: np.ndarray) -> None:
    border = np.ones_like(found)
    border[1:-1, 1:-1] = False
    if found.size and found[border & judged].all() and (judged & ~found).any():
        raise AmbiguousMask(
            f"its whole border is lesion and {1 - found[judged].mean():.1%} within are not: either dark is lesion "
            "(inverted), or the lesion fills the image and has a hole (nonzero)"
        )


def _listed(levels: list[int]) -> str:
    return ", ".join(map(str, levels[:5])) + (", ..." if len(levels) > 5 else "")
