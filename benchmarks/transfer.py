"""What ImageNet weights are worth: EfficientNet-B0 on HAM10000, from scratch and in three ways from pretrained weights.

    python benchmarks/transfer.py --crops=CROPS --weights=efficientnet_b0.npz --workdir=runs/transfer

CROPS is an image folder: here 5,984 pictures of HAM10000, one a lesion, cut to 224x224, with `labels.csv`. All
four run through all stages on the same images and splits, with the same number of epochs and the same learning rate at
its peak; only how they start and what they train differs. Prints one table.
"""

import argparse
import json
import pathlib
import subprocess
import sys
from collections.abc import Mapping

ROOT = pathlib.Path(__file__).parent.parent
EPOCHS = 5
COMMON = {
    "splits.test_fraction": 0.2,
    "segmenter.image_size": (64, 64),
    "segmenter.training.epochs": 2,
    "classifier.image_size": (96, 96),
    "classifier.training.epochs": EPOCHS,
}
"""Fields of configs/ham10000.py:quick that differ here."""
VARIANTS: Mapping[str, Mapping[str, object]] = {
    "from scratch": {"classifier.pretrained": ""},
    "ImageNet, all layers": {},
    "ImageNet, last layer first": {"classifier.frozen_epochs": 1, "classifier.training.epochs": EPOCHS - 1},
    "ImageNet, slower towards the stem": {"classifier.layer_decay": 0.85},
}


def describe(name: str, workdir: pathlib.Path) -> str:
    """Returns a line of the table."""
    metrics = json.loads((workdir / "evaluate/metrics.json").read_text())["classification"]
    seconds = json.loads((workdir / "classify/done.json").read_text())["seconds"]
    cells = [f"{m['value']:.3f} ({m['low']:.3f} to {m['high']:.3f})" for m in (metrics["roc_auc"], metrics["pr_auc"])]
    return f"| {name} | {' | '.join(cells)} | {seconds / 60:.0f} min |"


def main() -> None:
    """Runs the variants, or what is left of them, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("crops", "weights", "workdir"):
        parser.add_argument(f"--{option}", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    shared = {
        "data.collection": "image_folder",
        "data.root": arguments.crops,
        "data.records": arguments.workdir / "records",
        "classifier.pretrained": arguments.weights,
    }
    lines = []
    for name, changes in VARIANTS.items():
        workdir = arguments.workdir / name.replace(", ", "_").replace(" ", "_")
        fields = [f"--config.{field}={value}" for field, value in (shared | COMMON | changes).items()]
        command = [sys.executable, str(ROOT / "main.py"), f"--config={ROOT / 'configs/ham10000.py:quick'}"]
        subprocess.run([*command, f"--workdir={workdir}", *fields], check=True)
        lines.append(describe(name, workdir))
    print("| start | ROC-AUC | average precision | training |\n|---|---|---|---|", *lines, sep="\n")


if __name__ == "__main__":
    main()
