"""`segfusion predict`: masks, probabilities and pictures of anybody's images, however many."""

import argparse
import collections
import concurrent.futures
import hashlib
import logging
import os
import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import cv2
import numpy as np

from segfusion_jax.commands import annotations, dicom_seg, images, pictures
from segfusion_jax.commands.journal import TABLE, Journal
from segfusion_jax.report.blocks import percent
from segfusion_jax.runtime.log import say
from segfusion_jax.runtime.progress import duration, logged
from segfusion_jax.serving.segfusion import METADATA, Prediction, SegFusion, model_folder

_log = logging.getLogger(__name__)

_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1)  # more takes as long as all the rest, for a fifth of the bytes

_UNFAMILIAR = "unfamiliar"  # of the summary, beside the decisions

Job = tuple[dict[str, Any], concurrent.futures.Future | None]
"""A row of the table, and its pictures while they are being written."""


def run(arguments: argparse.Namespace) -> int:
    """Predicts the images that `arguments` name; returns 1 where some could not be read, else 0.

    Raises:
      FileNotFoundError: no model, or a name that is nothing.
      ValueError: no images, a prevalence that is none, or an output folder of another command.
    """
    if arguments.prevalence is not None and not 0 < arguments.prevalence < 1:
        raise ValueError(f"--prevalence = {arguments.prevalence}: must be above 0 and below 1")
    if arguments.threshold is not None and not 0 < arguments.threshold < 1:
        raise ValueError(f"--threshold = {arguments.threshold}: must be above 0 and below 1")
    if arguments.dicom_seg:
        dicom_seg.check_installed()
    paths = images.find(arguments.images, without=arguments.output)
    model = SegFusion.load(arguments.model)
    model.threshold = model.threshold if arguments.threshold is None else arguments.threshold
    journal = Journal(arguments.output, _columns(model), _settings(arguments))
    names = images.names(paths, {image: row["name"] for image, row in journal.done.items()})
    left = {path: name for path, name in zip(paths, names, strict=True) if str(path) not in journal.done}
    if len(left) < len(paths):
        _log.info("%d images were predicted before", len(paths) - len(left))
    start, counts = time.monotonic(), collections.Counter()
    try:
        for rows in _rows(model, left, arguments):
            journal.append(rows)
            counts.update(kind for row in rows for kind in _kinds(row))
    finally:
        journal.close()
    if arguments.annotations:
        annotations.write(arguments.output)
    _summarise(arguments.output, counts, len(paths) - len(left), time.monotonic() - start)
    return 1 if counts["error"] else 0


def _columns(model: SegFusion) -> list[str]:
    said = ("image", "name", "probability", "decision")
    then = ("mask_share", "fallback", "novelty", "familiar", "error")
    return [*said, *(f"probability of {name}" for name in model.classes), *then]


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "model": hashlib.sha256((model_folder(arguments.model) / METADATA).read_bytes()).hexdigest(),
        "prevalence": arguments.prevalence,
        "threshold": arguments.threshold,
        "explain": arguments.explain,
        "overlays": not arguments.no_overlays,
        **({"dicom_seg": True} if arguments.dicom_seg else {}),
    }


def _rows(
    model: SegFusion, names: Mapping[pathlib.Path, str], arguments: argparse.Namespace
) -> Iterator[list[dict[str, Any]]]:
    """Yields the rows of images whose pictures are written, some at a time; the next are meanwhile predicted."""
    folders = [
        "masks",
        *(["overlays"] if not arguments.no_overlays else []),
        *(["evidence"] if arguments.explain else []),
        *([dicom_seg.FOLDER] if arguments.dicom_seg else []),
    ]
    for folder in folders:
        (arguments.output / folder).mkdir(exist_ok=True)
    read = logged(images.read_ahead(names), total=len(names), what="predict")
    with concurrent.futures.ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as executor:
        before: list[Job] = []
        for batch in images.batches(read):
            readable = {file.path: file.image for file in batch if file.image is not None}
            options = {"prevalence": arguments.prevalence, "explain": arguments.explain}
            found = model.predict(list(readable.values()), **options)
            predictions = dict(zip(readable, found, strict=True))
            yield [_finished(job) for job in before]
            before = [
                _job(model, file, names[file.path], predictions.get(file.path), arguments, executor) for file in batch
            ]
        yield [_finished(job) for job in before]


def _job(
    model: SegFusion,
    file: images.Read,
    name: str,
    prediction: Prediction | None,
    arguments: argparse.Namespace,
    executor: concurrent.futures.Executor,
) -> Job:
    row: dict[str, Any] = {"image": str(file.path), "name": name}
    if prediction is None or file.image is None:
        say(f"{file.path}: {file.error}", error=True)
        return row | {"error": file.error}, None
    names = model.classifiers.classes.binary_names
    decision = names[prediction.malignant]
    row |= {
        "probability": f"{prediction.probability:.6f}",
        "decision": decision,
        **{f"probability of {one}": f"{value:.6f}" for one, value in prediction.probabilities.items()},
        "mask_share": f"{prediction.mask.mean():.5f}",
        "fallback": prediction.fallback,
        "novelty": f"{prediction.novelty:.4f}",
        "familiar": int(prediction.familiar),
    }
    at = "" if arguments.prevalence is None else f" at a prevalence of {percent(arguments.prevalence)}"
    caption = f"{names[1]}: {percent(prediction.probability)}{at}, called {decision}"
    if not prediction.familiar:
        caption = f"UNFAMILIAR IMAGE; {caption}"
    return row, executor.submit(_write, arguments, name, file, prediction, caption)


def _finished(job: Job) -> dict[str, Any]:
    row, pictures_written = job
    problem = pictures_written.result() if pictures_written is not None else ""
    return row | {"error": problem} if problem else row


def _write(arguments: argparse.Namespace, name: str, file: images.Read, prediction: Prediction, caption: str) -> str:
    """Writes the pictures of an image; returns why a segmentation is missing, or ""."""
    image, mask, fallback = file.image, prediction.mask, prediction.fallback
    assert image is not None  # of a file that was predicted
    _save(arguments.output / "masks" / f"{name}.png", np.where(mask, 255, 0).astype(np.uint8))
    if not arguments.no_overlays:
        drawn = pictures.overlay(image, mask, caption, fallback=fallback)
        _save(arguments.output / "overlays" / f"{name}.png", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
    if prediction.evidence is not None:
        drawn = pictures.evidence(image, mask, prediction.evidence, caption, fallback=fallback)
        _save(arguments.output / "evidence" / f"{name}.png", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
    if arguments.dicom_seg and not fallback:
        path = arguments.output / dicom_seg.FOLDER / f"{name}.dcm"
        try:
            if not dicom_seg.write(path, file.path, mask, _settings(arguments)["model"]):
                _log.warning("%s: no DICOM file, so no segmentation of it", file.path)
        except ValueError as error:
            return f"no DICOM segmentation: {error}"
    return ""


def _save(path: pathlib.Path, pixels: np.ndarray) -> None:
    path.write_bytes(cv2.imencode(".png", pixels, _PNG)[1].tobytes())  # cv2.imwrite tells nobody of a full disk


def _kinds(row: Mapping[str, Any]) -> list[str]:
    """Returns what it counts as in the summary."""
    if row.get("error"):
        return ["error"]
    return [row["decision"]] if row["familiar"] else [row["decision"], _UNFAMILIAR]


def _summarise(folder: pathlib.Path, counts: Mapping[str, int], before: int, seconds: float) -> None:
    total = sum(count for kind, count in counts.items() if kind != _UNFAMILIAR)
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()) if kind not in ("error", _UNFAMILIAR))
    if total:
        rate = f"{total / max(seconds, 1e-9):.1f} a second"
        say(f"images: {total} in {duration(seconds)} ({rate}): {told or 'none could be read'}")
    if counts.get(_UNFAMILIAR):
        say(f"{counts[_UNFAMILIAR]} of them unlike the training images: what is said of these means little")
    if before:
        say(f"{before} {'more were' if total else 'were all'} predicted before")
    if counts.get("error"):
        say(f"{counts['error']} could not be read: see the column 'error'")
    say(f"{folder / TABLE}\nResearch use only: not a medical device.")
