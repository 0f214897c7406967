"""`segfusion evaluate`: a released model on a collection that it was not trained on."""

import argparse
import collections
import dataclasses
import itertools
import json
import logging
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from segfusion_jax.bridge.levels import to_levels
from segfusion_jax.config import Data
from segfusion_jax.datasets import taxonomy
from segfusion_jax.datasets.classes import judged_of, places
from segfusion_jax.datasets.collections import READERS
from segfusion_jax.datasets.prepared import Prepared, load_dataset
from segfusion_jax.datasets.table import Row
from segfusion_jax.datasets.unseen import unseen
from segfusion_jax.evaluation import calibration, sections
from segfusion_jax.input.examples import Examples
from segfusion_jax.input.mask_store import MaskStore, write
from segfusion_jax.pipeline.stages import novelty
from segfusion_jax.pipeline.stages.bridge import stored
from segfusion_jax.pipeline.stages.metrics import of_masks
from segfusion_jax.pipeline.stages.score import Overlaps, overlap
from segfusion_jax.pipeline.stages.score import table as table_of_scores
from segfusion_jax.report import text
from segfusion_jax.runtime import caches
from segfusion_jax.runtime.atomic import write_table, write_text
from segfusion_jax.runtime.locks import locked_folder
from segfusion_jax.runtime.log import say
from segfusion_jax.runtime.progress import logged
from segfusion_jax.serving.ensembles import Classes, class_probabilities, malignant_probability
from segfusion_jax.serving.model_folder import Metadata
from segfusion_jax.serving.segfusion import SegFusion, finite

_log = logging.getLogger(__name__)

_SHOWN = ("classification", "melanoma", "diagnosis", "diagnosis_equal_shares", "segmentation")


@dataclasses.dataclass(frozen=True)
class _Classified:
    """Labelled images and what the model says of them.

    Attributes:
      rows: the images.
      probabilities: [n] of what counts as malignant to the model, calibrated.
      of_classes: [n, classes], calibrated.
      sides: [n] 1 where the probability should be high, 0 where it should be low, -1 where the label does not say.
      targets: [n] number of each image's diagnosis among the model's classes, -1 where it is none of them.
      melanomas: [n] 1 for a melanoma, 0 for what is none, -1 where the label, or the model's classes, do not say.
    """

    rows: tuple[Row, ...]
    probabilities: np.ndarray
    of_classes: np.ndarray
    sides: np.ndarray
    targets: np.ndarray
    melanomas: np.ndarray

    @property
    def groups(self) -> list[str]:
        """The groups of images that are not independent of each other."""
        return [row.group for row in self.rows]


def run(arguments: argparse.Namespace) -> int:
    """Judges the model that `arguments` name; returns 0.

    Raises:
      FileNotFoundError: no model, a model that does not say what it was trained on, or no collection.
      ValueError: the model has seen all of the collection, or there is nothing to judge it by; or an option is none.
    """
    if arguments.resamples < 1:
        raise ValueError(f"--resamples = {arguments.resamples}: must be at least 1")
    if arguments.output.exists() and not arguments.output.is_dir():
        raise ValueError(f"--output = {arguments.output}: is no folder")
    model = SegFusion.load(arguments.model)
    assert model.folder is not None  # where it was loaded from
    parts = model.folder.read_parts()
    data = _data(model, arguments)
    prepared = load_dataset(**vars(data))
    rows, left_out = unseen([row for row in prepared.rows if row.split != "unused"], parts)  # unused are duplicates
    title = READERS[data.collection].TITLE
    told = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "none"
    if left_out:
        many = f"{sum(left_out.values())} of {sum(left_out.values()) + len(rows)} images of {title}"
        _log.warning("%s are left out, since the model was trained on or chosen by them: %s", many, told)
    rows = tuple(dataclasses.replace(row, split="test", fold=-1) for row in rows)
    if not any(row.has_mask or row.target >= 0 for row in rows):
        raise ValueError(f"{title}: no image with a label or a mask is left to judge the model by (left out: {told})")
    with tempfile.TemporaryDirectory() as scratch:
        overlaps = _segmented(model, prepared, rows, pathlib.Path(scratch))
        masks = MaskStore(pathlib.Path(scratch))
        classified = _classified(model, prepared, masks, tuple(row for row in rows if row.target >= 0), data)
    metrics = {
        "collection": data.collection,
        "target": _target(model, classified),
        "model": model.folder.digest,
        "model_files": dict(model.folder.files),
        "left_out": left_out,
    }
    metrics |= _metrics(model, classified, overlaps, model.folder.metadata, resamples=arguments.resamples)
    novelties = novelty.score(prepared, model.classifiers, model.familiarity, rows)
    groups = [row.group for row in rows]
    metrics["novelty"] = novelty.metrics(novelties, groups, resamples=arguments.resamples)
    with locked_folder(arguments.output, what=f"evaluates into {arguments.output}"):
        write_text(arguments.output / "metrics.json", json.dumps(metrics, indent=2) + "\n")
        _write_predictions(arguments.output / "predictions.csv", model, classified, masks)
        write_table(arguments.output / "segmentation.csv", *table_of_scores(overlaps))
    say(_summary(title, metrics, rows, classified))
    say(f"\n{arguments.output / 'metrics.json'}\nResearch use only: not a medical device.")
    if not arguments.records and caches.is_temporary(caches.folder()):
        say("The checked images were not kept: name a folder for them as --records, or a cache as XDG_CACHE_HOME.")
    return 0


def _data(model: SegFusion, arguments: argparse.Namespace) -> Data:
    """Returns a config that prepares images like those that the model was trained on; labels say whether they are
    malignant.
    """
    target = "malignant" if model.config.data.target == "diagnosis" else model.config.data.target
    return dataclasses.replace(
        model.config.data,
        collection=arguments.collection,
        root=arguments.root,
        labels=arguments.labels,
        group=arguments.group,
        records=arguments.records,
        collections={},
        on_error="skip",
        target=target,
    )


def _segmented(model: SegFusion, prepared: Prepared, rows: tuple[Row, ...], folder: pathlib.Path) -> Overlaps:
    """Writes the masks of all images; returns the scores of those that are annotated."""
    config, overlaps = model.config, []

    def masks():
        source = Examples(prepared, rows, config.segmenter.image_size)
        for row, probability in logged(model.segmenters.predict(source), total=len(rows), what="segmented"):
            finite(probability, "lesion probability", row.image_id)
            if row.has_mask:
                overlaps.append((row, overlap(prepared, row, probability, config.bridge.threshold)))
            yield stored(row, to_levels(probability), "all", config.bridge)

    write(folder, masks())
    return overlaps


def _classified(
    model: SegFusion, prepared: Prepared, masks: MaskStore, rows: tuple[Row, ...], data: Data
) -> _Classified:
    classes = model.classifiers.classes
    source = Examples(prepared, rows, model.config.classifier.image_size, masks, model.config.bridge)
    found = model.classifiers.predict(source)
    told = logged(found, total=len(rows), what="classified")
    logits = [finite(logits, "logit", row.image_id) for row, logits in told]
    calibrated = model.calibration.apply(np.array(logits).reshape(len(rows), classes.num_logits))
    labels = _binary(rows) if classes.num_logits == 1 else _among(rows, classes, data)
    return _Classified(rows, malignant_probability(calibrated, classes), class_probabilities(calibrated), *labels)


def _binary(rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns sides, targets and melanomas, as in `_Classified`, for a model of two sides."""
    sides = np.array([row.target for row in rows], np.int64)
    return sides, sides, np.full(len(rows), -1)


def _among(rows: Sequence[Row], classes: Classes, data: Data) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns sides, targets and melanomas, as in `_Classified`, for a model of diagnoses.

    A lesion that can be none of the classes still has the side that its collection says, if its label says one.
    """
    cases = [(row.diagnosis, row.malignant) for row in rows]
    targets, told = places(cases, classes.names, dataclasses.replace(data, target="diagnosis"))
    judged = dataclasses.replace(classes, coarse=told.coarse).judged
    melanomas = judged_of(told, "melanoma") if "melanoma" in classes.names else (-1,) * len(judged)
    sides = [
        judged[target] if target >= 0 else -1 if taxonomy.side(taxonomy.label(*case)) < 0 else row.target
        for row, case, target in zip(rows, cases, targets, strict=True)
    ]
    others = [-1 if "melanoma" in taxonomy.below(taxonomy.label(*case)) else 0 for case in cases]
    return (
        np.array(sides, np.int64),
        np.array([target if target < len(classes.names) else -1 for target in targets], np.int64),
        np.array([melanomas[target] if target >= 0 else other for target, other in zip(targets, others, strict=True)]),
    )


def _metrics(
    model: SegFusion, classified: _Classified, overlaps: Overlaps, stated: Metadata, *, resamples: int
) -> dict[str, Any]:
    """Returns what can be measured: decisions with labels of both kinds, diagnoses with classes that are shared."""
    metrics: dict[str, Any] = {}
    sides = set(classified.sides.tolist()) - {-1}
    if len(sides) == 2:
        metrics |= _decisions(model, classified, stated, resamples=resamples)
    elif len(classified.sides):
        only = {(1,): "malignant", (0,): "benign", (): "of an unknown side"}[tuple(sides)]
        _log.warning("all labelled images are %s: decisions cannot be judged", only)
    if model.classifiers.classes.num_logits > 1:
        metrics |= _melanoma(model, classified, resamples=resamples)
        metrics |= _diagnoses(model, classified, stated, resamples=resamples)
    if overlaps:
        metrics["segmentation"] = of_masks(overlaps, resamples=resamples)
    return metrics


def _decisions(model: SegFusion, classified: _Classified, stated: Metadata, *, resamples: int) -> dict[str, Any]:
    said = classified.sides >= 0
    labels, probabilities = classified.sides[said] == 1, classified.probabilities[said]
    groups = list(itertools.compress(classified.groups, said))
    low, high = calibration.calibrated_ece(probabilities, groups)
    return {
        "classification": sections.classification(labels, probabilities, groups, model.threshold, resamples=resamples),
        "calibration": {"ece_by_chance": {"low": low, "high": high}},
        "operating_points": [
            point | sections.operating_point(labels, probabilities, groups, point["threshold"], resamples=resamples)
            for point in stated.operating_points
        ],
    }


def _melanoma(model: SegFusion, classified: _Classified, *, resamples: int) -> dict[str, Any]:
    """Returns how well the probability of melanoma ranks, of the images whose label says whether they are one."""
    said = classified.melanomas >= 0
    labels = classified.melanomas[said] == 1
    if len(set(labels.tolist())) < 2:
        return {}
    own = classified.of_classes[said, model.classes.index("melanoma")]
    groups = list(itertools.compress(classified.groups, said))
    return {"melanoma": sections.ranking(labels, own, groups, resamples=resamples)}


def _diagnoses(model: SegFusion, classified: _Classified, stated: Metadata, *, resamples: int) -> dict[str, Any]:
    """Returns the metrics over the images whose diagnosis is one of the model's."""
    known = classified.targets >= 0
    if len(set(classified.targets[known].tolist())) < 2:
        return {}
    return sections.diagnosis(
        classified.targets[known],
        classified.of_classes[known],
        model.classes,
        list(stated.shares),
        list(itertools.compress(classified.groups, known)),
        resamples=resamples,
    )


def _target(model: SegFusion, classified: _Classified) -> dict[str, dict[str, int]]:
    """Returns what the labels call by each of the two names, by diagnosis; and, where there is such, "neither"."""
    names = dict(enumerate(model.classifiers.classes.binary_names)) | {-1: "neither"}
    counts = {name: collections.Counter() for name in names.values()}
    for row, side in zip(classified.rows, classified.sides.tolist(), strict=True):
        counts[names[side]][row.diagnosis or "not named"] += 1
    return {name: dict(count.most_common()) for name, count in counts.items() if count or name != "neither"}


def _summary(title: str, metrics: dict[str, Any], rows: Sequence[Row], classified: _Classified) -> str:
    lines = [f"{title}: {len(rows):,} images in {len({row.group for row in rows}):,} groups"]
    if metrics["left_out"]:
        lines.append(f"{sum(metrics['left_out'].values()):,} more were left out: the model has seen them or relatives")
    for name, counts in metrics["target"].items() if classified.rows else ():
        told = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        lines.append(f"called {name} by the labels: {told or 'none'}")
    if "melanoma" in metrics:
        many = int(metrics["melanoma"]["n"]["value"])
        lines.append(f"melanoma: by its own probability, of {many:,} images whose label says whether they are one")
    if "diagnosis" in metrics:
        lines.append(f"diagnoses: of the {int(metrics['diagnosis']['n']['value']):,} images of the model's classes")
    flagged = metrics["novelty"]["flagged"]
    interval = f"{flagged['low']:.1%} to {flagged['high']:.1%}" if "low" in flagged else "no interval"
    told = f"{flagged['value']:.1%} ({interval})"
    lines.append(f"unlike the model's training images: {told}")
    shown = {name: metrics[name] for name in _SHOWN if metrics.get(name)}
    return "\n".join([*lines, "", text.table(shown)])


def _write_predictions(path: pathlib.Path, model: SegFusion, classified: _Classified, masks: MaskStore) -> None:
    fallbacks = {row.image_id: row.fallback for row in masks.rows}
    columns = ["image_id", "group", "label", "probability", "decision", "fallback", "diagnosis"]
    lines = [
        [row.image_id, row.group, "" if side < 0 else side, repr(float(probability))]
        + [int(probability >= model.threshold)]
        + [fallbacks[row.image_id], row.diagnosis, *map(repr, of_classes.tolist())]
        for row, side, probability, of_classes in zip(
            classified.rows, classified.sides.tolist(), classified.probabilities, classified.of_classes, strict=True
        )
    ]
    write_table(path, [*columns, *(f"probability of {name}" for name in model.classes)], lines)
