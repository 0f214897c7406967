"""`segfusion predict`: masks, probabilities and pictures of anybody's images, however many."""

import argparse
import collections
import concurrent.futures
import errno
import logging
import math
import os
import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from segfusion_jax.commands import annotations, dicom_seg, evidence, gallery, images, pictures, spreadsheet
from segfusion_jax.commands.journal import TABLE, Journal
from segfusion_jax.commands.meaning import Meaning
from segfusion_jax.datasets.images import tell_profiles
from segfusion_jax.runtime.locks import locked_folder
from segfusion_jax.runtime.log import say
from segfusion_jax.runtime.progress import Progress, duration
from segfusion_jax.serving.segfusion import Prediction, SegFusion

_log = logging.getLogger(__name__)

_FAULTS = (ValueError, ArithmeticError, MemoryError, OSError, RuntimeError, cv2.error)
"""What one image can lead to; the others go on."""
_ENDING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
"""What concerns all images: of a disk that is full or fails."""

_UNFAMILIAR = "unfamiliar"  # of the summary, beside the decisions

Job = tuple[dict[str, Any], concurrent.futures.Future | None]
"""A row of the table, and its pictures while they are being written."""


def run(arguments: argparse.Namespace) -> int:
    """Predicts the images that `arguments` name; returns 1 where some could not be read, else 0.

    Raises:
      FileNotFoundError: no model, or a name that is nothing.
      ValueError: no images, a prevalence or threshold that is none or that the model has no use for, or an output
        folder of another command.
    """
    if arguments.prevalence is not None and not 0 < arguments.prevalence < 1:
        raise ValueError(f"--prevalence = {arguments.prevalence}: must be above 0 and below 1")
    if arguments.threshold is not None and not 0 < arguments.threshold < 1:
        raise ValueError(f"--threshold = {arguments.threshold}: must be above 0 and below 1")
    if not 0 < arguments.memory < math.inf:
        raise ValueError(f"--memory = {arguments.memory}: must be above 0, in GB")
    if arguments.dicom_seg:
        dicom_seg.check_installed()
    paths = images.find(arguments.images, without=arguments.output)
    model = SegFusion.load(arguments.model, plugins=arguments.plugin)
    for name in ("prevalence", "threshold"):
        if getattr(arguments, name) is not None and model.threshold is None:
            classes = ", ".join(model.classes)
            raise ValueError(f"--{name}: leave it out, since none of the model's classes ({classes}) is looked for")
    model.threshold = model.threshold if arguments.threshold is None else arguments.threshold
    with locked_folder(arguments.output, what=f"predicts into {arguments.output}"):
        return _run(model, paths, arguments)


def _run(model: SegFusion, paths: Mapping[pathlib.Path, str], arguments: argparse.Namespace) -> int:
    meaning = Meaning.of(model, prevalence=arguments.prevalence)
    journal = Journal(arguments.output, _columns(model, meaning), _settings(model, arguments))
    done = _done(journal, paths)
    given = {path: row["name"] for path, row in done.items()}
    names = images.names(paths, given, [row["name"] for row in journal.done])
    left = {path: name for path, name in zip(paths, names, strict=True) if path not in done}
    if done:
        _log.info("%d images were predicted before", len(done))
    start, counts = time.monotonic(), collections.Counter()
    try:
        for rows in _rows(model, meaning, left, arguments):
            journal.append(_as_shown(row, paths, arguments.output) for row in rows)
            counts.update(kind for row in rows for kind in _kinds(row))
    finally:
        journal.close()
    unexplained = evidence.missing(arguments.output, done) if arguments.explain else {}
    failed = evidence.add(model, meaning, unexplained, arguments, _FAULTS) if unexplained else 0
    if arguments.annotations:
        annotations.write(arguments.output)
    if arguments.spreadsheet:
        spreadsheet.write(arguments.output, arguments.spreadsheet)
    classes = model.classifiers.classes
    gallery.write(arguments.output, classes.binary_names if model.threshold is not None else ())
    _summarise(arguments.output, counts, len(paths) - len(left), time.monotonic() - start)
    if unexplained:
        say(f"evidence of {len(unexplained) - failed} images that were predicted before")
    return 1 if counts["error"] or failed else 0


def _done(journal: Journal, paths: Mapping[pathlib.Path, str]) -> dict[pathlib.Path, dict[str, str]]:
    """Returns the rows of the images that have one: of what they are called, and of a file of the same SHA-256."""
    rows = {(row["image"], row["sha256"]): row for row in journal.done}
    called = {image for image, _ in rows}
    known = {path: (shown, images.digest(path)) for path, shown in paths.items() if shown in called}
    return {path: rows[key] for path, key in known.items() if key in rows}


def _as_shown(row: Mapping[str, Any], paths: Mapping[pathlib.Path, str], output: pathlib.Path) -> dict[str, Any]:
    """Returns a row as others may see it: without the folders of this machine."""
    path = row["image"]
    told = images.pathless(row.get("error", ""), path.parent, output)
    return dict(row) | {"image": paths[path], "error": told}


def _columns(model: SegFusion, meaning: Meaning) -> list[str]:
    said = ("image", "sha256", "name", "probability", "decision", *meaning.columns, "diagnosis")
    if model.threshold is None:  # nothing is looked for, and the decision is the most probable class
        said = ("image", "sha256", "name", "decision")
    then = ("mask_share", "fallback", "novelty", "familiar", "error")
    return [*said, *(f"probability of {name}" for name in model.classes), *then]


def _settings(model: SegFusion, arguments: argparse.Namespace) -> dict[str, Any]:
    assert model.folder is not None  # where it was loaded from
    return {
        "model": _digest(model),
        "model_files": dict(model.folder.files),
        "prevalence": arguments.prevalence,
        "threshold": arguments.threshold,
        "overlays": not arguments.no_overlays,
        **({"dicom_seg": True} if arguments.dicom_seg else {}),
    }


def _digest(model: SegFusion) -> str:
    assert model.folder is not None  # where it was loaded from
    return model.folder.digest


def _rows(
    model: SegFusion, meaning: Meaning, names: Mapping[pathlib.Path, str], arguments: argparse.Namespace
) -> Iterator[list[dict[str, Any]]]:
    """Yields the rows of images whose pictures are written, some at a time.

    While a batch is predicted, the pictures of the one before are written and the one after is read, where all of them
    together keep within the memory that may be taken.
    """
    for folder in _folders(arguments):
        (arguments.output / folder).mkdir(exist_ok=True)
    memory, profiles = round(arguments.memory * 1e9), collections.Counter()
    planned = images.batches(names, memory, explain=arguments.explain)
    progress, done = Progress("predict", total=len(names)), 0
    progress.show(0)
    workers = min(4, os.cpu_count() or 1)
    with concurrent.futures.ThreadPoolExecutor(workers) as writer, concurrent.futures.ThreadPoolExecutor(1) as reader:

        def started(batch: images.Batch | None) -> concurrent.futures.Future[list[images.Read]] | None:
            return reader.submit(images.read, batch, memory) if batch else None

        jobs: list[Job] = []
        written, batch = 0, next(planned, None)
        reading = started(batch)
        while batch is not None and reading is not None:
            files = reading.result()
            profiles.update(file.profile for file in files if file.profile)
            after = next(planned, None)
            fits = after is not None and written + batch.memory + after.memory <= memory
            reading = started(after) if fits else None
            predictions = _predicted(model, files, arguments)
            yield [_finished(job) for job in jobs]
            jobs = [_job(model, meaning, file, names[file.path], predictions, arguments, writer) for file in files]
            done += len(files)
            if progress.is_due():
                progress.show(done)
            del files, predictions
            written, batch = batch.memory, after
            if after is not None and reading is None:
                if written + after.memory > memory:
                    yield [_finished(job) for job in jobs]
                    jobs, written = [], 0
                reading = started(after)
        yield [_finished(job) for job in jobs]
    _log.info("predict: %d images done", len(names))
    tell_profiles(profiles)


def _folders(arguments: argparse.Namespace) -> list[str]:
    return [
        "masks",
        *(["overlays"] if not arguments.no_overlays else []),
        *([evidence.FOLDER] if arguments.explain else []),
        *([dicom_seg.FOLDER] if arguments.dicom_seg else []),
    ]


def _predicted(
    model: SegFusion, files: Sequence[images.Read], arguments: argparse.Namespace
) -> dict[pathlib.Path, Prediction | str]:
    """Returns what the model says of each image that could be read, or why it says nothing of it."""
    readable = {file.path: file.image for file in files if file.image is not None}
    try:
        found = model.predict(list(readable.values()), prevalence=arguments.prevalence, explain=arguments.explain)
        return dict(zip(readable, found, strict=True))
    except _FAULTS as error:
        if len(readable) == 1:
            return dict.fromkeys(readable, f"cannot be predicted: {error or type(error).__name__}")
    alone = (_predicted(model, [file], arguments) for file in files if file.image is not None)
    return {path: said for one in alone for path, said in one.items()}


def _job(
    model: SegFusion,
    meaning: Meaning,
    file: images.Read,
    name: str,
    predictions: Mapping[pathlib.Path, Prediction | str],
    arguments: argparse.Namespace,
    executor: concurrent.futures.Executor,
) -> Job:
    row: dict[str, Any] = {"image": file.path, "sha256": file.sha256, "name": name}
    prediction = predictions.get(file.path, file.error)
    if isinstance(prediction, str):
        say(f"{file.path}: {prediction}", error=True)
        return row | {"error": prediction}, None
    if prediction.probability is not None:
        row |= {"probability": f"{prediction.probability:.6f}", "diagnosis": prediction.most_probable}
    row |= {
        "decision": model.decision(prediction),
        **meaning.columns,
        **{f"probability of {one}": f"{value:.6f}" for one, value in prediction.probabilities.items()},
        "mask_share": f"{prediction.mask.mean():.5f}",
        "fallback": prediction.fallback,
        "novelty": f"{prediction.novelty:.4f}",
        "familiar": str(int(prediction.familiar)),
    }
    return row, executor.submit(_write, arguments, name, file, prediction, meaning.told(row), _digest(model))


def _finished(job: Job) -> dict[str, Any]:
    row, pictures_written = job
    try:
        problem = pictures_written.result() if pictures_written is not None else ""
    except _FAULTS as error:
        if isinstance(error, OSError) and error.errno in _ENDING:
            raise
        problem = f"its pictures cannot be written: {error or type(error).__name__}"
        say(f"{row['image']}: {problem}", error=True)
    return row | {"error": problem} if problem else row


def _write(
    arguments: argparse.Namespace, name: str, file: images.Read, prediction: Prediction, told: list[str], model: str
) -> str:
    """Writes the pictures of an image; returns why a segmentation is missing, or ""."""
    image, mask, fallback = file.image, prediction.mask, prediction.fallback
    assert image is not None  # of a file that was predicted
    pictures.save(arguments.output / "masks" / f"{name}.png", np.multiply(mask, 255, dtype=np.uint8))
    if not arguments.no_overlays:
        drawn = pictures.overlay(image, mask, told, fallback=fallback)
        pictures.save(arguments.output / "overlays" / f"{name}.png", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
    if prediction.evidence is not None:
        drawn = pictures.evidence(image, mask, prediction.evidence, told, fallback=fallback)
        pictures.save(arguments.output / evidence.FOLDER / f"{name}.png", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
    if arguments.dicom_seg and not fallback:
        path = arguments.output / dicom_seg.FOLDER / f"{name}.dcm"
        try:
            if not dicom_seg.write(path, file.path, mask, model):
                _log.warning("%s: no DICOM file, so no segmentation of it", file.path)
        except ValueError as error:
            return f"no DICOM segmentation: {error}"
    return ""


def _kinds(row: Mapping[str, Any]) -> list[str]:
    """Returns what it counts as in the summary."""
    if row.get("error"):
        return ["error"]
    return [row["decision"]] if row["familiar"] == "1" else [row["decision"], _UNFAMILIAR]


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
