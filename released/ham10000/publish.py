"""Publishes a finished run of configs/released.py as the model in this folder.

    python released/ham10000/publish.py --workdir=runs/released

Copies the run's folder `model` here, and adds to metadata.json what the run cannot know of its image folder: licences,
how the ImageNet weights came about, and the test metrics of each part of the folder, full frames and sharper crops.
Prints these as the rows of the table in docs/results.md.
"""

import argparse
import csv
import json
import pathlib
import shutil
from typing import Any

import numpy as np

from segfusion_jax.evaluation import sections
from segfusion_jax.serving.model_folder import write_manifest

HERE = pathlib.Path(__file__).parent
PARTS = {"full frames, 200x150": "200", "centre crops, 224x224": "224"}
"""What the images of each part are called, and how wide they are."""
DATA = {
    "title": "HAM10000 (Tschandl, Rosendahl, Kittler, Sci. Data 5, 180161, 2018)",
    "address": "https://doi.org/10.7910/DVN/DBW86T",
    "licence": "CC BY-NC 4.0",
    "images": "10,015 full frames reduced to 200x150, and of 5,984 of them centre crops of 450x450 reduced to 224x224",
}
PRETRAINED = (
    "Google's AutoAugment checkpoint of EfficientNet-B0 (Apache-2.0), put together from public parts: 308 arrays are "
    "exact, _blocks.15._project_conv.weight is an estimate, an average of fine-tuned copies. The U-Nets do without it."
)
RESAMPLES = 2000


def _read(path: pathlib.Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def measure(workdir: pathlib.Path, width: str) -> dict[str, Any]:
    """Returns the sections of metrics.json over the test images that are so wide."""
    widths = {row["image_id"]: row["width"] for row in _read(workdir / "prepare/splits.csv")}
    metrics = json.loads((workdir / "evaluate/metrics.json").read_text())
    rows = [row for row in _read(workdir / "evaluate/predictions.csv") if widths[row["image_id"]] == width]
    masks = [row for row in _read(workdir / "score/segmentation.csv") if widths[row["image_id"]] == width]
    shares = metrics["calibration"]["shares"]
    names = list(shares)
    groups = [row["group"] for row in rows]
    labels = np.array([row["label"] == "1" for row in rows])
    malignancy = np.array([float(row["probability"]) for row in rows])
    targets = np.array([names.index(row["diagnosis"]) for row in rows])
    of_classes = np.array([[float(row[name]) for name in names] for row in rows])
    scores = [{k: float(v) for k, v in row.items() if k not in ("image_id", "group")} for row in masks]
    threshold = metrics["classification"]["threshold"]["value"]
    options: dict[str, Any] = dict(resamples=RESAMPLES)
    return {
        "classification": sections.classification(labels, malignancy, groups, threshold, **options),
        "operating_points": [
            {name: point[name] for name in ("aim", "level", "threshold")}
            | sections.operating_point(labels, malignancy, groups, point["threshold"], **options)
            for point in metrics["operating_points"]
        ],
        "segmentation": sections.segmentation(scores, [row["group"] for row in masks], **options),
    } | sections.diagnosis(targets, of_classes, names, list(shares.values()), groups, **options)


def _row(name: str, part: dict[str, Any]) -> str:
    def told(entry: dict[str, float]) -> str:
        return f"{entry['value']:.3f} ({entry['low']:.3f} to {entry['high']:.3f})"

    (at_95,) = [p for p in part["operating_points"] if (p["aim"], p["level"]) == ("sensitivity", 0.95)]
    cells = [
        f"{part['classification']['n']['value']:,.0f} {name}",
        told(part["segmentation"]["dice"]),
        told(part["segmentation"]["jaccard"]),
        told(part["classification"]["roc_auc"]),
        told(part["diagnosis_equal_shares"]["balanced_accuracy"]),
        f"{part['classification']['ece']['value']:.3f}",
        f"{told(at_95['specificity'])} at {at_95['sensitivity']['value']:.3f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    workdir = parser.parse_args().workdir
    metadata = json.loads((workdir / "model/metadata.json").read_text())
    for path in (workdir / "model").iterdir():
        shutil.copyfile(path, HERE / path.name)
    parts = {name: measure(workdir, width) for name, width in PARTS.items()}
    for entry in metadata["pretrained"].values():
        entry["origin"] = PRETRAINED
    metadata |= {"data": [DATA], "licence": DATA["licence"], "metrics_by_part": parts}
    (HERE / "metadata.json").write_text(json.dumps(metadata, indent=2) + "\n")
    write_manifest(HERE)
    print(*(_row(name, part) for name, part in parts.items()), sep="\n")


if __name__ == "__main__":
    main()
