"""What a written figure holds."""

import xml.etree.ElementTree
from pathlib import Path

import numpy as np
from PIL import Image


def pixels(path: Path) -> np.ndarray:
    """The PNG file at `path` as whole numbers [height, width, 3]."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def amount(picture: np.ndarray, colour: str) -> int:
    """Pixels of nearly this colour."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(picture - wanted).max(axis=-1) < 12).sum())


def words(path: Path) -> list[str]:
    """The texts of the SVG file beside the PNG file at `path`."""
    root = xml.etree.ElementTree.parse(path.with_suffix(".svg")).getroot()
    return ["".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")]
