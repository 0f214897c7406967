"""A run with everything that a report can show, made up; a page of it is written in less than a second."""

import csv
import json
import pathlib

import numpy as np
import safetensors.numpy
from PIL import Image, ImageDraw

from segfusion_jax.config import Config
from segfusion_jax.datasets import table
from segfusion_jax.input import mask_store
from segfusion_jax.pipeline.run import LAYOUT
from segfusion_jax.report.finished_run import FinishedRun
from tests import tiny
from tests.datasets.rows import row

CLASSES = ("nevus", "melanoma", "basal cell carcinoma")
FIGURES = {  # file name without ".png" to width and height
    **dict.fromkeys(("roc_curve", "pr_curve", "reliability", "decision_curve", "probabilities"), (660, 630)),
    **dict.fromkeys(
        ("confusion_matrix", "diagnoses", "training_curves_classifier_0", "training_curves_classifier_1"), (660, 630)
    ),
    **dict.fromkeys(("training_curves_unet_0", "training_curves_unet_1"), (1200, 480)),
    **dict.fromkeys(("false_negatives", "grad_cam", "overlays_worst", "overlays_best"), (1260, 630)),
    **dict.fromkeys(("overlays_random", "bridge_panels", "augmentation"), (1260, 700)),
    "subgroups": (900, 500),
}
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>'


def config() -> Config:
    """Returns a config of HAM10000, with all that has a sentence of its own."""
    return tiny.config(
        "ham10000",
        data__target="diagnosis",
        classifier__fold_ensemble=True,
        classifier__test_time_augmentation=8,
        evaluation__min_subgroup=50,
    )


def entry(value: float, width: float = 0.02, **more: float) -> dict[str, float]:
    """With an interval of `width` on both sides."""
    return {"value": value, "low": value - width, "high": value + width, **more}


def metrics() -> dict:
    """Every key of metrics.json."""
    aims = [(aim, level) for aim in ("sensitivity", "specificity") for level in (0.8, 0.9, 0.95)]
    return {
        "classification": {
            **{name: entry(0.81) for name in ("accuracy", "precision", "recall", "f1", "balanced_accuracy")},
            "mcc": entry(0.55, 0.04),
            "roc_auc": entry(0.931),
            "pr_auc": entry(0.742, 0.05),
            "partial_auc": entry(0.14, 0.01),
            "sensitivity": entry(0.86),
            "specificity": entry(0.84),
            "brier": entry(0.09),
            "log_loss": entry(0.31),
            "ece": entry(0.021, 0.01),
            "prevalence": {"value": 0.195},
            "threshold": {"value": 0.31},
            "n": {"value": 1502.0},
            "groups": {"value": 1121.0},
        },
        "uncalibrated": {"brier": entry(0.11), "log_loss": entry(0.45), "ece": entry(0.093, 0.01)},
        "calibration": {"temperature": 1.73, "shift": [0.1, -0.2, 0.05], "fitted_on": 1489, "prevalence": 0.194}
        | {"ece_by_chance": {"low": 0.01, "high": 0.035}},
        "operating_points": [
            {
                "aim": aim,
                "level": level,
                "threshold": max(0.4 - 0.1 * number, 0.0),
                **{name: entry(0.6 + 0.05 * number) for name in ("sensitivity", "specificity", "ppv", "npv")},
            }
            for number, (aim, level) in enumerate(aims)
        ],
        "diagnosis": {
            "balanced_accuracy": entry(0.76),
            "macro_roc_auc": entry(0.94),
            "accuracy": entry(0.84),
            "n": {"value": 1502.0},
        },
        "diagnosis_equal_shares": {"balanced_accuracy": entry(0.81), "accuracy": entry(0.79)},
        "confusion": {
            true: {given: 400 if true == given else 17 + 3 * len(given) for given in CLASSES} for true in CLASSES
        },
        "segmentation": {
            **{name: entry(0.93, 0.004) for name in ("dice", "sensitivity", "specificity", "accuracy")},
            **{name: entry(0.88, 0.005) for name in ("jaccard", "thresholded_jaccard", "boundary_iou")},
            "hausdorff_95": entry(21.42, 1.3),
            "hausdorff_95_diagonal": entry(2.857, 0.2),
            "surface_distance": entry(6.31, 0.3),
            "surface_distance_diagonal": entry(0.841, 0.05),
            "failure_rate": entry(0.04),
            "zero_rate": {"value": 0.0},
            "n": {"value": 1502.0},
            "groups": {"value": 1121.0},
        },
        "subgroups": _subgroups(),
        "explanation": {
            "inside_share": entry(0.71),
            "area_share": entry(0.24),
            "excess": entry(0.47),
            "n": {"value": 1502.0},
        },
        "novelty": {"flagged": entry(0.0123, 0.004), "kept": {"value": 0.99}, "n": {"value": 1502.0}},
    }


def _subgroups() -> list[dict]:
    def group(fact: str, value: str, n: int, auc: float) -> dict:
        measured = {"roc_auc": entry(auc, 0.03), "sensitivity": entry(0.8, 0.05), "specificity": entry(0.83)}
        sizes = {"fact": fact, "value": value, "n": n, "positives": n // 5, "groups": n - n // 4}
        if n < 50:
            return sizes | {"withheld": True}
        segmented = {"dice": entry(0.93), "failure_rate": entry(0.04)}
        return sizes | {"withheld": False, "classification": measured, "segmentation": segmented}

    return [
        group("sex", "female", 702, 0.93),
        group("sex", "male", 780, 0.932),
        group("sex", "unknown", 20, 0.9),
        group("age", "under 40", 340, 0.95),
        group("age", "60 and above", 512, 0.93),
        group("site", "lower extremity", 211, 0.94),
        group("site", "acral", 12, 0.7),
    ]


def audit() -> dict:
    """As datasets/audit.py makes it."""
    relatives = ("same picture", "near duplicate", "same lesion", "same patient", "any of these")

    def split(images: int, groups: int) -> dict:
        targets = dict(zip(CLASSES, (images - images // 5, images // 10, images // 5 - images // 10), strict=True))
        return {
            "images": images,
            "groups": groups,
            "targets": targets | {"none": 0},
            "with_mask": images,
            "diagnoses": targets,
        }

    return {
        "images": 10015,
        "groups": 7418,
        "pictures": 10012,
        "classes": list(CLASSES),
        "splits": {
            "train": split(7012, 5190),
            "validation": split(1498, 1107),
            "test": split(1502, 1121),
            "unused": split(3, 3),
        },
        "left_out": {"absent": 2, "damaged": 1},
        "contradictions": [],
        "relatives_in_training": {
            "this_split": dict.fromkeys(relatives, 0.0),
            "random_split": dict(zip(relatives, (0.001, 0.03, 0.385, 0.0, 0.392), strict=True)),
        },
        "leaking": False,
        "shortcuts": {"confirmation": 0.78, "width": 0.5, "file size": 0.55},
    }


def predictions(threshold: float = 0.31) -> list[dict[str, str]]:
    """As in predictions.csv: of every five images the first is positive; of every fifteen, some are wrong."""
    lines = []
    for number in range(150):
        positive, wrong = number % 5 == 0, number % 15 in (5, 7)
        side = threshold + (0.6 if positive != wrong else -0.3) * ((number * 7) % 10 + 1) / 10
        lines.append(
            {
                "image_id": f"ISIC_{24306 + number:07d}",
                "group": f"ISIC_{24306 + number - number % 3:07d}",
                "label": str(int(positive)),
                "probability": repr(side),
            }
        )
    return lines


def overlaps() -> list[dict[str, str]]:
    """As in segmentation.csv."""
    scores = np.random.default_rng(0).beta(9, 2, 150)
    return [
        {name: line[name] for name in ("image_id", "group")} | {"dice": f"{2 * j / (1 + j):.6f}", "jaccard": f"{j:.6f}"}
        for line, j in zip(predictions(), scores, strict=True)
    ]


def figures(folder: pathlib.Path) -> pathlib.Path:
    """Drawn into `folder`/evaluate/figures."""
    figures = folder / "evaluate" / "figures"
    figures.mkdir(parents=True)
    for name, size in FIGURES.items():
        picture = Image.new("RGB", size, "#f2f4f5")
        draw = ImageDraw.Draw(picture)
        draw.rectangle((60, 20, size[0] - 20, size[1] - 60), outline="#333333", width=2)
        draw.line((60, size[1] - 60, size[0] - 20, 20), fill="#0072B2", width=4)
        draw.text((80, 40), f"{name}, {size[0]} x {size[1]}", fill="#333333", font_size=28)
        picture.save(figures / f"{name}.png", compress_level=1)
    (figures / "roc_curve.svg").write_text(SVG)
    return figures


def run(folder: pathlib.Path) -> FinishedRun:
    """The run, with its figures in `folder`."""
    facts = {"Devices": "1 x cpu, 1 process(es)", "Versions": "jax 0.10.2, flax 0.12.8"}
    return FinishedRun(
        config=config(),
        metrics=metrics(),
        audit=audit(),
        classes=CLASSES,
        binary_names=("benign", "malignant"),
        collection="HAM10000",
        address="https://doi.org/10.7910/DVN/DBW86T",
        fallbacks={"": 9940, "tiny": 50, "border": 22},
        predictions=predictions(),
        overlaps=overlaps(),
        figures=figures(folder),
        provenance="Model 0123456789abcdef (SHA-256 of its metadata.json) · segfusion_jax 0.2.0 · 2026-11-23",
        facts=facts,
    )


def workdir(folder: pathlib.Path) -> pathlib.Path:
    """What the stages before the report leave in `folder`; weights are their own fold."""
    figures(folder)
    for name, content in {"prepare/audit.json": audit(), "evaluate/metrics.json": metrics()}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    (folder / "evaluate" / "novelty.safetensors").write_text("novelty")
    splits = ("train", "train", "validation", "test")
    rows = [row(number, split=split, fold=int(split != "test") - 1) for number, split in enumerate(splits)]
    table.write_rows(folder / "prepare/splits.csv", rows)
    (folder / "config.json").write_text(
        json.dumps({"layout": LAYOUT, "versions": {"segfusion_jax": "0.2.0", "jax": "0.10.2"}})
    )
    for name, lines in {"evaluate/predictions": predictions(), "score/segmentation": overlaps()}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(lines[0]))
            writer.writeheader()
            writer.writerows(lines)
    masks = [mask_store.MaskRow(f"ISIC_{number}", "0", 0.2, "tiny" if number < 3 else "") for number in range(10)]
    mask_store.write(folder / "bridge", ((mask, b"") for mask in masks))
    for fold in range(config().splits.num_folds):
        for stage in ("segment", "classify"):
            weights = folder / stage / f"fold_{fold}" / "weights.safetensors"
            weights.parent.mkdir(parents=True)
            arrays = {"kernel": np.full((2, 3), fold, np.float32), "bias": np.full(3, fold, np.float32)}
            stated = {
                "conventions": stage,
                "preprocessing": {"mean": [fold] * 3, "std": [1] * 3, "image_size": [16, 32]},
            }
            safetensors.numpy.save_file(arrays, weights, {"segfusion_jax": json.dumps(stated)})
    return folder
