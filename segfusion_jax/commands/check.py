"""`segfusion check`: what is understood of a folder of images, before anything is trained on it."""

import argparse
import collections
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import shlex
from collections.abc import Sequence

from segfusion_jax.commands.own_split import own_split_told
from segfusion_jax.config import Data
from segfusion_jax.datasets import images
from segfusion_jax.datasets.collections import image_folder, labels
from segfusion_jax.datasets.files import Folder
from segfusion_jax.datasets.images import Stored
from segfusion_jax.datasets.near_duplicates import near_duplicates
from segfusion_jax.datasets.record import Contents, Problem, Record
from segfusion_jax.runtime.atomic import write_text
from segfusion_jax.runtime.log import say

_NAMED = 5  # of each kind of thing
_LABELS = "labels.toml"


def run(arguments: argparse.Namespace) -> int:
    """Tells what is understood of the folder that `arguments` name; returns 1 where something cannot be used, else 0.

    Raises:
      FileNotFoundError: there is no such folder, or nothing in it that could be images with labels.
      ValueError: it cannot be understood; says why.
    """
    path = pathlib.Path(arguments.path).expanduser().absolute()
    if not path.exists():
        raise FileNotFoundError(f"{arguments.path}: no such folder or file")
    label_map = pathlib.Path(arguments.labels).expanduser() if arguments.labels else None
    named = str(label_map) if label_map and label_map.exists() else ""
    data = Data(
        collection="image_folder", root=str(path), labels=named, group=arguments.group, classes=arguments.classes
    )
    contents = image_folder.understand(Folder(path), data)
    stored = _stored(contents.records, data)
    problems = [*contents.problems, *(one for one in stored if isinstance(one, Problem))]
    readable = [one for one in stored if isinstance(one, Stored)]
    target, told = _write_labels(path, label_map, contents, data)
    split, folds, is_followed = own_split_told(contents.records, stored, data)
    lines = [
        *contents.read_as,
        *_images(contents.records, readable),
        *split,
        *_labels(contents, data),
        *_unread(contents),
    ]
    say(
        "\n".join(
            [
                *lines,
                *_problems(problems),
                told,
                "",
                "to train on them:",
                f"  {_command(data, target, problems, contents, folds)}",
            ]
        )
    )
    return 1 if problems or not is_followed else 0


def _stored(records: Sequence[Record], data: Data) -> list[Stored | Problem]:
    """Decodes every image and mask, as preparing does."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as executor:
        stored = executor.map(lambda record: images.store(record, data), records)
        return [dataclasses.replace(one, image=b"", mask=b"") if isinstance(one, Stored) else one for one in stored]


def _images(records: Sequence[Record], stored: Sequence[Stored]) -> list[str]:
    groups = len(
        {(one.patient_id, one.lesion_id) if one.patient_id or one.lesion_id else one.image_id for one in records}
    )
    masks = sum(record.mask is not None for record in records)
    lines = [f"{len(records)} images of {groups} patients or lesions, where these are known; {masks} have a mask"]
    sizes = collections.Counter(f"{one.width} x {one.height}" for one in stored).most_common(_NAMED)
    if sizes:
        lines.append("sizes (width x height): " + ", ".join(f"{size} ({count})" for size, count in sizes))
    equal = len(stored) - len({one.sha256 for one in stored})
    near = len(near_duplicates([bytes.fromhex(one.perceptual_hash) for one in stored]))
    return [*lines, f"equal files: {equal}; pairs of equal or nearly equal pictures: {near}"]


def _labels(contents: Contents, data: Data) -> list[str]:
    """Says what each label means, the most frequent first."""
    lines = []
    for (written, text), count in collections.Counter(contents.labels).most_common():
        lines.append(f"label {written!r}: {count} images, {_meaning(text, data)[1]}")
    return lines


def _meaning(text: str, data: Data) -> tuple[str | None, str]:
    """Returns what a label means as a label map says it, None where that is not known; and in words."""
    try:
        diagnosis, malignant = labels.read(text, data.own_classes)
    except ValueError:
        near = labels.suggest(text, data.own_classes)
        return None, f"NOT KNOWN{f': did you mean {near}?' if near else ''}"
    kind = {0: "benign", 1: "malignant", -1: ""}[malignant]
    return diagnosis or kind, f"{diagnosis} ({kind})" if diagnosis else kind or "no label"


def _unread(contents: Contents) -> list[str]:
    return [
        f"not read: {len(names)} {what}: {', '.join(names[:_NAMED])}{', ...' * (len(names) > _NAMED)}"
        for what, names in contents.passed_over.items()
    ]


def _problems(problems: Sequence[Problem]) -> list[str]:
    kinds = collections.Counter(problem.kind for problem in problems)
    lines = []
    for kind, count in kinds.most_common():
        some = [problem for problem in problems if problem.kind == kind][:_NAMED]
        lines += [f"cannot be used: {count} x {kind}", *(f"  {problem.image_id}: {problem.what}" for problem in some)]
    return lines


def _write_labels(path: pathlib.Path, named: pathlib.Path | None, contents: Contents, data: Data) -> tuple[str, str]:
    """Writes a label map unless there is one; returns its path where it must be named, and what was done, in words."""
    beside = (path if path.is_dir() else path.parent) / _LABELS
    target = named or (beside if os.access(beside.parent, os.W_OK) else pathlib.Path(_LABELS).absolute())
    must = "" if target == beside and path.suffix.lower() != ".zip" else str(target)
    if target.exists():
        return must, f"label map, as it is: {target}"
    lines = ["# What the columns mean, and what is meant by labels. Commands heed it.", "", "[columns]"]
    lines += [f"{meaning} = {json.dumps(name)}" for meaning, name in contents.columns.items()]
    lines += ["", "[values.label]"]
    for written, text in sorted(contents.labels):
        meant, words = _meaning(text, data)
        line = (
            f"{json.dumps(written)} = {json.dumps(labels.suggest(text, data.own_classes) if meant is None else meant)}"
        )
        lines.append(f"# {line}  # {words}" if meant is None else line)
    write_text(target, "\n".join(lines) + "\n")
    return must, f"label map written, to be set right: {target}"


def _command(data: Data, label_map: str, problems: Sequence[Problem], contents: Contents, folds: int) -> str:
    fields: dict[str, object] = {"data.root": data.root, "data.labels": label_map, "data.group": data.group}
    fields["data.classes"] = data.classes
    fields["bridge.mode"] = "" if any(record.mask for record in contents.records) else "none"
    fields["splits.num_folds"] = folds
    fields["data.on_error"] = "skip" if problems else ""
    changes = (f"--set {shlex.quote(f'{name}={value}')}" for name, value in fields.items() if value)
    return " ".join(["segfusion train --config image_folder", *changes])
