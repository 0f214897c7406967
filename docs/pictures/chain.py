"""Draws the method on held-out drawn images: image, mask, what the bridge makes of them, and the evidence.

    python docs/pictures/chain.py --workdir=runs/synthetic --output=docs/pictures/chain.png

The workdir is that of the README's first command: `segfusion train --config synthetic --workdir runs/synthetic`.
"""

import argparse
import json
import pathlib

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

import segfusion_jax as sf
from segfusion_jax.config import Config
from segfusion_jax.datasets.table import Row
from segfusion_jax.input.decode import decode_image
from segfusion_jax.pipeline.run import Run

SHOWN = 3
"""Images: of some tested ones, evenly from the least to the most probable."""
TITLES = ("image", "U-Net", "bridge", "evidence of the classifier")


def predicted(workdir: pathlib.Path) -> tuple[sf.SegFusion, list[tuple[sf.Prediction, np.ndarray, Row]]]:
    """Returns the model and the shown images, each [height, width, 3] uint8, with what it says of them."""
    settings = json.loads((workdir / "config.json").read_text())["config"]
    run, model = Run(Config.from_json(json.dumps(settings)), workdir), sf.SegFusion.load(workdir)
    rows = [row for row in run.prepared.rows if row.split == "test"][:60]
    images = [decode_image(run.prepared.read(row.position)[0]) for row in rows]
    found = list(zip(model.predict(images, explain=True), images, rows, strict=True))
    found.sort(key=lambda one: one[0].probability)
    return model, [found[round(place)] for place in np.linspace(4, len(found) - 5, SHOWN)]


def draw(axes: list[Axes], model: sf.SegFusion, prediction: sf.Prediction, image: np.ndarray, row: Row) -> None:
    """Draws a row of panels."""
    bridge = model.config.bridge
    framed, mask = sf.bridge.frame(image, np.where(prediction.mask, 255, 0).astype(np.uint8), bridge)
    bridged = sf.bridge.apply(framed / 255, mask[..., None] / 255, bridge)[..., :3]
    for axis, shown in zip(axes, (image, image, bridged, image.mean(axis=2)), strict=True):
        axis.imshow(shown, cmap="gray", vmin=0, vmax=255)
        axis.set_axis_off()
    axes[1].contour(prediction.mask, levels=[0.5], colors="yellow", linewidths=1.5)
    strongest = np.abs(prediction.evidence).max()
    axes[3].imshow(prediction.evidence, cmap="RdBu_r", vmin=-strongest, vmax=strongest, alpha=0.6)
    drawn = ("benign", "malignant")[row.malignant]
    said = f"malignant:\n{prediction.probability:.2f}\n\n(drawn as\n{drawn})"
    axes[3].text(1.05, 0.5, said, transform=axes[3].transAxes, va="center", fontsize=9)


def main() -> None:
    """Reads the command line and writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    model, found = predicted(arguments.workdir)
    figure, axes = plt.subplots(SHOWN, len(TITLES), figsize=(8.6, 1.5 * SHOWN + 0.3), layout="constrained")
    for line, one in zip(axes, found, strict=True):
        draw(line, model, *one)
    for axis, title in zip(axes[0], TITLES, strict=True):
        axis.set_title(title, fontsize=10)
    figure.savefig(arguments.output, dpi=100)


if __name__ == "__main__":
    main()
