"""Draws the contours of annotated and predicted lesions in held-out images, the worst of them to the best.

    python released/ham10000/contours.py --root=MIXED --output=docs/pictures/contours.png

MIXED is the folder of assemble.py. The photographs themselves are left out: this repository holds no data.
"""

import argparse
import csv
import pathlib

import numpy as np
from PIL import Image

import segfusion_jax as sf
from segfusion_jax.evaluation import segmentation
from segfusion_jax.report import plots

HERE = pathlib.Path(__file__).parent
IMAGES = 300
SHOWN = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
"""Share of the images whose Dice coefficient is lower."""


def _read(path: pathlib.Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def panels(root: pathlib.Path) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, str]]:
    """Returns the panels of `segmentation_overlays`: plain grey instead of the image, annotation, prediction, title."""
    tested = {
        pathlib.PurePosixPath(row["image_id"]).name for row in _read(HERE / "split.csv") if row["split"] == "test"
    }
    rows = [row for row in _read(root / "labels.csv") if pathlib.PurePosixPath(row["image"]).stem in tested]
    rows = [rows[place] for place in np.linspace(0, len(rows) - 1, IMAGES).astype(int)]
    found = []
    for row, prediction in zip(
        rows, sf.SegFusion.load(HERE).predict([root / row["image"] for row in rows]), strict=True
    ):
        size = prediction.mask.shape[1], prediction.mask.shape[0]
        annotation = segmentation.binarise(
            np.asarray(Image.open(root / row["mask"]).resize(size, Image.Resampling.NEAREST))
        )
        found.append((segmentation.score(prediction.mask, annotation)["dice"], row["dx"], annotation, prediction.mask))
    found.sort(key=lambda one: one[0])
    shown = [(share, *found[round(share * (len(found) - 1))]) for share in SHOWN]
    return [
        (np.full((*mask.shape, 3), 224, np.uint8), annotation, mask, f"{share:.0%} are worse\nDice {dice:.3f}, {dx}")
        for share, dice, dx, annotation, mask in shown
    ]


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=pathlib.Path, required=True)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    plots.segmentation_overlays(arguments.output, panels(arguments.root), columns=4)


if __name__ == "__main__":
    main()
