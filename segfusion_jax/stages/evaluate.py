"""Stage 5: the models on held-out groups, which nothing before has looked at."""

import csv
import json
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
from absl import logging

from segfusion_jax import bridge as bridging
from segfusion_jax.config import Config
from segfusion_jax.datasets.prepared import Prepared
from segfusion_jax.datasets.table import Row
from segfusion_jax.evaluation import bootstrap, classification, plots, segmentation
from segfusion_jax.evaluation.report import table
from segfusion_jax.inference import Classifier, Segmenters
from segfusion_jax.input import decode
from segfusion_jax.input.augment import augment
from segfusion_jax.input.loader import Examples
from segfusion_jax.input.mask_store import MaskStore
from segfusion_jax.parallel import make_devices
from segfusion_jax.stages.classify import examples
from segfusion_jax.stages.workdir import classifier_weights, fold_folder, load_prepared, unet_weights
from segfusion_jax.training import metric_log

CURVES = ("loss", "dice", "roc_auc")
"""Metrics of a training that are worth a curve."""


def evaluate(config: Config, workdir: pathlib.Path) -> None:
    """Writes `metrics.json`, `predictions.csv`, `segmentation.csv` and `figures/*.png` in `evaluation/`.

    The classifier's threshold is the best on the split 'validation'. Masks are compared at the annotations' own size.
    """
    devices = make_devices(config.parallel)
    prepared, masks = load_prepared(config, workdir), MaskStore(workdir / "masks")
    classifier = Classifier(config, devices, classifier_weights(workdir))
    threshold = classification.choose_threshold(
        *_scores(classifier.predict(examples(config, prepared, masks, "validation")))
    )
    test = examples(config, prepared, masks, "test")
    predictions = list(classifier.predict(test))
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
        "classification": _classification_metrics(predictions, threshold),
    }
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    rows = ((row.image_id, row.group, row.target, repr(probability)) for row, probability in predictions)
    _write_csv(folder / "predictions.csv", ("image_id", "group", "label", "probability"), rows)
    names = ("dice", "jaccard", "thresholded_jaccard", "sensitivity", "specificity", "accuracy")
    rows = ((row.image_id, row.group, *(f"{scores[name]:.6f}" for name in names)) for row, scores in overlaps)
    _write_csv(folder / "segmentation.csv", ("image_id", "group", *names), rows)
    _draw_scores(folder / "figures", predictions, threshold)
    _draw_training(folder / "figures", config, workdir)
    if panels:
        plots.segmentation_overlays(folder / "figures" / "segmentation_overlays.png", panels)
    _draw_bridge(folder / "figures", test, config)
    _draw_augmentation(folder / "figures", examples(config, prepared, masks, "train"), config)
    logging.info("evaluate: %d classified and %d segmented test images", len(predictions), len(overlaps))


def metrics_table(workdir: pathlib.Path) -> str:
    """The metrics of a finished run as text."""
    return table(json.loads((workdir / "evaluation" / "metrics.json").read_text()))


def _scores(predictions: Iterable[tuple[Row, float]]) -> tuple[np.ndarray, np.ndarray]:
    rows, probabilities = zip(*predictions, strict=True)
    return np.array([row.target for row in rows]), np.array(probabilities)


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


def _classification_metrics(predictions: Sequence[tuple[Row, float]], threshold: float) -> dict[str, dict[str, float]]:
    labels, probabilities = _scores(predictions)
    statistics = bootstrap.classification_statistics(labels, probabilities, threshold)
    values = classification.metrics(labels, probabilities, threshold)
    return _with_intervals(values, statistics, [row for row, _ in predictions])


def _with_intervals(values: dict, statistics: dict, rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    groups = [row.group for row in rows]
    entries = {name: {"value": value} for name, value in values.items()}
    for name, statistic in statistics.items():
        low, high = bootstrap.interval(statistic, groups)
        entries[name] |= {"low": low, "high": high}
    return entries


def _write_csv(path: pathlib.Path, columns: Sequence[str], rows: Iterable[Sequence]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([columns, *rows])


def _draw_scores(folder: pathlib.Path, predictions: Sequence[tuple[Row, float]], threshold: float) -> None:
    labels, probabilities = _scores(predictions)
    plots.roc_curve(folder / "roc_curve.png", labels, probabilities, threshold)
    plots.pr_curve(folder / "pr_curve.png", labels, probabilities, threshold)
    plots.confusion_matrix(folder / "confusion_matrix.png", labels, probabilities >= threshold)
    plots.probability_histogram(folder / "probabilities.png", labels, probabilities, threshold)


def _draw_training(folder: pathlib.Path, config: Config, workdir: pathlib.Path) -> None:
    trainings = {f"unet_{fold}": fold_folder(workdir, fold) for fold in range(config.splits.num_folds)}
    trainings["classifier"] = workdir / "classification" / "all"
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


def _draw_bridge(folder: pathlib.Path, test: Examples, config: Config) -> None:
    """Three malignant and three benign test images."""
    by_label = ([i for i, row in enumerate(test.rows) if row.target == label][:3] for label in (1, 0))
    panels = []
    for index in (index for indices in by_label for index in indices):
        example = test[index]
        bridged = bridging.apply(example["image"] / 255.0, example["mask"] / 255.0, config.bridge)
        title = f"{test.rows[index].image_id}\n{('benign', 'malignant')[test.rows[index].target]}"
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
