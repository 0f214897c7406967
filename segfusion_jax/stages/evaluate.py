"""Stage 5: the models on held-out groups, which nothing before has looked at."""

import csv
import json
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
from absl import logging
from sklearn.metrics import confusion_matrix

from segfusion_jax import bridge as bridging
from segfusion_jax.config import Config
from segfusion_jax.datasets.prepared import Prepared
from segfusion_jax.datasets.table import Row
from segfusion_jax.evaluation import bootstrap, classification, plots, segmentation
from segfusion_jax.evaluation.report import table
from segfusion_jax.inference import Classes, Classifiers, Segmenters, class_probabilities, malignant_probability
from segfusion_jax.input import decode
from segfusion_jax.input.augment import augment
from segfusion_jax.input.loader import Examples
from segfusion_jax.input.mask_store import MaskStore
from segfusion_jax.parallel import make_devices
from segfusion_jax.stages.classify import examples, held_out
from segfusion_jax.stages.workdir import (
    classifier_folders,
    classifier_rows,
    classifier_weights,
    fold_folder,
    load_classes,
    load_prepared,
    unet_weights,
)
from segfusion_jax.training import metric_log

Predicted = tuple[Row, float, np.ndarray]
"""A test image, its probability of 'malignant', and those of the classes, [classes]."""
CURVES = ("loss", "dice", "roc_auc")
"""Metrics of a training that are worth a curve."""


def evaluate(config: Config, workdir: pathlib.Path) -> None:
    """Writes `metrics.json`, `predictions.csv`, `segmentation.csv` and `figures/*.png` in `evaluation/`.

    The classifier's threshold is the best on the split 'validation'. Masks are compared at the annotations' own size.
    """
    devices = make_devices(config.parallel)
    prepared, masks = load_prepared(config, workdir), MaskStore(workdir / "masks")
    classes = load_classes(config, workdir)
    classifiers = Classifiers(config, devices, classifier_weights(config, workdir), classes)
    validation = [
        prediction
        for number, rows in held_out(config, prepared)
        for prediction in _predict(classifiers, examples(config, prepared, masks, rows), [number])
    ]
    threshold = classification.choose_threshold(*_scores(validation, classes))
    test = examples(config, prepared, masks, classifier_rows(prepared, config, "test"))
    predictions = _predict(classifiers, test, None)
    segmenters = Segmenters(config, devices, unet_weights(config, workdir))
    annotated = tuple(row for row in prepared.rows if row.split == "test" and row.has_mask)
    overlaps = _overlaps(segmenters, Examples(prepared, annotated, config.segmenter.image_size), config)
    panels = _overlay_panels(prepared, segmenters, overlaps, config)
    if not devices.is_lead:  # from here on nothing is predicted, which all processes must do together
        return
    folder = workdir / "evaluation"
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    metrics = {
        "segmentation": _segmentation_metrics(overlaps),
        "classification": _classification_metrics(predictions, classes, threshold),
    }
    if classes.num_logits > 1:
        metrics |= _diagnosis_metrics(predictions, classes)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    _write_predictions(folder / "predictions.csv", predictions, classes)
    names = ("dice", "jaccard", "thresholded_jaccard", "sensitivity", "specificity", "accuracy")
    rows = ((row.image_id, row.group, *(f"{scores[name]:.6f}" for name in names)) for row, scores in overlaps)
    _write_csv(folder / "segmentation.csv", ("image_id", "group", *names), rows)
    _draw_scores(folder / "figures", *_scores(predictions, classes), threshold, classes.sides)
    _draw_training(folder / "figures", config, workdir)
    if panels:
        plots.segmentation_overlays(folder / "figures" / "segmentation_overlays.png", panels)
    _draw_bridge(folder / "figures", test, config, classes)
    train = examples(config, prepared, masks, classifier_rows(prepared, config, "train"), reduced=True)
    _draw_augmentation(folder / "figures", train, config)
    logging.info("evaluate: %d classified and %d segmented test images", len(predictions), len(overlaps))


def metrics_table(workdir: pathlib.Path) -> str:
    """The metrics of a finished run as text."""
    metrics = json.loads((workdir / "evaluation" / "metrics.json").read_text())
    metrics.pop("confusion", None)
    return table(metrics)


def _predict(classifiers: Classifiers, source: Examples, members: Sequence[int] | None) -> list[Predicted]:
    classes = classifiers.classes
    return [
        (row, float(malignant_probability(logits, classes)), class_probabilities(logits))
        for row, logits in classifiers.predict(source, members)
    ]


def _scores(predictions: Iterable[Predicted], classes: Classes) -> tuple[np.ndarray, np.ndarray]:
    """Whether each image is malignant, [n] int, and the probabilities of it, [n]."""
    rows, probabilities, _ = zip(*predictions, strict=True)
    return np.array([int(classes.positive[row.target]) for row in rows]), np.array(probabilities)


def _overlaps(segmenters: Segmenters, source: Examples, config: Config) -> list[tuple[Row, dict[str, float]]]:
    overlaps = []
    for row, probability in segmenters.predict(source):
        _, annotation = decode.read(source.records, row)
        assert annotation is not None  # of rows that have a mask
        overlaps.append((row, segmentation.overlap(_lesion(probability, annotation.shape, config), annotation > 128)))
    return overlaps


def _lesion(probability: np.ndarray, size: tuple[int, ...], config: Config) -> np.ndarray:
    """Lesion probability at the network's resolution to a mask of `size`."""
    return decode.resize(probability, (size[0], size[1])) >= config.bridge.threshold


def _segmentation_metrics(overlaps: Sequence[tuple[Row, dict[str, float]]]) -> dict[str, dict[str, float]]:
    if not overlaps:
        return {}
    rows, per_image = zip(*overlaps, strict=True)
    statistics = bootstrap.segmentation_statistics(per_image)
    return _with_intervals(segmentation.summarise(per_image), statistics, rows)


def _classification_metrics(
    predictions: Sequence[Predicted], classes: Classes, threshold: float
) -> dict[str, dict[str, float]]:
    labels, probabilities = _scores(predictions, classes)
    statistics = bootstrap.classification_statistics(labels, probabilities, threshold)
    values = classification.metrics(labels, probabilities, threshold)
    return _with_intervals(values, statistics, [row for row, *_ in predictions])


def _diagnosis_metrics(predictions: Sequence[Predicted], classes: Classes) -> dict[str, dict]:
    """Of the most probable class: `diagnosis`, and `confusion`, images by their class and the one they are given."""
    rows, _, probabilities = zip(*predictions, strict=True)
    targets, decisions = np.array([row.target for row in rows]), np.argmax(probabilities, axis=1)
    recall = bootstrap.macro_recall(targets, decisions)
    values = {"balanced_accuracy": recall(np.ones(len(rows))), "n": float(len(rows))}
    counts = confusion_matrix(targets, decisions, labels=range(len(classes.names))).tolist()
    return {
        "diagnosis": _with_intervals(values, {"balanced_accuracy": recall}, rows),
        "confusion": {
            name: dict(zip(classes.names, row, strict=True)) for name, row in zip(classes.names, counts, strict=True)
        },
    }


def _with_intervals(values: dict, statistics: dict, rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    groups = [row.group for row in rows]
    entries = {name: {"value": value} for name, value in values.items()}
    for name, statistic in statistics.items():
        low, high = bootstrap.interval(statistic, groups)
        entries[name] |= {"low": low, "high": high}
    return entries


def _write_predictions(path: pathlib.Path, predictions: Sequence[Predicted], classes: Classes) -> None:
    """`label` is 1 where `probability` should be high; with more than one logit, then the diagnosis and each class."""
    columns = ["image_id", "group", "label", "probability"]
    lines = [
        [row.image_id, row.group, int(classes.positive[row.target]), repr(probability)]
        for row, probability, _ in predictions
    ]
    if classes.num_logits > 1:
        columns += ["diagnosis", *classes.names]
        for line, (row, _, probabilities) in zip(lines, predictions, strict=True):
            line += [classes.names[row.target], *map(repr, probabilities.tolist())]
    _write_csv(path, columns, lines)


def _write_csv(path: pathlib.Path, columns: Sequence[str], rows: Iterable[Sequence]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([columns, *rows])


def _draw_scores(
    folder: pathlib.Path, labels: np.ndarray, probabilities: np.ndarray, threshold: float, names: tuple[str, str]
) -> None:
    plots.roc_curve(folder / "roc_curve.png", labels, probabilities, threshold)
    plots.pr_curve(folder / "pr_curve.png", labels, probabilities, threshold)
    plots.confusion_matrix(folder / "confusion_matrix.png", labels, probabilities >= threshold, names)
    plots.probability_histogram(folder / "probabilities.png", labels, probabilities, threshold, names)


def _draw_training(folder: pathlib.Path, config: Config, workdir: pathlib.Path) -> None:
    trainings = {f"unet_{fold}": fold_folder(workdir, fold) for fold in range(config.splits.num_folds)}
    folders = classifier_folders(config, workdir)
    names = [f"classifier_{fold}" for fold in range(len(folders))] if len(folders) > 1 else ["classifier"]
    trainings |= {name: source / "all" for name, source in zip(names, folders, strict=True)}
    for name, source in trainings.items():
        history = [
            {key: line[key] for key in ("step", "epoch", "split", *CURVES) if key in line}
            for line in metric_log.read(source / "metrics.jsonl")
        ]
        plots.training_curves(folder / f"training_curves_{name}.png", history)


def _overlay_panels(
    prepared: Prepared, segmenters: Segmenters, overlaps: Sequence[tuple[Row, dict[str, float]]], config: Config
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, str]]:
    """Image, annotation, prediction and title of the worst four, and of eight from the worst to the best."""
    ordered = sorted(overlaps, key=lambda pair: pair[1]["dice"])
    places = {*range(min(4, len(ordered))), *np.linspace(0, len(ordered) - 1, 8).astype(int)} if ordered else set()
    chosen = [ordered[place] for place in sorted(places)]
    source = Examples(prepared, tuple(row for row, _ in chosen), config.segmenter.image_size)
    panels = []
    for (row, probability), (_, scores) in zip(segmenters.predict(source), chosen, strict=True):
        image, mask = decode.read(prepared, row)
        assert mask is not None
        annotation = decode.resize(mask, (image.shape[0], image.shape[1])) > 128
        prediction = _lesion(probability, image.shape, config)
        panels.append((image, annotation, prediction, f"{row.image_id}, Dice {scores['dice']:.2f}"))
    return panels


def _draw_bridge(folder: pathlib.Path, test: Examples, config: Config, classes: Classes) -> None:
    """Three malignant and three benign test images."""
    labels = [classes.positive[row.target] for row in test.rows]
    by_label = ([i for i, label in enumerate(labels) if label == wanted][:3] for wanted in (True, False))
    panels = []
    for index in (index for indices in by_label for index in indices):
        example = test[index]
        bridged = bridging.apply(example["image"] / 255.0, example["mask"] / 255.0, config.bridge)
        title = f"{test.rows[index].image_id}\n{classes.names[test.rows[index].target]}"
        panels.append(
            (example["image"], example["mask"][..., 0], np.round(255 * bridged[..., :3]).astype(np.uint8), title)
        )
    plots.bridge_panels(folder / "bridge_panels.png", panels)


def _draw_augmentation(folder: pathlib.Path, train: Examples, config: Config) -> None:
    """Three training images, each as it is and five times augmented."""
    rng = np.random.default_rng(config.seed)
    sheet = []
    for index in range(min(3, len(train))):
        image, mask = train[index]["image"], train[index]["mask"][..., 0]
        copies = [augment(image, mask, config.classifier.augmentation, rng) for _ in range(5)]
        sheet.append([(image, mask), *copies])
    plots.augmentation_sheet(folder / "augmentation.png", sheet)
