"""What reviewers ask for (CLAIM, 2024 update; TRIPOD+AI), answered as far as a run can.

CLAIM: Tejani et al., Radiology: Artificial Intelligence 6(4), 2024. TRIPOD+AI: Collins et al., BMJ 385, 2024. Topics
and answers are in `checklist.toml`, in our own words; here is what they say of a run.
"""

import dataclasses
import importlib.resources
import tomllib
from typing import Any

from segfusion_jax.config import Classifier, Segmenter
from segfusion_jax.report.blocks import percent
from segfusion_jax.report.finished_run import FinishedRun

ANSWERED, PARTLY, AUTHORS = "answered by this run", "partly", "for the authors"


@dataclasses.dataclass(frozen=True)
class Item:
    """A topic that a paper must speak of.

    Attributes:
      topic: what it is about, in short.
      guidelines: the guidelines that ask for it; TRIPOD+AI with the item's number.
      status: ANSWERED, PARTLY or AUTHORS.
      answer: text of what the run knows, and of what is left to say.
    """

    topic: str
    guidelines: str
    status: str
    answer: str


def checklist(run: FinishedRun) -> list[Item]:
    """Returns the items in the order of a paper."""
    file = importlib.resources.files("segfusion_jax.report") / "checklist.toml"
    facts = {"run": run} | _of_sides(run) | _of_data(run) | _of_models(run) | _of_analysis(run)
    items = tomllib.loads(file.read_text(encoding="utf-8"))["items"]
    return [Item(**{name: text.format(**facts) for name, text in item.items()}) for item in items]


def _of_sides(run: FinishedRun) -> dict[str, Any]:
    """Returns what is told apart, how often it is there, and what comes out."""
    data = run.config.data
    by = f"data.classes '{data.classes}'" if data.classes else f"data.target '{data.target}'"
    if not run.has_sides:
        counts = {name: sum(given.values()) for name, given in run.metrics.get("confusion", {}).items()}
        return {
            "contrast": f"{', '.join(run.classes)} ({by})",
            "of_them": ", ".join(f"{count:,} {name}" for name, count in counts.items()),
            "output": "A probability of each class; the most probable one is named, and no threshold decides.",
        }
    points = len(run.metrics.get("operating_points", []))
    return {
        "contrast": f"{run.binary_names[0]} against {run.binary_names[1]} ({by})",
        "of_them": f"{run.num_positive:,} ({percent(run.prevalence)}) of them {run.binary_names[1]}",
        "output": f"A probability of '{run.binary_names[1]}'; threshold {run.threshold:.3f}, the best balanced "
        f"accuracy on validation images. {points} more thresholds for aims of sensitivity or specificity.",
    }


def _of_data(run: FinishedRun) -> dict[str, Any]:
    splits = run.audit["splits"]
    parts = [(name, splits[name]) for name in ("train", "validation", "test") if name in splits]
    related = run.audit["relatives_in_training"]["this_split"]["any of these"]
    grouped = run.config.splits.protocol == "grouped"
    unseen = f"but {percent(related)} have relatives in training or validation"
    if run.config.splits.official_test:
        unseen = "its official test set"
    elif not related:
        unseen = "never used before the evaluation"
    return {
        "data": run.config.data,
        "splits": run.config.splits,
        "left_out": ", ".join(f"{count} {kind}" for kind, count in run.audit["left_out"].items()) or "none",
        "unused": splits.get("unused", {}).get("images", 0),
        "classes": ", ".join(run.classes),
        "masked": sum(counts["with_mask"] for counts in splits.values()),
        "unlabelled": sum(of["targets"].get("none", 0) for name, of in splits.items() if name != "unused"),
        "unit": "group (equal or near-equal picture, lesion, patient)" if grouped else "image",
        "parts": ", ".join(f"{name} {of['images']:,} images of {of['groups']:,} groups" for name, of in parts),
        "related": percent(related),
        "unseen": unseen,
    }


def _of_models(run: FinishedRun) -> dict[str, Any]:
    unet, classifier, folds = run.config.segmenter, run.config.classifier, run.config.splits.num_folds
    ensemble = classifier.fold_ensemble
    unets = _of_unets(run)
    area = "ROC-AUC" if run.has_sides else "mean ROC-AUC of the classes"
    by_auc = f"classifier k's by {area} on fold k" if ensemble else f"the classifier's by {area} on validation images"
    return {
        "unet": unet,
        "bridge": run.config.bridge,
        "classifier": classifier,
        "encoder": f"with encoder {unet.encoder}" if unet.encoder else f"of {unet.filters} filters at full size",
        "classifier_weights": classifier.pretrained or "random",
        "classifier_training": _training(classifier),
        "chosen": f"{unets.pop('chosen')}{by_auc}",
        **unets,
        "judged": f"the mean of {folds} classifiers" if ensemble else "one classifier",
    }


def _of_unets(run: FinishedRun) -> dict[str, str]:
    """Returns where the U-Nets' weights are from, how these were trained and chosen, and which of them make masks."""
    unet, bridge, splits = run.config.segmenter, run.config.bridge, run.audit["splits"]
    if bridge.released:
        return {
            "unet_weights": f"U-Nets: those of {bridge.released}",
            "unet_training": "U-Nets: none is trained",
            "chosen": "",
            "masks_by": f"Masks are the mean of the U-Nets of {bridge.released}, which saw no image here and no "
            "relative of one",
        }
    if bridge.mode == "none" and not any(splits.get(name, {}).get("with_mask") for name in ("train", "validation")):
        none = "U-Nets: none"
        return {
            "unet_weights": none,
            "unet_training": none,
            "chosen": "",
            "masks_by": "The classifier sees whole images",
        }
    return {
        "unet_weights": f"U-Net's {'encoder' if unet.encoder else 'weights'}: {unet.pretrained or 'random'}",
        "unet_training": f"U-Nets: loss '{unet.loss}', {_training(unet)}",
        "chosen": "U-Net k's by Dice on validation images outside fold k, ",
        "masks_by": f"Masks of test images are the mean of {run.config.splits.num_folds} U-Nets, all others come from "
        "the one U-Net that never saw their group",
    }


def _training(model: Segmenter | Classifier) -> str:
    training, drawn = model.training, model.augmentation
    flips = [name for name in ("horizontal", "vertical") if getattr(drawn, f"flip_{name}")]
    return (
        f"{training.epochs} epochs, batches of {training.batch_size}, {training.optimizer}, learning rate "
        f"{training.learning_rate:g} ({training.schedule}), weight decay {training.weight_decay:g}, "
        f"rotated up to {drawn.rotation:g}°, shifted up to {percent(drawn.shift_height, 0)} and "
        f"{percent(drawn.shift_width, 0)}, zoomed up to {percent(drawn.zoom, 0)}, flipped: "
        f"{', '.join(flips) or 'never'}"
    )


def _of_analysis(run: FinishedRun) -> dict[str, Any]:
    section = run.metrics["classification" if run.has_sides else "probabilities"]
    scaling, measured = run.metrics.get("calibration"), "ece" in section
    calibration = f"Temperature fitted on {scaling['fitted_on']:,} validation images. " if scaling else ""
    calibration += (
        "Error, Brier score and reliability on test images."
        if measured and "brier" in section
        else "Error, log loss and reliability on test images, of the most probable class."
        if measured
        else "Brier score and log loss only."
    )
    explained = "Grad-CAM, and the share of evidence within the lesion; no reader has judged the maps."
    has_maps, subgroups = bool(run.metrics.get("explanation")), run.metrics.get("subgroups", [])
    told = [group["fact"] for group in subgroups if not group["withheld"]]
    by_fact = f"{len(told)} subgroups by {', '.join(dict.fromkeys(told))}; {len(subgroups) - len(told)} too small."
    tone = "" if any(group["fact"] == "skin tone" for group in subgroups) else " Skin tone is not known."
    return {
        "calibration": calibration,
        "calibration_status": ANSWERED if measured else PARTLY,
        "explanation": explained if has_maps else "None.",
        "explanation_status": PARTLY if has_maps else AUTHORS,
        "subgroups": (by_fact if told else "No subgroup was measured.") + tone,
        "subgroups_status": PARTLY if told else AUTHORS,
    }
