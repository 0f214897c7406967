"""Hashes by which a photograph is known again: of its whole frame, and of what collections may cut out of it.

They hold the signs of a picture's low frequencies after its local contrast is made even and a black frame is left out,
since otherwise every dark blob on light skin has nearly the same ones, and every frame. Pairs of them are compared in
`near_duplicates` and `cuts`.
"""

import cv2
import numpy as np

_SIDE = 32  # pixels that a picture is reduced to, each way
_FREQUENCIES = 16  # each way, so that the four words hold 64 signs each
_SIGMA = 2.0  # pixels of the reduced picture over which contrast is made even
_CONTRAST = 4.0  # grey levels below which it stays faint, so that what JPEG does to plain skin is not amplified
_BLACK = (0.25, 0.5)  # of the brightness of light skin: up to the first it is frame, from the second on it is not
_FLOOR = 1e-3  # coefficients below are rounding of a constant picture

_SQUARES = ((0.0, 0.0, 1.0), (-0.03, 0.0, 1.0), (0.03, 0.0, 1.0), (0.0, -0.025, 0.95), (0.0, 0.025, 0.95))
"""Squares about the centre: shift to the right and down, and side, as fractions of the shorter side of the frame."""
_MIDDLES = (0.62, 0.67, 0.72)
"""Fractions of both sides of the frame that are left."""

NUM_CUTS = len(_SQUARES) + len(_MIDDLES)


def perceptual_hash(image: np.ndarray) -> bytes:
    """Returns what stays of a picture when it is encoded again: 256 bits, of which one is always 0.

    Any resolution and aspect ratio give nearly the same bits. Pictures of one grey level all have the bits 0.

    Args:
      image: [height, width, 3] uint8 RGB.

    Returns:
      32 bytes: the signs of frequencies 0..15 each way, as four words of 64 bits, by whether the frequency down and the
      one across are even or odd.

    Raises:
      ValueError: the array is no picture.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"image is {image.dtype} {list(image.shape)}; accepted: uint8 [height, width, 3]")
    small = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small.astype(np.float32), cv2.COLOR_RGB2GRAY)
    spectrum = cv2.dct(_even_contrast(grey, _skin(grey)))
    signs = spectrum[:_FREQUENCIES, :_FREQUENCIES] > _FLOOR
    signs[0, 0] = False
    return packed(signs.reshape(8, 2, 8, 2).transpose(1, 3, 0, 2)).tobytes()


def cut_hashes(image: np.ndarray) -> bytes:
    """Returns the `perceptual_hash` of each possible cut of a picture, [height, width, 3] uint8 RGB: 32 bytes each."""
    height, width = image.shape[:2]
    side = min(height, width)
    cuts = [_cut(image, right * side, down * side, (share * side, share * side)) for right, down, share in _SQUARES]
    cuts += [_cut(image, 0, 0, (share * height, share * width)) for share in _MIDDLES]
    return b"".join(map(perceptual_hash, cuts))


def packed(signs: np.ndarray) -> np.ndarray:
    """Packs signs [..., 2, 2, 8, 8], by parity down and across, then frequency, into [..., 4] uint64."""
    return np.packbits(signs.reshape(*signs.shape[:-4], 4, 64), axis=-1).view(np.uint64)[..., 0]


def _skin(grey: np.ndarray) -> np.ndarray:
    """Returns weights in [0, 1], 0 in the black frame of a dermatoscope, whose outline unrelated pictures share."""
    brightness = grey / max(1.0, float(np.percentile(grey, 90)))
    weights = np.clip((brightness - _BLACK[0]) / (_BLACK[1] - _BLACK[0]), 0.0, 1.0)
    return cv2.erode(weights, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_REFLECT)


def _even_contrast(grey: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns weighted deviations from the local mean, in local standard deviations."""
    total = np.maximum(_blurred(weights), 1e-3)
    deviation = grey - _blurred(weights * grey) / total
    variance = _blurred(weights * deviation**2) / total
    return weights * deviation / np.sqrt(variance + _CONTRAST**2)


def _blurred(image: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), _SIGMA, borderType=cv2.BORDER_REFLECT)


def _cut(image: np.ndarray, right: float, down: float, size: tuple[float, float]) -> np.ndarray:
    """Returns what is `size`, (height, width), of a picture around its centre, moved by pixels as far as there are."""
    (height, width), (tall, wide) = image.shape[:2], (max(1, round(side)) for side in size)
    top = round(min(max((height - tall) / 2 + down, 0), height - tall))
    left = round(min(max((width - wide) / 2 + right, 0), width - wide))
    return np.ascontiguousarray(image[top : top + tall, left : left + wide])
