"""Stage 6: the models on held-out groups, by which nothing before was fitted or chosen."""

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from segfusion_jax.evaluation.classification import choose_threshold
from segfusion_jax.evaluation.explanation import inside_share
from segfusion_jax.evaluation.novelty import Novelty
from segfusion_jax.input.examples import Examples
from segfusion_jax.pipeline.run import Run
from segfusion_jax.pipeline.stages import figures, metrics, novelty, predicted
from segfusion_jax.pipeline.stages.by_collection import by_collection, sensitive_threshold
from segfusion_jax.pipeline.stages.predicted import Predicted
from segfusion_jax.pipeline.stages.score import Overlaps, read_overlaps
from segfusion_jax.report import plots

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """What the models say of the images that judge them.

    Attributes:
      validation: images that chose the classifiers' weights, on which temperature and thresholds are fitted.
      everything: held-out images.
      test: those of them whose label says whether they are malignant, or all where no class is looked for; all that
        follows is of these.
      source: the test images as the classifiers see them.
      evidence: evidence in each test image, as `ClassifierEnsemble.explain` yields it.
      familiar: what tells unfamiliar images.
      novelties: novelty of each held-out image, float64 [n].
      overlaps: annotated test images and the scores of their masks.
      overlays: galleries of these by their names, as `figures.overlays` returns them.
    """

    validation: Predicted
    everything: Predicted
    test: Predicted
    source: Examples
    evidence: Sequence[np.ndarray]
    familiar: Novelty
    novelties: np.ndarray
    overlaps: Overlaps
    overlays: dict[str, list[figures.Overlay]]

    @property
    def threshold(self) -> float | None:
        """The probability from which an image is called malignant, chosen on the validation images; None where no class
        is looked for.
        """
        chosen = self.validation.judged
        if not chosen.classes.has_sides:
            return None
        return choose_threshold(chosen.labels, chosen.malignancy)


def evaluate(run: Run) -> None:
    """Writes metrics, tables of predictions and of masks' scores, what tells unfamiliar images, and figures.

    Temperature, thresholds and the limit of what is familiar are fitted on the images that chose the classifiers'
    weights. All processes predict together; the first one writes.
    """
    found = _predict(run)
    if run.devices.is_lead:
        masks = [figures.lesion(example, run.config.bridge) for example in found.source]
        shares = [inside_share(*pair) for pair in zip(found.evidence, masks, strict=True)]
        measured = _measure(run, found, shares)
        _write(run, found, measured)
        _draw(run, found, measured, shares)
        _log.info("evaluate: %d classified and %d segmented test images", len(found.test.rows), len(found.overlaps))


def _predict(run: Run) -> Evaluated:
    validation = predicted.predict_validation(run)
    everything = predicted.predict(run.classifiers, run.bridged(run.split.classified("test")), validation)
    test = everything.judged
    source = run.bridged(test.rows)
    evidence = [evidence for _, evidence in run.classifiers.explain(source)]
    familiar = novelty.fit(run)
    novelties = novelty.score(run.prepared, run.classifiers, familiar, everything.rows)
    overlaps = read_overlaps(run)
    overlays = figures.overlays(overlaps, run.prepared, run.segmenters, run.config)
    return Evaluated(validation, everything, test, source, evidence, familiar, novelties, overlaps, overlays)


def _measure(run: Run, found: Evaluated, shares: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Returns what `metrics.json` holds."""
    options, test, threshold = run.config.evaluation, found.test, found.threshold
    resamples, masks = options.resamples, {row.image_id: row for row in run.masks.rows}
    if threshold is None:
        measured = metrics.of_own_classes(found.validation, test, resamples=resamples)
    else:
        measured = metrics.of_decisions(found.validation, found.everything, threshold, resamples=resamples)
        measured["subgroups"] = metrics.of_subgroups(
            test.rows,
            test.labels,
            test.malignancy,
            threshold,
            masks,
            found.overlaps,
            min_size=options.min_subgroup,
            resamples=resamples,
        )
        points = {"own": threshold, "sensitive": sensitive_threshold(measured["operating_points"])}
        measured["collections"] = by_collection(
            found.everything, found.novelties, found.overlaps, points, resamples=resamples
        )
    return measured | {
        "validation": metrics.of_validation(found.validation, resamples=resamples),
        "segmentation": metrics.of_masks(found.overlaps, resamples=resamples),
        "explanation": metrics.of_evidence(test, shares, places=found.evidence[0].size, resamples=resamples),
        "novelty": novelty.metrics(found.novelties, found.everything.groups, resamples=resamples),
    }


def _write(run: Run, found: Evaluated, measured: dict[str, Any]) -> None:
    masks = {row.image_id: row for row in run.masks.rows}
    run.write_metrics(measured)
    run.write_novelty(found.familiar)
    run.write_predictions("validation", *predicted.table(found.validation.judged, masks))
    run.write_predictions("predictions", *predicted.table(found.test, masks))


def _draw(run: Run, found: Evaluated, measured: dict[str, Any], shares: Sequence[tuple[float, float]]) -> None:
    folder, bridge, test, source = run.figures, run.config.bridge, found.test, found.source
    resamples = run.config.evaluation.resamples
    if found.threshold is None:
        figures.draw_classes(folder, test)
    else:
        judged = plots.Judged(test.labels, test.malignancy, found.threshold, test.groups, resamples)
        names, subgroups = test.classes.binary_names, measured["subgroups"]
        figures.draw_scores(folder, judged, names, subgroups, uncalibrated=test.uncalibrated, own=test.classes.own)
        figures.draw_missed(folder, bridge, test, source, found.threshold)
    if test.classes.num_logits > 1:
        known = test.diagnosed
        figures.draw_diagnoses(folder, known.targets, known.of_classes, test.classes.names, own=test.classes.own)
    figures.draw_training(folder, run.read_histories())
    figures.draw_overlays(folder, found.overlays)
    figures.draw_bridge(folder, bridge, test, source)
    figures.draw_evidence(folder, bridge, test, source, evidence=found.evidence, shares=shares)
    train = run.bridged(run.split.training[0])
    figures.draw_augmentation(folder, run.config.classifier.augmentation, train, seed=run.config.seed)
