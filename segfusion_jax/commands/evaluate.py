"""`segfusion evaluate`: a released model on collections that it was not trained on."""

import argparse
import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from segfusion_jax.datasets.collections import READERS
from segfusion_jax.datasets.table import Row
from segfusion_jax.pipeline import external_page
from segfusion_jax.pipeline.external import Classified, External, config_of, judge
from segfusion_jax.pipeline.stages.score import table as table_of_scores
from segfusion_jax.report import text
from segfusion_jax.report.pseudonyms import Key
from segfusion_jax.runtime import caches
from segfusion_jax.runtime.atomic import write_table, write_text
from segfusion_jax.runtime.locks import locked_folder
from segfusion_jax.runtime.log import say
from segfusion_jax.serving.model_folder import state_elsewhere
from segfusion_jax.serving.segfusion import SegFusion

_SHOWN = ("classification", "melanoma", "diagnosis", "diagnosis_equal_shares", "probabilities", "segmentation")


def run(arguments: argparse.Namespace) -> int:
    """Judges the model that `arguments` name; returns 0.

    Raises:
      FileNotFoundError: no model, a model that does not say what it was trained on, or no collection.
      ValueError: the model has seen all of a collection, or there is nothing to judge it by; or an option is none.
    """
    if arguments.resamples < 1:
        raise ValueError(f"--resamples = {arguments.resamples}: must be at least 1")
    if arguments.output.exists() and not arguments.output.is_dir():
        raise ValueError(f"--output = {arguments.output}: is no folder")
    named = _named(arguments)
    key = Key(arguments.pseudonymise, apart=arguments.output) if arguments.pseudonymise else None
    model = SegFusion.load(arguments.model, plugins=arguments.plugin)
    assert model.folder is not None  # where it was loaded from
    parts = model.folder.read_parts()
    found = []
    for name, (title, collection, fields) in named.items():
        data = config_of(model, collection, **fields, records=arguments.records)
        galleries = not arguments.no_photographs
        external = judge(model, name, title, data, parts=parts, resamples=arguments.resamples, galleries=galleries)
        found.append(_numbered(external, key) if key else external)
    with locked_folder(arguments.output, what=f"evaluates into {arguments.output}"):
        _write(arguments, model, found, key)
    if arguments.add_to_model:
        state_elsewhere(model.folder.path, {external.title: external.metrics for external in found})
    for external in found:
        say(_summary(external.title, external.metrics, external.rows, external.classified))
    say(f"\n{arguments.output / 'index.html'}\nResearch use only: not a medical device.")
    if key:
        say(f"which id each number stands for: {key.path}; it is not to be shown")
    if not arguments.records and caches.is_temporary(caches.folder()):
        say("The checked images were not kept: name a folder for them as --records, or a cache as XDG_CACHE_HOME.")
    return 0


def _named(arguments: argparse.Namespace) -> dict[str, tuple[str, str, dict[str, str]]]:
    """Returns title, collection and fields of its config for each that is named, by what its folder is called.

    Raises:
      ValueError: there are other numbers of collections and of roots, or a collection stands twice in one place.
    """
    names, roots = arguments.collection, arguments.root or [""] * len(arguments.collection)
    if len(names) != len(roots):
        raise ValueError(
            f"{len(names)} --collection and {len(roots)} --root: must be as many, in the same order, or no --root"
        )
    if len(set(zip(names, roots, strict=True))) < len(names):
        raise ValueError(f"--collection = {', '.join(names)}: each must stand once, or be in another --root")
    own = {"labels": arguments.labels, "group": arguments.group}
    if any(own.values()) and "image_folder" not in names:
        raise ValueError("--labels and --group say how an image_folder is read, and no --collection is one")
    found = {}
    for name, root in zip(names, roots, strict=True):
        number = sum(collection == name for _, collection, _ in found.values()) + 1
        again = f"{number}" if number > 1 else ""
        fields = {"root": root} | (own if name == "image_folder" else {"labels": "", "group": ""})
        found[f"{name}{again}"] = (f"{READERS[name].TITLE} {again}".strip(), name, fields)
    return found


def _numbered(external: External, key: Key) -> External:
    """Returns what was found with numbers for ids of images and groups."""
    ids = [row.image_id for row in external.rows]
    numbers = key.numbers([*ids, *(row.group for row in external.rows)])

    def numbered(row: Row) -> Row:
        return dataclasses.replace(row, image_id=numbers[row.image_id], group=numbers[row.group])

    def title(told: str) -> str:
        image_id, _, more = told.rpartition("\n")
        return f"{numbers[image_id]}\n{more}"

    classified = external.classified
    return dataclasses.replace(
        external,
        rows=tuple(map(numbered, external.rows)),
        classified=dataclasses.replace(classified, rows=tuple(map(numbered, classified.rows))),
        fallbacks={numbers[image_id]: reason for image_id, reason in external.fallbacks.items()},
        overlaps=[(numbered(row), scores) for row, scores in external.overlaps],
        overlays={
            name: [(*pixels, title(told)) for *pixels, told in panels] for name, panels in external.overlays.items()
        },
    )


def _write(arguments: argparse.Namespace, model: SegFusion, found: Sequence[External], key: Key | None) -> None:
    """Writes tables, figures and metrics of each collection, in a folder of its own where there are several; and the
    page.
    """
    alone = len(found) == 1
    folders = {arguments.output if alone else arguments.output / external.name: external for external in found}
    for folder, external in folders.items():
        write_text(folder / "metrics.json", json.dumps(external.metrics, indent=2) + "\n")
        _write_predictions(folder / "predictions.csv", model, external)
        _write_by_id(folder / "segmentation.csv", *table_of_scores(external.overlaps))
        external_page.draw(folder, model, external, resamples=arguments.resamples)
    external_page.write(
        arguments.output,
        model,
        folders,
        photographs=not arguments.no_photographs,
        pseudonyms=key.name if key else "",
    )


def _summary(title: str, metrics: Mapping[str, Any], rows: Sequence[Row], classified: Classified) -> str:
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
        lines.append(
            f"diagnoses or classes: of the {int(metrics['diagnosis']['n']['value']):,} images of the model's classes"
        )
    flagged = metrics["novelty"]["flagged"]
    interval = f"{flagged['low']:.1%} to {flagged['high']:.1%}" if "low" in flagged else "no interval"
    told = f"{flagged['value']:.1%} ({interval})"
    lines.append(f"unlike the model's training images: {told}")
    shown = {name: metrics[name] for name in _SHOWN if metrics.get(name)}
    return "\n".join([*lines, "", text.table(shown)])


def _write_predictions(path: pathlib.Path, model: SegFusion, external: External) -> None:
    classified = external.classified
    if model.threshold is None:
        _write_classes(path, model, external)
        return
    columns = ["image_id", "group", "label", "probability", "decision", "fallback", "diagnosis"]
    lines = [
        [row.image_id, row.group, "" if side < 0 else side, repr(float(probability))]
        + [int(probability >= model.threshold)]
        + [external.fallbacks[row.image_id], row.diagnosis, *map(repr, of_classes.tolist())]
        for row, side, probability, of_classes in zip(
            classified.rows, classified.sides.tolist(), classified.probabilities, classified.of_classes, strict=True
        )
    ]
    _write_by_id(path, [*columns, *(f"probability of {name}" for name in model.classes)], lines)


def _write_classes(path: pathlib.Path, model: SegFusion, external: External) -> None:
    """Writes what images are called where no class is looked for."""
    names, classified = model.classes, external.classified
    lines = [
        [row.image_id, row.group, row.diagnosis, names[of_classes.argmax()], external.fallbacks[row.image_id]]
        + list(map(repr, of_classes.tolist()))
        for row, of_classes in zip(classified.rows, classified.of_classes, strict=True)
    ]
    columns = ["image_id", "group", "label", "decision", "fallback"]
    _write_by_id(path, [*columns, *(f"probability of {name}" for name in names)], lines)


def _write_by_id(path: pathlib.Path, columns: Sequence[str], lines: Sequence[Sequence[Any]]) -> None:
    """Writes a table in the order of its ids: where numbers stand for them, their old order would tell who is who."""
    write_table(path, columns, sorted(lines, key=lambda line: line[0]))
