"""By how much does leakage flatter? The same images and models under the paper's protocol and under honest ones.

The paper's protocol is what its code and its figures show (docs/evaluation.md): of a pool with equally many images of
each class every image is copied ten times with random augmentation, the copies are dealt to training and test one by
one, and an image is called malignant from a probability of one half on. From there to images of another origin each
rung of `rungs.RUNGS` is one change.
"""

import itertools
import json
import logging
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from segfusion_jax.bridge.modes import REFERENCE
from segfusion_jax.config import Config
from segfusion_jax.evaluation import bootstrap, classification, weighted
from segfusion_jax.pipeline.run import Run
from segfusion_jax.pipeline.studies import protocols_page, rungs, variants
from segfusion_jax.pipeline.studies.rungs import PAPERS_MODE, Said, Test
from segfusion_jax.pipeline.studies.variants import changed
from segfusion_jax.runtime.atomic import write_text
from segfusion_jax.runtime.devices import make_devices
from segfusion_jax.training.trainer import steps_per_epoch

_log = logging.getLogger(__name__)

PROTOCOLS = ("paper", "by_image", "grouped")
"""Values of `splits.protocol`: each has models of its own."""

METRICS = ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "mcc", "roc_auc", "pr_auc")
"""Those that the paper publishes, and the accuracy where half of the images were malignant."""

Tested = dict[str, dict[str, list[Said]]]
"""By rung and by who says it, a bridge or a memory: what is said in each draw of the pool."""


def study(config: Config, workdir: pathlib.Path, draws: int = 1) -> pathlib.Path:
    """Trains and tests what stands on the ladder; writes `protocols.json`, `index.html` and `summary.md`.

    Args:
      config: the config whose protocol is varied, with the paper's bridge, without one, and with its own. Its
        `splits.pool` is scaled to what the collection has.
      workdir: folder of the study; each run has a folder in it.
      draws: how often a pool is drawn, its images dealt and the models trained.

    Returns:
      The page.

    Raises:
      ValueError: the config's target are diagnoses, which the paper does not tell apart; or its splits leave no choice
        of the protocol.
    """
    if config.data.own_classes:
        raise ValueError(f"config.data.classes = {config.data.classes!r}: must be empty for the study 'protocols'")
    if config.data.target == "diagnosis":
        raise ValueError(
            "config.data.target = 'diagnosis': must be 'malignant' or 'melanoma' for the study 'protocols'"
        )
    for protocol in PROTOCOLS:  # before the first run, not after it
        changed(config, "splits", protocol=protocol)
    config = variants.with_shared_records(config, workdir)
    runs = variants.run("protocols", configs(config, workdir, draws), workdir, stages=_stages(config))
    tested = _test(runs, workdir, draws)
    devices = make_devices(config.parallel)
    if devices.is_lead:
        found = _measured(config, runs, tested)
        write_text(workdir / "protocols.json", json.dumps(found, indent=2) + "\n")
        protocols_page.write(workdir, config, found, tested)
    devices.wait_for_all("the study's page")  # none ends before the others
    return workdir / "index.html"


def modes(config: Config) -> tuple[str, ...]:
    """Returns the bridges that are tried: the paper's, none, and that of the config."""
    return tuple(dict.fromkeys((PAPERS_MODE, REFERENCE, config.bridge.mode)))


def configs(config: Config, workdir: pathlib.Path, draws: int) -> Iterator[tuple[str, Config]]:
    """Yields each protocol with each bridge, of each draw of the pool, named as `_name` does.

    All train for as many steps as under the paper's protocol, whose copies are ten times as many images.
    """
    pool = config.splits.pool or sys.maxsize  # as many as the rarer class has
    for draw, protocol, mode in itertools.product(range(draws), PROTOCOLS, modes(config)):
        variant = changed(config, "splits", protocol=protocol, pool=pool, seed=config.splits.seed + draw)
        variant = changed(changed(variant, "bridge", mode=mode), "classifier", seed=config.classifier.seed + draw)
        if protocol != "paper":
            variant = _as_long_as(Run(config, workdir / _name(draw, "paper", PAPERS_MODE)), variant)
        yield _name(draw, protocol, mode), variant


def _name(draw: int, protocol: str, mode: str) -> str:
    return f"draw_{draw}/{protocol}_{mode}"


def _stages(config: Config) -> tuple[str, ...]:
    """Returns the stages up to the classifier, with U-Nets where their masks are used."""
    unets = () if config.bridge.masks == "annotated" else ("segment",)
    return ("prepare", *unets, "bridge", "classify")


def _as_long_as(paper: Run, config: Config) -> Config:
    """Returns `config` with epochs of as many steps as those of the run `paper`."""
    numbers = {"classifier": [len(paper.split.classified("train"))]}
    if config.bridge.masks == "predicted":
        numbers["segmenter"] = [len(rows) for rows in paper.split.unet()[0].values()]
    for name, images in numbers.items():
        training = getattr(config, name).training
        steps = steps_per_epoch(training, images)
        config = changed(config, f"{name}.training", images_per_epoch=steps * training.batch_size)
    return config


def _test(runs: Mapping[str, Run], workdir: pathlib.Path, draws: int) -> Tested:
    """Lets models and memories say something of the images of each rung; what has been said is read again."""
    tested: Tested = {}
    for draw, protocol in itertools.product(range(draws), PROTOCOLS):
        ours = {
            run.config.bridge.mode: run for name, run in runs.items() if name.startswith(f"draw_{draw}/{protocol}_")
        }
        folder = workdir / f"draw_{draw}"
        for rung, test in rungs.tests(ours[REFERENCE], folder).items():
            for who, said in _said(ours, rung, test, folder / "said"):
                tested.setdefault(rung, {}).setdefault(who, []).append(said)
    return tested


def _said(ours: Mapping[str, Run], rung: str, test: Test, folder: pathlib.Path) -> Iterator[tuple[str, Said]]:
    reference = ours[REFERENCE]
    memories = [name for name in rungs.MEMORIES if name != "features" or reference.config.classifier.pretrained]
    for who in (*ours, *memories):
        path = folder / f"{rung}_{who}.csv"
        reference.devices.wait_for_all(f"{path.name} of {path.parent.parent.name}")
        if not path.exists():
            _log.info("%s, %s: %d images", rung, who, len(test.rows))
            if who in ours:
                probabilities, nearest = rungs.modelled(ours[who], test), [""] * len(test.rows)
            else:
                probabilities, nearest = rungs.remembered(reference, test, who)
            if reference.devices.is_lead:
                rungs.write(path, test.rows, probabilities, nearest)
            reference.devices.wait_for_all(f"{path.name} written")
        yield who, Said.read(path)


def _measured(config: Config, runs: Mapping[str, Run], tested: Tested) -> dict[str, Any]:
    """Returns what `protocols.json` holds.

    Returns:
      `pool`, images of each class; `draws`; by rung in `rungs`: `n`, test images of the first draw, and `prevalence`;
      `leaks`, the share of test images that have, in training or validation, the `same picture` (or a copy of it) and
      any relative (`any of these`), of the rungs that have models of their own; `said`, entries of METRICS by who says
      it; `gains`, what each bridge brings over none on the same images, entries; `nearest`, by memory the share of test
      images whose nearest training image is a copy of the `same picture` or of the `same group`.
    """
    first = next(iter(runs.values()))
    own = [row for row in first.rows if row.source in config.data.own and row.split != "unused"]
    leaks = {
        run.config.splits.protocol: run.audit["relatives_in_training"]["this_split"]
        for run in runs.values()
        if run.config.splits.seed == config.splits.seed
    }
    resamples = config.evaluation.resamples
    return {
        "collection": config.data.name,
        "pool": len({row.position for row in own if row.target == 1}),
        "draws": len(next(iter(tested["paper"].values()))),
        "rungs": {
            rung: _of_rung(tested[rung], resamples)
            | {"leaks": {name: leaks[rung][name] for name in ("same picture", "any of these")} if rung in leaks else {}}
            for rung in rungs.RUNGS
            if rung in tested
        },
    }


def _of_rung(said: Mapping[str, Sequence[Said]], resamples: int) -> dict[str, Any]:
    first = said[REFERENCE][0]
    bridges = [who for who in said if who not in (REFERENCE, *rungs.MEMORIES)]
    return {
        "n": len(first.labels),
        "prevalence": float(first.labels.mean()),
        "said": {who: entries(draws, resamples) for who, draws in said.items()},
        "gains": {who: gains(said[who], said[REFERENCE], resamples) for who in bridges},
        "nearest": {
            who: {kind: float(np.mean([_share(draw, kind) for draw in said[who]])) for kind in _KINDS}
            for who in said
            if who in rungs.MEMORIES
        },
    }


_KINDS = {"same picture": ("same picture",), "same group": ("same picture", "same group")}


def _share(said: Said, kind: str) -> float:
    return float(np.mean([relation in _KINDS[kind] for relation in said.nearest]))


def entries(draws: Sequence[Said], resamples: int) -> dict[str, dict[str, float]]:
    """Returns METRICS at a probability of one half: means over the draws of the pool, intervals over groups."""
    values = [classification.metrics(said.labels, said.probabilities, 0.5) for said in draws]
    return _intervals(draws, values, [_statistics(said) for said in draws], resamples)


def gains(with_bridge: Sequence[Said], without: Sequence[Said], resamples: int) -> dict[str, dict[str, float]]:
    """Returns by how much METRICS are larger with a bridge, on the same images and in the same resamples."""
    pairs = list(zip(with_bridge, without, strict=True))
    values = [
        {name: more[name] - less[name] for name in METRICS}
        for more, less in (
            [classification.metrics(said.labels, said.probabilities, 0.5) for said in pair] for pair in pairs
        )
    ]
    statistics = [
        {name: bootstrap.difference(_statistics(more)[name], _statistics(less)[name]) for name in METRICS}
        for more, less in pairs
    ]
    return _intervals(with_bridge, values, statistics, resamples)


def _statistics(said: Said) -> dict[str, weighted.Statistic]:
    return weighted.classification_statistics(said.labels, said.probabilities, 0.5)


def _intervals(
    draws: Sequence[Said],
    values: Sequence[Mapping[str, float]],
    statistics: Sequence[Mapping[str, weighted.Statistic]],
    resamples: int,
) -> dict[str, dict[str, float]]:
    sizes = [len(said.labels) for said in draws]
    return bootstrap.entries(
        {name: float(np.mean([of_draw[name] for of_draw in values])) for name in METRICS},
        {name: bootstrap.average([of_draw[name] for of_draw in statistics], sizes) for name in METRICS},
        [group for said in draws for group in said.groups],
        resamples=resamples,
    )
