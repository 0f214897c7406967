"""Does a model hold elsewhere? One origin after the other is left out of training, and tested on.

The split is that of a run that leaves nothing out. Tables in the study's folder change it for each origin: its images
are the test, their relatives take no part, and all others stay where they are. So one store of records serves all runs,
and what a run says of an origin's held-out images, it says of those that the run that knows the origin is tested on.
"""

import collections
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from segfusion_jax.config import Config
from segfusion_jax.datasets.table import Row
from segfusion_jax.pipeline import experiment
from segfusion_jax.pipeline.run import Run
from segfusion_jax.pipeline.studies import origins_measured, origins_page, variants
from segfusion_jax.pipeline.studies.origins_measured import RUNGS, Said
from segfusion_jax.pipeline.studies.variants import changed
from segfusion_jax.runtime.atomic import write_table, write_text
from segfusion_jax.runtime.devices import make_devices

ORIGIN_OF: dict[str, Callable[[Row], str]] = {
    "collection": lambda row: row.source,
    "centre": lambda row: f"{row.source}: {row.origin}" if row.origin else "",
}
"""What an origin is; "" = not known, so that the image is left out of nothing."""

STRONGER = {
    "rotation": 180.0,
    "zoom": 0.25,
    "brightness": 0.25,
    "contrast": 0.25,
    "saturation": 0.3,
    "hue": 10.0,
    "white_balance": 0.3,
}
"""What the rung "augmentation" has of each at least."""

_STAGES = tuple(stage for stage in experiment.STAGES if stage != "report")


class Place(NamedTuple):
    """Where an image is, as a table for `splits.table` has it."""

    image_id: str
    split: str
    fold: int


def study(config: Config, workdir: pathlib.Path, by: str = "collection") -> pathlib.Path:
    """Leaves out each origin in turn; writes `origins.json`, `index.html` and `summary.md` into `workdir`.

    Args:
      config: the config of several collections, or of one with centres.
      workdir: folder of the study; each run has a folder in it.
      by: what an origin is, a name of ORIGIN_OF.

    Returns:
      The page.

    Raises:
      ValueError: fewer than two origins can be left out, and of each why not; or the splits leave no choice.
    """
    changed(config, "splits", table="of the study")  # before the first run, not after it
    config = variants.with_shared_records(config, workdir)
    runs = variants.run(f"origins by {by}", configs(config, workdir, by), workdir, _STAGES)
    devices = make_devices(config.parallel)
    if devices.is_lead:
        left, reasons = able(runs["inside"], by)
        said = {origin: _said(runs, origin) for origin in left}
        origin_of = {row.image_id: ORIGIN_OF[by](row) for row in runs["inside"].rows}
        found = origins_measured.measured(said, origin_of, config.evaluation.resamples)
        found |= {"by": by, "not_left_out": reasons}
        write_text(workdir / "origins.json", json.dumps(found, indent=2) + "\n")
        origins_page.write(workdir, config, found)
    devices.wait_for_all("the study's page")  # none ends before the others
    return workdir / "index.html"


def configs(config: Config, workdir: pathlib.Path, by: str) -> Iterator[tuple[str, Config]]:
    """Yields the run that leaves nothing out, "inside", then those of each origin, named as `_name` does.

    Raises:
      ValueError: as `study`.
    """
    yield "inside", config
    run = Run(config, workdir / "inside")
    left, reasons = able(run, by)
    if len(left) < 2:
        told = "".join(f"; {name}: {reason}" for name, reason in reasons.items())
        raise ValueError(f"the study 'origins' by {by}: {len(left)} can be left out, at least 2 are needed{told}")
    for origin in left:
        without_it = changed(config, "splits", table=_table(workdir, origin, "others", without(run.rows, origin, by)))
        alone = _largest(run, origin, by)
        if alone:
            lines = without(run.rows, origin, by, alone)
            yield _name(origin, "one"), changed(config, "splits", table=_table(workdir, origin, "one", lines))
        yield _name(origin, "others"), without_it
        augmented = _augmented(without_it)
        if augmented != without_it:
            yield _name(origin, "augmentation"), augmented
        if config.data.illumination == "as_is" and not config.bridge.released:  # whose U-Nets know it as it is
            yield _name(origin, "colours"), changed(without_it, "data", illumination="even")


def able(run: Run, by: str) -> tuple[list[str], dict[str, str]]:
    """Returns the origins that can be left out, and of the others why not; `run` leaves nothing out and is prepared."""
    data, found = run.config.data, collections.defaultdict(list)
    for row in run.rows:
        if row.source in data.own and row.split in ("train", "validation", "test"):
            found[ORIGIN_OF[by](row)].append(row)
    found.pop("", None)
    left, reasons = [], {}
    for name, members in sorted(found.items()):
        uses = {data.sources[row.source].use for row in members} - {"all"}
        lacking = _lacking(run, without(run.rows, name, by))
        if uses:
            reasons[name] = f"it is for {uses.pop()} only"
        elif len(_kinds(run, [row for row in members if row.split == "test"])) < 2:
            reasons[name] = "its held-out images are not of both kinds"
        elif lacking:
            reasons[name] = f"without it {lacking}"
        else:
            left.append(name)
    return left, reasons


def without(rows: Sequence[Row], origin: str, by: str, kept: str | None = None) -> list[Place]:
    """Returns where each image is where an origin is left out of training.

    Args:
      rows: the images, as they were dealt with nothing left out.
      origin: its images are the test, beside the other test images; those that took no part still take none.
      by: as in `study`.
      kept: the one origin that is trained on; None = all others.
    """
    groups = {row.group for row in rows if ORIGIN_OF[by](row) == origin}

    def place(row: Row) -> Place:
        own, trains = ORIGIN_OF[by](row), row.split in ("train", "validation")
        if own == origin:
            return Place(row.image_id, "test" if trains else row.split, -1)
        if row.group in groups or (trains and kept is not None and own != kept):
            return Place(row.image_id, "unused", -1)
        return Place(row.image_id, row.split, row.fold)

    return [place(row) for row in rows]


def _lacking(run: Run, places: Sequence[Place]) -> str:
    """Returns what is missing for a training where images are at some places; "" for nothing."""
    split = {place.image_id: place.split for place in places}
    own = [row for row in run.rows if row.source in run.config.data.own and row.target >= 0]
    trained = {row.target for row in own if split[row.image_id] == "train"}
    missing = [name for number, name in enumerate(run.classes.names) if number not in trained]
    if missing:
        return f"no image of {', '.join(missing)} is trained on"
    if len(_kinds(run, [row for row in own if split[row.image_id] == "validation"])) < 2:
        return "validation images are not of both kinds"
    return ""


def _kinds(run: Run, rows: Sequence[Row]) -> set[int]:
    """Returns which of malignant, 1, and benign, 0, the labels of images say."""
    return {int(run.classes.judged[row.target]) for row in rows if row.target >= 0} - {-1}


def _largest(run: Run, origin: str, by: str) -> str:
    """Returns the other origin that has most images to train on, of those that can be trained on alone; "" where there
    is none, or where it is all that is left.
    """
    count = collections.Counter(ORIGIN_OF[by](row) for row in run.rows if row.split == "train")
    others = [name for name, _ in count.most_common() if name not in ("", origin)]
    alone = (name for name in others if not _lacking(run, without(run.rows, origin, by, name)))
    return next(alone, "") if len(others) > 1 else ""


def _said(runs: Mapping[str, Run], origin: str) -> dict[str, Said]:
    """Returns what is said on each rung of an origin."""
    named = {rung: runs.get("inside" if rung == "inside" else _name(origin, rung)) for rung in RUNGS}
    return {rung: Said.of(run) for rung, run in named.items() if run}


def _name(origin: str, rung: str) -> str:
    return f"without_{_spelled(origin)}/{rung}"


def _spelled(origin: str) -> str:
    """Returns an origin as names of files may have it."""
    return "".join(letter if letter.isalnum() else "_" for letter in origin)


def _table(workdir: pathlib.Path, origin: str, rung: str, places: Sequence[Place]) -> str:
    """Writes a table that `splits.table` may name, and returns its path."""
    path = workdir / "tables" / f"{_spelled(origin)}_{rung}.csv"
    write_table(path, Place._fields, ((one, split, str(fold)) for one, split, fold in places))
    return str(path.absolute())


def _augmented(config: Config) -> Config:
    """Returns `config` with an augmentation of the classifier that is as strong as STRONGER; or itself, if it is."""
    own = config.classifier.augmentation
    least = {name: max(getattr(own, name), value) for name, value in STRONGER.items()}
    return changed(config, "classifier.augmentation", **least)
