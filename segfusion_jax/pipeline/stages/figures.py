"""The figures of a run: curves of its training and its scores, and galleries of its test images."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segfusion_jax.bridge import masked
from segfusion_jax.bridge.levels import is_lesion, to_levels, to_unit
from segfusion_jax.bridge.resize import resize
from segfusion_jax.config import Augmentation, Bridge, Config
from segfusion_jax.datasets.prepared import Prepared
from segfusion_jax.datasets.table import Row
from segfusion_jax.evaluation import calibration, classification, segmentation
from segfusion_jax.input import decode
from segfusion_jax.input.augment import augment
from segfusion_jax.input.examples import Examples
from segfusion_jax.pipeline.stages.predicted import Predicted
from segfusion_jax.report import plots
from segfusion_jax.serving.ensembles import SegmenterEnsemble, WholeImages, class_probabilities

PANELS = 8  # images of a gallery
CURVES = ("loss", "dice", "roc_auc", "macro_roc_auc")
"""Metrics of a training that are worth a curve."""

Overlay = tuple[np.ndarray, np.ndarray, np.ndarray, str]
"""Image uint8 [height, width, 3], annotation and prediction bool [height, width], title."""


def overlays(
    scored: Sequence[tuple[Row, Mapping[str, float]]],
    prepared: Prepared,
    segmenters: SegmenterEnsemble | WholeImages,
    config: Config,
) -> dict[str, list[Overlay]]:
    """Returns the worst, the best and some other annotated images, with what the U-Nets make of them.

    All processes predict together.

    Args:
      scored: annotated images and the scores of their masks.
      prepared: the records that they are of.
      segmenters: the U-Nets.
      config: the U-Nets' config.
    """
    ordered = sorted(scored, key=lambda pair: pair[1]["dice"])
    rng = np.random.default_rng(config.seed)
    drawn = sorted(rng.choice(len(ordered), min(PANELS, len(ordered)), replace=False).tolist())
    chosen = {"worst": ordered[:PANELS], "best": ordered[::-1][:PANELS], "random": [ordered[place] for place in drawn]}
    return {name: _overlays(pairs, prepared, segmenters, config) for name, pairs in chosen.items() if pairs}


def _overlays(
    pairs: Sequence[tuple[Row, Mapping[str, float]]],
    prepared: Prepared,
    segmenters: SegmenterEnsemble | WholeImages,
    config: Config,
) -> list[Overlay]:
    source = Examples(prepared, tuple(row for row, _ in pairs), config.segmenter.image_size)
    panels = []
    for (row, probability), (_, scores) in zip(segmenters.predict(source), pairs, strict=True):
        image, mask = decode.read(prepared, row)
        assert mask is not None
        size = image.shape[0], image.shape[1]
        prediction = resize(probability, size) >= config.bridge.threshold
        annotation = segmentation.binarise(resize(mask, size), "above_128")
        panels.append((image, annotation, prediction, f"{row.image_id}\nDice {scores['dice']:.2f}"))
    return panels


def draw_overlays(folder: pathlib.Path, galleries: Mapping[str, Sequence[Overlay]]) -> None:
    """Draws the galleries of `overlays`."""
    for name, panels in galleries.items():
        plots.segmentation_overlays(folder / f"overlays_{name}.png", panels)


def draw_scores(
    folder: pathlib.Path,
    judged: plots.Judged,
    names: tuple[str, str],
    subgroups: Sequence[Mapping],
    *,
    uncalibrated: np.ndarray | None = None,
    own: bool = False,
) -> None:
    """Draws curves, decisions, probabilities, reliability and subgroups.

    Args:
      folder: where the figures go.
      judged: the images.
      names: what those of label 0 and those of label 1 are called.
      subgroups: of `metrics.of_subgroups`.
      uncalibrated: [n] probabilities as the networks give them, where they are to be shown beside.
      own: whether the classes are somebody's own.
    """
    labels, probabilities, threshold = judged.labels, judged.probabilities, judged.threshold
    curves = (("roc_curve", plots.roc_curve), ("pr_curve", plots.pr_curve), ("decision_curve", plots.decision_curve))
    for name, curve in curves if len(set(judged.groups)) > 1 else ():  # of one group there are no bands
        curve(folder / f"{name}.png", judged)
    plots.confusion_matrix(folder / "confusion_matrix.png", labels, probabilities >= threshold, names)
    plots.probability_histogram(folder / "probabilities.png", labels, probabilities, threshold, names)
    before = [] if uncalibrated is None else [_reliability("Before calibration", labels, uncalibrated)]
    words = (f"Share that is {names[1]}", f"Probability of {names[1]}") if own else plots.MALIGNANT
    plots.reliability_diagram(
        folder / "reliability.png", [*before, _reliability("After calibration", labels, probabilities)], words
    )
    shown = [subgroup for subgroup in subgroups if "roc_auc" in subgroup["classification"]]
    if shown:
        rows = [
            plots.Row(one["value"], [one["classification"]["roc_auc"]], one["fact"].capitalize(), [one["n"]])
            for one in shown
        ]
        overall = classification.metrics(labels, probabilities, threshold)["roc_auc"]
        plots.forest(folder / "subgroups.png", rows, ["ROC-AUC"], references=[overall], counts=["Images"])


def draw_diagnoses(
    folder: pathlib.Path, targets: np.ndarray, of_classes: np.ndarray, names: Sequence[str], *, own: bool = False
) -> None:
    """Draws which diagnoses [n], or own classes, are given which, by their probabilities [n, classes]."""
    name, what = ("classes", "class") if own else ("diagnoses", "diagnosis")
    plots.confusion_matrix(folder / f"{name}.png", targets, of_classes.argmax(axis=1), names, what)


def draw_classes(folder: pathlib.Path, test: Predicted) -> None:
    """Draws the reliability of the most probable class, where no class is looked for."""
    called, before = test.of_classes, class_probabilities(test.logits)
    curves = [
        _reliability(name, of.argmax(axis=1) == test.targets, of.max(axis=1))
        for name, of in (("Before calibration", before), ("After calibration", called))
    ]
    words = "Share that is called right", "Probability of the most probable class"
    plots.reliability_diagram(folder / "reliability.png", curves, words)


def _reliability(name: str, labels: np.ndarray, probabilities: np.ndarray) -> plots.Reliability:
    bins = calibration.reliability(labels, probabilities)
    mean, share, _, low, high = (np.array(column) for column in zip(*bins, strict=True))
    return plots.Reliability(name, mean, share, low, high, probabilities)


def draw_training(folder: pathlib.Path, histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Draws the curves of each U-Net and each classifier."""
    for name, history in histories.items():
        shown = [{key: line[key] for key in ("step", "epoch", "split", *CURVES) if key in line} for line in history]
        plots.training_curves(folder / f"training_curves_{name}.png", shown)


def draw_bridge(folder: pathlib.Path, bridge: Bridge, test: Predicted, source: Examples) -> None:
    """Draws three malignant and three benign test images, or one of each class where none is looked for, whole and
    bridged; `source` holds the examples of `test`.
    """
    labels, whole = test.labels, dataclasses.replace(source, bridge=None)
    chosen = [*np.flatnonzero(labels)[:3], *np.flatnonzero(~labels)[:3]]
    if not test.classes.has_sides:
        chosen = np.unique(test.targets, return_index=True)[1].tolist()[:PANELS]
    panels = []
    for place in chosen:
        example, row = whole[place], test.rows[place]
        title = f"{row.image_id}\n{test.classes.told.labels[row.target]}"
        panels.append((example["image"], example["mask"][..., 0], _bridged(source[place], bridge), title))
    plots.bridge_panels(folder / "bridge_panels.png", panels)


def draw_missed(folder: pathlib.Path, bridge: Bridge, test: Predicted, source: Examples, threshold: float) -> None:
    """Draws the malignant test images below the threshold, the least probable first."""
    missed = np.flatnonzero(test.labels & (test.malignancy < threshold))
    panels = [
        plots.Missed(
            test.rows[place].image_id,
            source[place]["image"],
            lesion(source[place], bridge),
            float(test.malignancy[place]),
        )
        for place in missed[np.argsort(test.malignancy[missed], kind="stable")][:PANELS]
    ]
    if panels:
        plots.false_negatives(folder / "false_negatives.png", panels)


def draw_evidence(
    folder: pathlib.Path,
    bridge: Bridge,
    test: Predicted,
    source: Examples,
    *,
    evidence: Sequence[np.ndarray],
    shares: Sequence[tuple[float, float]],
) -> None:
    """Draws Grad-CAM of the two most and the two least probable images of each side; where there are none, of those
    that are the most and the least surely of the class that they are called.
    """
    kinds, sure = test.labels.astype(int), test.malignancy
    if not test.classes.has_sides:
        kinds, sure = test.of_classes.argmax(axis=1), test.of_classes.max(axis=1)
    names = test.classes.binary_names if test.classes.has_sides else test.classes.names
    order, panels = np.argsort(sure, kind="stable"), []
    for kind in sorted(set(kinds.tolist()), reverse=test.classes.has_sides):
        places = [place for place in order[::-1] if kinds[place] == kind]
        for place in dict.fromkeys([*places[:2], *places[-2:]]):
            example = source[place]
            panels.append(
                plots.Explanation(
                    f"{test.rows[place].image_id}\n{names[kind]}, {sure[place]:.2f}",
                    example["image"],
                    _bridged(example, bridge),
                    lesion(example, bridge),
                    evidence[place],
                    shares[place][0],
                )
            )
    toward = names[1] if test.classes.has_sides else "the class that it is called"
    plots.explanations(folder / "grad_cam.png", panels, toward if test.classes.own else "malignancy")


def draw_augmentation(folder: pathlib.Path, augmentation: Augmentation, train: Examples, *, seed: int) -> None:
    """Draws three training images, each as it is and five times augmented."""
    rng = np.random.default_rng(seed)
    sheet = []
    for index in range(min(3, len(train))):
        image, mask = train[index]["image"], train[index]["mask"][..., 0]
        copies = [augment(image, mask, augmentation, rng) for _ in range(5)]
        sheet.append([(image, mask), *copies])
    plots.augmentation_sheet(folder / "augmentation.png", sheet)


def lesion(example: Mapping[str, Any], bridge: Bridge) -> np.ndarray:
    """Returns what of a bridged example is lesion, [height, width] bool; its mask holds probabilities."""
    return is_lesion(example["mask"][..., 0], bridge)


def _bridged(example: Mapping[str, Any], bridge: Bridge) -> np.ndarray:
    bridged = masked.apply(to_unit(example["image"]), to_unit(example["mask"]), bridge)
    return to_levels(bridged[..., :3])
