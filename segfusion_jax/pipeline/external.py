"""A model on a collection that it was not trained on: what it says of each image, and what that is worth."""

import collections
import dataclasses
import itertools
import logging
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segfusion_jax.bridge.levels import to_levels
from segfusion_jax.config import Data
from segfusion_jax.datasets import taxonomy
from segfusion_jax.datasets.classes import judged_of, places
from segfusion_jax.datasets.prepared import Prepared, load_dataset
from segfusion_jax.datasets.table import Part, Row
from segfusion_jax.datasets.unseen import SEEN, unseen
from segfusion_jax.evaluation import calibration, sections
from segfusion_jax.input.examples import Examples
from segfusion_jax.input.mask_store import MaskRow, MaskStore, write
from segfusion_jax.pipeline.stages import figures, novelty
from segfusion_jax.pipeline.stages.bridge import stored
from segfusion_jax.pipeline.stages.metrics import of_masks, of_subgroups
from segfusion_jax.pipeline.stages.score import Overlaps, overlap
from segfusion_jax.runtime.progress import logged
from segfusion_jax.serving.ensembles import Classes, class_probabilities, malignant_probability
from segfusion_jax.serving.model_folder import Metadata
from segfusion_jax.serving.segfusion import SegFusion, finite

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Classified:
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

    @property
    def judged(self) -> "Classified":
        """The images whose label says which side they are of."""
        return self.where(self.sides >= 0)

    def where(self, chosen: np.ndarray) -> "Classified":
        """Returns these images without those that are not `chosen`, [n] bool."""
        arrays = {name: getattr(self, name)[chosen] for name in ("probabilities", "of_classes", "sides", "targets")}
        rows = tuple(itertools.compress(self.rows, chosen))
        return dataclasses.replace(self, rows=rows, melanomas=self.melanomas[chosen], **arrays)


@dataclasses.dataclass(frozen=True)
class External:
    """A collection as a model sees it that was not trained on it.

    Attributes:
      name: what its folder is called.
      title: what it is called.
      rows: its images, without those that the model has seen and their relatives.
      classified: those of them that are labelled.
      fallbacks: why the bridge took an image whole, or "", by image id.
      overlaps: annotated images and the scores of their masks.
      overlays: galleries of these by their names, as `figures.overlays` returns them.
      metrics: content of metrics.json.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    classified: Classified
    fallbacks: Mapping[str, str]
    overlaps: Overlaps
    overlays: Mapping[str, Sequence[figures.Overlay]]
    metrics: Mapping[str, Any]


def judge(
    model: SegFusion, name: str, title: str, data: Data, *, parts: Sequence[Part], resamples: int, galleries: bool
) -> External:
    """Judges a model by a collection.

    Args:
      model: loaded from its folder.
      name: what the folder of the collection is called.
      title: what the collection is called.
      data: config of how it is read, as `config_of` returns it.
      parts: what each of the model's own images was used for.
      resamples: number of resamples of the groups, for the intervals.
      galleries: whether pictures of the masks are wanted.

    Raises:
      FileNotFoundError: no such collection.
      ValueError: the model has seen all of it, or there is nothing to judge the model by.
    """
    assert model.folder is not None  # where it was loaded from
    prepared = load_dataset(**vars(data))
    rows, left_out = _unseen(title, prepared, parts)
    with tempfile.TemporaryDirectory() as scratch:
        overlaps = _segmented(model, prepared, rows, pathlib.Path(scratch))
        masks = MaskStore(pathlib.Path(scratch))
        classified = _classified(model, prepared, masks, tuple(row for row in rows if row.target >= 0), data)
        made = {row.image_id: row for row in masks.rows}
    metrics = {
        "collection": data.collection,
        "target": _target(model, classified),
        "model": model.folder.digest,
        "model_files": dict(model.folder.files),
        "left_out": left_out,
        "without_hash": sum(part.split in SEEN and not part.perceptual_hash for part in parts),
    }
    metrics |= measure(model, classified, overlaps, model.folder.metadata, made, resamples=resamples)
    novelties = novelty.score(prepared, model.classifiers, model.familiarity, rows)
    metrics["novelty"] = novelty.metrics(novelties, [row.group for row in rows], resamples=resamples)
    overlays = figures.overlays(overlaps, prepared, model.segmenters, model.config) if galleries else {}
    fallbacks = {image_id: row.fallback for image_id, row in made.items()}
    return External(name, title, rows, classified, fallbacks, overlaps, overlays, metrics)


def config_of(model: SegFusion, collection: str, **fields: Any) -> Data:
    """Returns a config that prepares images like those that the model was trained on; labels say whether they are
    malignant.

    Args:
      model: the model.
      collection: the collection.
      fields: other values of `root`, `labels`, `group` and `records`.

    Raises:
      ValueError: the model tells somebody's own classes apart, and the collection cannot have their labels.
    """
    if model.config.data.own_classes and collection != "image_folder":
        raise ValueError(
            f"--collection = {collection}: must be image_folder, whose labels may be those of the model, "
            f"{', '.join(model.classes)}"
        )
    target = "malignant" if model.config.data.target == "diagnosis" else model.config.data.target
    return dataclasses.replace(
        model.config.data, collection=collection, collections={}, on_error="skip", target=target, **fields
    )


def _unseen(title: str, prepared: Prepared, parts: Sequence[Part]) -> tuple[tuple[Row, ...], dict[str, int]]:
    """Returns the images that the model has not seen, and how many others there are, by reason."""
    rows, left_out = unseen([row for row in prepared.rows if row.split != "unused"], parts)  # unused are duplicates
    told = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "none"
    if left_out:
        many = f"{sum(left_out.values())} of {sum(left_out.values()) + len(rows)} images of {title}"
        _log.warning("%s are left out, since the model was trained on or chosen by them: %s", many, told)
    if not any(row.has_mask or row.target >= 0 for row in rows):
        raise ValueError(f"{title}: no image with a label or a mask is left to judge the model by (left out: {told})")
    return tuple(dataclasses.replace(row, split="test", fold=-1) for row in rows), left_out


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
) -> Classified:
    classes = model.classifiers.classes
    source = Examples(prepared, rows, model.config.classifier.image_size, masks, model.config.bridge)
    found = model.classifiers.predict(source)
    told = logged(found, total=len(rows), what="classified")
    logits = [finite(logits, "logit", row.image_id) for row, logits in told]
    calibrated = model.calibration.apply(np.array(logits).reshape(len(rows), classes.num_logits))
    labels = _binary(rows) if classes.num_logits == 1 else _among(rows, classes, data)
    return Classified(rows, malignant_probability(calibrated, classes), class_probabilities(calibrated), *labels)


def _binary(rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns sides, targets and melanomas, as in `Classified`, for a model of two sides."""
    sides = np.array([row.target for row in rows], np.int64)
    return sides, sides, np.full(len(rows), -1)


def _among(rows: Sequence[Row], classes: Classes, data: Data) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns sides, targets and melanomas, as in `Classified`, for a model of diagnoses.

    A lesion that can be none of the classes still has the side that its collection says, if its label says one.
    """
    cases = [(row.diagnosis, row.malignant) for row in rows]
    if classes.own:
        own = np.array(places(cases, classes.names, data)[0], np.int64)
        return classes.judged[own], own, np.full(len(rows), -1)
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


def measure(
    model: SegFusion,
    classified: Classified,
    overlaps: Overlaps,
    stated: Metadata,
    masks: Mapping[str, MaskRow],
    *,
    resamples: int,
) -> dict[str, Any]:
    """Returns what can be measured: decisions with labels of both kinds, diagnoses with classes that are shared.

    Args:
      model: the model.
      classified: labelled images and what it says of them.
      overlaps: annotated images and the scores of their masks.
      stated: what the model's metadata say.
      masks: what the bridge made of each image, by its id.
      resamples: number of resamples of the groups, for the intervals.
    """
    metrics: dict[str, Any] = {}
    sides, classes = set(classified.sides.tolist()) - {-1}, model.classifiers.classes
    if model.threshold is None:
        metrics |= _probabilities(classified, resamples=resamples)
    elif len(sides) == 2:
        metrics |= _decisions(model, classified.judged, stated, resamples=resamples)
        found = classified.judged
        metrics["subgroups"] = of_subgroups(
            found.rows,
            found.sides == 1,
            found.probabilities,
            model.threshold,
            masks,
            overlaps,
            min_size=model.config.evaluation.min_subgroup,
            resamples=resamples,
        )
    elif len(classified.sides):
        names = classes.binary_names if classes.own else ("benign", "malignant")
        only = {(1,): names[1], (0,): names[0], (): "of an unknown side"}[tuple(sides)]
        _log.warning("all labelled images are %s: decisions cannot be judged", only)
    if classes.num_logits > 1:
        metrics |= _melanoma(model, classified, resamples=resamples)
        metrics |= _diagnoses(model, classified, stated, resamples=resamples)
    if overlaps:
        metrics["segmentation"] = of_masks(overlaps, resamples=resamples)
    return metrics


def _decisions(model: SegFusion, classified: Classified, stated: Metadata, *, resamples: int) -> dict[str, Any]:
    labels, probabilities, groups = classified.sides == 1, classified.probabilities, classified.groups
    assert model.threshold is not None  # of a model that decides
    low, high = calibration.calibrated_ece(probabilities, groups)
    return {
        "classification": sections.classification(labels, probabilities, groups, model.threshold, resamples=resamples),
        "calibration": {"ece_by_chance": {"low": low, "high": high}},
        "operating_points": [
            point | sections.operating_point(labels, probabilities, groups, point["threshold"], resamples=resamples)
            for point in stated.operating_points
        ],
    }


def _probabilities(classified: Classified, *, resamples: int) -> dict[str, Any]:
    """Returns what the probabilities of classes are worth none of which is looked for."""
    if not classified.rows:
        return {}
    targets, of_classes, groups = classified.targets, classified.of_classes, classified.groups
    low, high = calibration.calibrated_ece(of_classes.max(axis=1), groups)
    return {
        "probabilities": sections.probabilities(targets, of_classes, groups, resamples=resamples),
        "calibration": {"ece_by_chance": {"low": low, "high": high}},
    }


def _melanoma(model: SegFusion, classified: Classified, *, resamples: int) -> dict[str, Any]:
    """Returns how well the probability of melanoma ranks, of the images whose label says whether they are one."""
    said = classified.melanomas >= 0
    labels = classified.melanomas[said] == 1
    if len(set(labels.tolist())) < 2:
        return {}
    own = classified.of_classes[said, model.classes.index("melanoma")]
    groups = list(itertools.compress(classified.groups, said))
    return {"melanoma": sections.ranking(labels, own, groups, resamples=resamples)}


def _diagnoses(model: SegFusion, classified: Classified, stated: Metadata, *, resamples: int) -> dict[str, Any]:
    """Returns the metrics over the images whose diagnosis is one of the model's."""
    known = classified.targets >= 0
    if len(set(classified.targets[known].tolist())) < 2:
        return {}
    targets, of_classes = classified.targets[known], classified.of_classes[known]
    groups = list(itertools.compress(classified.groups, known))
    found: dict[str, Any] = dict(
        sections.diagnosis(targets, of_classes, model.classes, list(stated.shares), groups, resamples=resamples)
    )
    if model.classifiers.classes.own:
        each = sections.against_the_rest(targets, of_classes, model.classes, groups, resamples=resamples)
        found["classes"] = each
    return found


def _target(model: SegFusion, classified: Classified) -> dict[str, dict[str, int]]:
    """Returns what the labels call by each of the names, by diagnosis; and, where there is such, "neither"."""
    classes = model.classifiers.classes
    called = classes.binary_names if classes.has_sides else classes.names
    sides = classified.sides if classes.has_sides else classified.targets
    names = dict(enumerate(called)) | {-1: "neither"}
    counts = {name: collections.Counter() for name in names.values()}
    for row, side in zip(classified.rows, sides.tolist(), strict=True):
        counts[names[side]][row.diagnosis or "without a diagnosis"] += 1
    return {name: dict(count.most_common()) for name, count in counts.items() if count or name != "neither"}
