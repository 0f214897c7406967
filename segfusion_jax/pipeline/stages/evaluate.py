"""Stage 6: the models on held-out groups, by which nothing before was fitted or chosen."""

import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from segfusion_jax.config import Config
from segfusion_jax.evaluation import bootstrap, calibration, classification, explanation, sections, subgroups, weighted
from segfusion_jax.input.mask_store import MaskRow, MaskStore
from segfusion_jax.pipeline.stages import figures, novelty
from segfusion_jax.pipeline.stages.classify import examples, training_rows
from segfusion_jax.pipeline.stages.predicted import Predicted, predict, predict_validation
from segfusion_jax.pipeline.stages.score import Overlaps, load_overlaps, write_overlaps
from segfusion_jax.pipeline.workdir import (
    classifier_rows,
    classifier_weights,
    load_classes,
    load_prepared,
    unet_weights,
)
from segfusion_jax.report import plots, text
from segfusion_jax.runtime.atomic import write_table
from segfusion_jax.runtime.devices import make_devices
from segfusion_jax.serving.ensembles import ClassifierEnsemble, SegmenterEnsemble
from segfusion_jax.serving.segfusion import NOVELTY

LEVELS = (0.8, 0.9, 0.95)
"""Sensitivities and specificities at which the model is judged too."""


def evaluate(config: Config, workdir: pathlib.Path) -> None:
    """Writes `metrics.json`, tables of predictions, `novelty.safetensors` and `figures/` in `evaluation/`.

    The tables are `predictions.csv`, `validation.csv` and `segmentation.csv`. Temperature, thresholds and the limit of
    what is familiar are fitted on the images that chose the classifiers' weights.
    """
    devices = make_devices(config.parallel)
    prepared, masks = load_prepared(config, workdir), MaskStore(workdir / "masks")
    classifiers = ClassifierEnsemble(
        config, devices, classifier_weights(config, workdir), load_classes(config, workdir)
    )
    validation = predict_validation(config, prepared, masks, classifiers)
    source = examples(config, prepared, masks, classifier_rows(prepared, config, "test"))
    test = predict(classifiers, source, validation)
    evidence = [evidence for _, evidence in classifiers.explain(source)]
    familiar = novelty.fit(config, prepared, classifiers)
    novelties = novelty.score(prepared, classifiers, familiar, test.rows)
    segmenters = SegmenterEnsemble(config, devices, unet_weights(config, workdir))
    overlaps = load_overlaps(prepared, workdir)
    overlays = figures.overlays(config, prepared, segmenters, overlaps)
    if not devices.is_lead:  # from here on nothing is predicted, which all processes must do together
        return
    folder = workdir / "evaluation"
    folder.mkdir(parents=True, exist_ok=True)
    shares = [
        explanation.inside_share(one, figures.lesion(source[place], config)) for place, one in enumerate(evidence)
    ]
    fallbacks = {row.image_id: row for row in masks.rows}
    threshold = classification.choose_threshold(validation.labels, validation.malignancy)
    metrics = _classification(config, validation, test, threshold) | {
        "validation": _validation(config, validation),
        "segmentation": _segmentation(config, overlaps),
        "subgroups": _subgroups(config, test, threshold, fallbacks, overlaps),
        "explanation": _explanation(config, test, shares, places=evidence[0].size),
        "novelty": novelty.metrics(novelties, test.groups, resamples=config.evaluation.resamples),
    }
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    familiar.save(folder / NOVELTY)
    _write_predictions(folder / "validation.csv", validation, fallbacks)
    _write_predictions(folder / "predictions.csv", test, fallbacks)
    write_overlaps(folder / "segmentation.csv", overlaps)
    drawings = folder / "figures"
    figures.draw_scores(drawings, test, threshold, metrics["subgroups"], resamples=config.evaluation.resamples)
    figures.draw_training(drawings, config, workdir)
    for name, panels in overlays.items():
        plots.segmentation_overlays(drawings / f"overlays_{name}.png", panels)
    figures.draw_bridge(drawings, config, test, source)
    figures.draw_missed(drawings, config, test, source, threshold)
    figures.draw_evidence(drawings, config, test, source, evidence=evidence, shares=shares)
    figures.draw_augmentation(drawings, config, examples(config, prepared, masks, training_rows(config, prepared)[0]))
    logging.info("evaluate: %d classified and %d segmented test images", len(test.rows), len(overlaps))


def metrics_table(workdir: pathlib.Path) -> str:
    """The metrics of a finished run as text."""
    metrics = json.loads((workdir / "evaluation" / "metrics.json").read_text())
    sections = ("classification", "diagnosis", "diagnosis_equal_shares", "segmentation")
    return text.table({name: metrics[name] for name in sections if metrics.get(name)})


def _classification(config: Config, validation: Predicted, test: Predicted, threshold: float) -> dict[str, Any]:
    labels, probabilities, groups = test.labels, test.malignancy, test.groups
    resamples = config.evaluation.resamples
    before = sections.classification(labels, test.uncalibrated, groups, 0.5, resamples=resamples)
    low, high = calibration.calibrated_ece(probabilities, groups)
    metrics: dict[str, Any] = {
        "classification": sections.classification(labels, probabilities, groups, threshold, resamples=resamples),
        "uncalibrated": {name: before[name] for name in ("brier", "log_loss", "ece")},
        "calibration": {
            "temperature": test.calibration.temperature,
            "shift": list(test.calibration.shift),
            "fitted_on": len(validation.rows),
            "prevalence": test.prevalence,
            "shares": dict(zip(test.classes.names, test.shares, strict=True)),
            "ece_by_chance": {"low": low, "high": high},
        },
        "operating_points": [_operating_point(config, aim, level, validation, test) for aim, level in _aims()],
    }
    if test.classes.num_logits > 1:
        names = test.classes.names
        metrics |= sections.diagnosis(test.targets, test.of_classes, names, test.shares, groups, resamples=resamples)
    return metrics


def _aims() -> Iterable[tuple[str, float]]:
    return ((aim, level) for aim in ("sensitivity", "specificity") for level in LEVELS)


def _operating_point(config: Config, aim: str, level: float, validation: Predicted, test: Predicted) -> dict[str, Any]:
    choose = {
        "sensitivity": classification.threshold_for_sensitivity,
        "specificity": classification.threshold_for_specificity,
    }[aim]
    threshold = choose(validation.labels, validation.malignancy, level)
    section = sections.operating_point(
        test.labels, test.malignancy, test.groups, threshold, resamples=config.evaluation.resamples
    )
    return {"aim": aim, "level": level, "threshold": threshold} | section


def _segmentation(config: Config, overlaps: Overlaps) -> dict[str, Any]:
    if not overlaps:
        return {}
    rows, per_image = zip(*overlaps, strict=True)
    return sections.segmentation(per_image, [row.group for row in rows], resamples=config.evaluation.resamples)


def _subgroups(
    config: Config, test: Predicted, threshold: float, fallbacks: Mapping[str, MaskRow], overlaps: Overlaps
) -> list[dict]:
    facts = {
        "sex": [row.sex for row in test.rows],
        "age": [subgroups.age_band(row.age) for row in test.rows],
        "site": [row.site for row in test.rows],
        "skin tone": [row.skin_tone for row in test.rows],
        "collection": [row.source for row in test.rows],
        "origin": [row.origin for row in test.rows],
        "confirmation": [row.confirmation for row in test.rows],
        "image size": [subgroups.size_band(row.width, row.height) for row in test.rows],
        "mask": [
            f"whole image ({reason})" if (reason := fallbacks[row.image_id].fallback) else "lesion" for row in test.rows
        ],
    }
    scores = {row.image_id: score for row, score in overlaps}
    return subgroups.by_subgroup(
        facts,
        test.labels,
        test.malignancy,
        threshold,
        test.groups,
        min_size=config.evaluation.min_subgroup,
        resamples=config.evaluation.resamples,
        per_image=[scores.get(row.image_id) for row in test.rows],
    )


def _validation(config: Config, validation: Predicted) -> dict[str, Any]:
    """What was promised on the images that chose weights and thresholds."""
    areas = weighted.roc_auc(validation.labels, validation.malignancy)
    value = {"roc_auc": float(areas(np.ones((1, len(validation.rows))))[0]), "n": float(len(validation.rows))}
    return _entries(config, value, {"roc_auc": areas}, validation.groups)


def _explanation(
    config: Config, test: Predicted, shares: Sequence[tuple[float, float]], *, places: int
) -> dict[str, Any]:
    """Means over the images that have evidence at all."""
    told = [(share, area, row) for (share, area), row in zip(shares, test.rows, strict=True) if not np.isnan(share)]
    if not told:
        return {}
    inside, area, rows = zip(*told, strict=True)
    columns = {"inside_share": np.array(inside), "area_share": np.array(area)}
    columns["excess"] = columns["inside_share"] - columns["area_share"]
    values = {name: float(column.mean()) for name, column in columns.items()}
    values |= {"n": float(len(rows)), "places": float(places)}
    statistics = {name: weighted.mean(column) for name, column in columns.items()}
    return _entries(config, values, statistics, [row.group for row in rows])


def _entries(config: Config, values: dict, statistics: dict, groups: Sequence[str]) -> dict[str, Any]:
    return bootstrap.entries(values, statistics, groups, resamples=config.evaluation.resamples)


def _write_predictions(path: pathlib.Path, predicted: Predicted, fallbacks: Mapping[str, MaskRow]) -> None:
    """`label` is 1 where `probability` should be high; with more than one logit, then the diagnosis and each class."""
    classes = predicted.classes
    many = classes.num_logits > 1
    names = classes.names if many else classes.names[1:]
    columns = ["image_id", "group", "label", "probability", "fallback", *(f"logit of {name}" for name in names)]
    lines = [
        [row.image_id, row.group, int(label), repr(float(probability)), fallbacks[row.image_id].fallback]
        + [repr(float(logit)) for logit in logits]
        for row, label, probability, logits in zip(
            predicted.rows, predicted.labels, predicted.malignancy, predicted.logits, strict=True
        )
    ]
    if many:
        columns += ["diagnosis", *classes.names]
        for line, row, probabilities in zip(lines, predicted.rows, predicted.of_classes, strict=True):
            line += [classes.names[row.target], *map(repr, probabilities.tolist())]
    write_table(path, columns, lines)
