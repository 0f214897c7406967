"""Stage 6: all of a run on one page, and its models in a folder that `SegFusion.load` reads."""

import csv
import dataclasses
import datetime
import json
import pathlib
import shutil
from typing import Any

from segfusion_jax.config import Config
from segfusion_jax.evaluation import report as page
from segfusion_jax.inference import METADATA, Classes
from segfusion_jax.input.mask_store import MaskStore
from segfusion_jax.parallel import make_devices
from segfusion_jax.stages.workdir import classifier_weights, load_classes, unet_weights

FIGURES = {
    "roc_curve": ("ROC curve", "Test images; the dot is the threshold that was chosen on validation images."),
    "pr_curve": ("Precision-recall curve", "Test images; the line is the prevalence, which guessing reaches."),
    "confusion_matrix": ("Confusion matrix", "Test images at the threshold that was chosen on validation images."),
    "probabilities": ("Predicted probabilities", "Test images, by label."),
    "segmentation_overlays": ("Predicted and annotated lesions", "Test images: the worst, then from worse to better."),
    "bridge_panels": ("Data Processing Bridge", "Test images, their masks, and what the classifier sees."),
    "augmentation": ("Augmentation", "Training images, as they are, then augmented."),
    "training_curves_classifier": ("Training of the classifier", ""),
}
"""Files in evaluation/figures, without `.png`, with title and caption, in the order of the page."""
NUM_FAILURES = 20
SHORTCUT_AUC = 0.6
"""From which on the page warns of a fact that tells the classes apart."""


def report(config: Config, workdir: pathlib.Path) -> None:
    """Writes `report/index.html` and `model/`."""
    devices = make_devices(config.parallel)
    if not devices.is_lead:
        return
    metrics = json.loads((workdir / "evaluation" / "metrics.json").read_text())
    audit = json.loads((workdir / "splits" / "audit.json").read_text())
    classes = load_classes(config, workdir)
    _release(config, workdir, metrics, classes)
    metrics.pop("confusion", None)
    content = page.Report(
        title=f"SegFusion on {config.data.collection}",
        summary=_summary(config, metrics, classes),
        warnings=_warnings(config, workdir, metrics, audit, classes),
        metrics=metrics,
        counts={split: _numbers(counts) for split, counts in audit["splits"].items()},
        facts=_facts(workdir, devices),
        figures=_figures(config, workdir),
        config=config.to_json(),
        failures=_failures(workdir, metrics["classification"]["threshold"]["value"]),
        sides=classes.sides,
    )
    page.write(workdir / "report" / "index.html", content)


def _release(config: Config, workdir: pathlib.Path, metrics: dict, classes: Classes) -> None:
    """Writes the weights and what is needed to use them: the folder `model`."""
    folder = workdir / "model"
    folder.mkdir(exist_ok=True)
    folds = range(config.splits.num_folds)
    unets = [f"unet_{fold}.safetensors" for fold in folds]
    ensemble = [f"classifier_{fold}.safetensors" for fold in folds]
    classifiers = ensemble if config.classifier.fold_ensemble else ["classifier.safetensors"]
    sources = [*unet_weights(config, workdir), *classifier_weights(config, workdir)]
    for source, name in zip(sources, [*unets, *classifiers], strict=True):
        shutil.copyfile(source, folder / name)
    data = dataclasses.replace(config.data, root="", mask_root="", records="")  # this machine's paths concern nobody
    metadata = {
        "config": json.loads(dataclasses.replace(config, data=data).to_json()),
        "unets": unets,
        "classifiers": classifiers,
        "classes": classes.names,
        "positive": [name for name, positive in zip(classes.names, classes.positive, strict=True) if positive],
        "num_logits": classes.num_logits,
        "temperature": 1.0,
        "shift": [0.0] * classes.num_logits,
        "prevalence": metrics["classification"]["prevalence"]["value"],
        "threshold": metrics["classification"]["threshold"]["value"],
        "metrics": metrics,
        "use": "Research use only. Not a medical device.",
    }
    (folder / METADATA).write_text(json.dumps(metadata, indent=2) + "\n")


def _summary(config: Config, metrics: dict, classes: Classes) -> str:
    classification, segmentation = metrics["classification"], metrics["segmentation"]
    negative, positive = classes.sides
    text = (
        f"{negative.capitalize()} against {positive} on {classification['n']['value']:.0f} held-out images "
        f"({classification['prevalence']['value']:.1%} {positive}), bridge mode '{config.bridge.mode}': ROC-AUC "
        f"{_with_interval(classification['roc_auc'])}."
    )
    if "diagnosis" in metrics:
        text += f" Balanced accuracy over {len(classes.names)} diagnoses: "
        text += f"{_with_interval(metrics['diagnosis']['balanced_accuracy'])}."
    if segmentation:
        text += f" U-Net masks of {segmentation['n']['value']:.0f} held-out images, before the bridge cleans them: "
        text += f"mean Dice {_with_interval(segmentation['dice'])}."
    return text


def _with_interval(entry: dict) -> str:
    return f"{entry['value']:.3f} (95 % interval {entry['low']:.3f} to {entry['high']:.3f})"


def _warnings(config: Config, workdir: pathlib.Path, metrics: dict, audit: dict, classes: Classes) -> list[str]:
    leaks = audit["siblings_in_training"]
    here, at_random = leaks["this_split"]["any of these"], leaks["random_split"]["any of these"]
    if here:
        warnings = [
            f"The split leaks, by protocol '{config.splits.protocol}': {here:.1%} of test images have a sibling in "
            "training, the same picture, a near duplicate, or one of the same lesion or patient. The metrics flatter."
        ]
    else:
        warnings = [
            "No test image has a sibling in training. A random split of the images would have put one there for "
            f"{at_random:.1%} of them."
        ]
    warnings += [
        f"{name.capitalize()} alone tells malignant from benign with a ROC-AUC of {auc:.2f}: a shortcut."
        for name, auc in audit["shortcuts"].items()
        if auc >= SHORTCUT_AUC
    ]
    if audit["left_out"]:
        left_out = ", ".join(f"{count} {kind}" for kind, count in audit["left_out"].items())
        warnings.append(f"Left out as unusable: {left_out}; splits/problems.csv lists them.")
    masks = MaskStore(workdir / "masks").rows
    fallbacks = sum(bool(mask.fallback) for mask in masks)
    warnings.append(f"{fallbacks} of {len(masks)} images had no usable mask; the classifier saw the whole image.")
    if config.data.collection == "synthetic":
        warnings.append("The images are drawn by a program: these numbers say nothing about patients.")
    if metrics["classification"]["threshold"]["value"] == 0:
        warnings.append(f"No threshold beats chance on the validation images: everything is called {classes.sides[1]}.")
    if metrics["classification"]["roc_auc"]["low"] <= 0.5:
        warnings.append("The interval of the ROC-AUC includes 0.5: the classifier may be no better than chance.")
    return warnings


def _numbers(counts: dict[str, Any]) -> dict[str, int]:
    numbers = {name: value for name, value in counts.items() if isinstance(value, int)}
    return {name.replace("_", " "): value for name, value in (numbers | counts["targets"]).items()}


def _facts(workdir: pathlib.Path, devices) -> dict[str, str]:
    versions = json.loads((workdir / "config.json").read_text())["versions"]
    stages = {path.parent.name: json.loads(path.read_text())["seconds"] for path in sorted(workdir.glob("*/done.json"))}
    return {
        "Date": datetime.date.today().isoformat(),
        "Devices": devices.describe(),
        "Seconds by stage": ", ".join(f"{name} {seconds:g}" for name, seconds in stages.items()),
        "Versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }


def _figures(config: Config, workdir: pathlib.Path) -> list[page.Figure]:
    unets = {
        f"training_curves_unet_{fold}": (f"Training of U-Net {fold}", f"It never meets fold {fold}.")
        for fold in range(config.splits.num_folds)
    }
    folder = workdir / "evaluation" / "figures"
    figures = [page.Figure(*texts, folder / f"{name}.png") for name, texts in (FIGURES | unets).items()]
    return [figure for figure in figures if figure.path.exists()]


def _failures(workdir: pathlib.Path, threshold: float) -> list[page.Failure]:
    """The misclassified test images, the most certain errors first, missed malignant ones before false alarms."""
    with (workdir / "evaluation" / "segmentation.csv").open(newline="") as file:
        dice = {line["image_id"]: float(line["dice"]) for line in csv.DictReader(file)}
    with (workdir / "evaluation" / "predictions.csv").open(newline="") as file:
        wrong = [
            line for line in csv.DictReader(file) if (float(line["probability"]) >= threshold) != (line["label"] == "1")
        ]
    wrong.sort(key=lambda line: (line["label"] == "0", -abs(float(line["probability"]) - threshold)))
    return [
        page.Failure(
            line["image_id"],
            line["group"],
            int(line["label"]),
            float(line["probability"]),
            dice.get(line["image_id"]),
        )
        for line in wrong[:NUM_FAILURES]
    ]
