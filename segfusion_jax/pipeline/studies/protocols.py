"""By how much does leakage flatter? The same images and models under the paper's protocol and under an honest one.

The paper's protocol is what its code and its figures show (docs/evaluation.md): every image is copied ten times with
random augmentation, the copies are dealt to training and test one by one, the test split is balanced, and an image is
called malignant from a probability of one half on.
"""

import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from absl import logging
from scipy import special

from segfusion_jax.bridge.modes import REFERENCE
from segfusion_jax.config import Config
from segfusion_jax.datasets.collections import READERS
from segfusion_jax.evaluation import bootstrap, classification, weighted
from segfusion_jax.pipeline.run import Run
from segfusion_jax.pipeline.studies import variants
from segfusion_jax.pipeline.studies.variants import changed
from segfusion_jax.report import labels, page, plots, text
from segfusion_jax.report.blocks import Estimate, Figure, Page, Section, Table, percent
from segfusion_jax.runtime.atomic import write_text
from segfusion_jax.runtime.devices import make_devices
from segfusion_jax.training.trainer import steps_per_epoch

PROTOCOLS = ("grouped", "by_image", "paper")
"""The protocols, from the honest one to the paper's: nothing leaks; images are split at random; so are augmented
copies of them, and the classes of the test split are balanced."""

METRICS = ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "mcc", "roc_auc", "pr_auc")
"""Those that the paper publishes, and the accuracy where half of the images were malignant."""

PUBLISHED = {
    "ham10000": {
        "with its bridge": dict(
            accuracy=0.9821, precision=0.98, recall=0.98, f1=0.98, mcc=0.96, roc_auc=0.99, pr_auc=0.99
        ),
        "without": dict(accuracy=0.7973),
    },
    "isic2019": {
        "with its bridge": dict(
            accuracy=0.9893, precision=0.99, recall=0.98, f1=0.99, mcc=0.98, roc_auc=1.0, pr_auc=1.0
        ),
        "without": dict(accuracy=0.8259),
    },
    "isic2020": {
        "with its bridge": dict(
            accuracy=0.9901, precision=0.99, recall=0.99, f1=0.99, mcc=0.97, roc_auc=1.0, pr_auc=1.0
        ),
        "without": dict(accuracy=0.82),
    },
}
"""What the paper's README and figures claim, by collection."""


def study(config: Config, workdir: pathlib.Path) -> pathlib.Path:
    """Runs the configs of `configs`; writes `protocols.json`, `index.html` and `summary.md`.

    Args:
      config: the config whose protocol is varied.
      workdir: folder of the study; each run has a folder in it.

    Returns:
      The page.

    Raises:
      ValueError: the config's target are diagnoses, which the paper does not tell apart; or its splits leave no choice
        of the protocol.
    """
    if config.data.target == "diagnosis":
        raise ValueError(
            "config.data.target = 'diagnosis': must be 'malignant' or 'melanoma' for the study 'protocols'"
        )
    for protocol in PROTOCOLS:  # before the first run, not after it
        changed(config, "splits", protocol=protocol)
    config = variants.with_shared_records(config, workdir)
    runs = variants.run("protocols", configs(config, workdir), workdir)
    devices = make_devices(config.parallel)
    if devices.is_lead:
        found = {name: measured(run, config.evaluation.resamples) for name, run in runs.items()}
        write(workdir, found, config)
    devices.wait_for_all("the study's page")  # none ends before the others
    return workdir / "index.html"


def measured(run: Run, resamples: int) -> dict[str, Any]:
    """Returns what a run reaches at a probability of one half, as the networks give it, and how much leaked.

    Returns:
      `protocol`, `bridge`, `n`, `prevalence`; `leaks`, the share of test images that have, in training or validation,
      the `same picture` (or a copy of it) and any relative (`any of these`); `metrics`, entries of METRICS; `dice`, an
      entry or None.
    """
    lines = run.read_predictions()
    logit = next(name for name in lines[0] if name.startswith("logit of "))
    truth = np.array([line["label"] == "1" for line in lines])
    probabilities = special.expit(np.array([float(line[logit]) for line in lines]))
    values = classification.metrics(truth, probabilities, 0.5)
    statistics = weighted.classification_statistics(truth, probabilities, 0.5)
    here = run.audit["relatives_in_training"]["this_split"]
    return {
        "protocol": run.config.splits.protocol,
        "bridge": run.config.bridge.mode,
        "n": len(lines),
        "prevalence": float(truth.mean()),
        "leaks": {name: here[name] for name in ("same picture", "any of these")},
        "metrics": bootstrap.entries(
            {name: values[name] for name in METRICS},
            {name: statistics[name] for name in METRICS},
            [line["group"] for line in lines],
            resamples=resamples,
        ),
        "dice": run.read_metrics()["segmentation"].get("dice"),
    }


def write(folder: pathlib.Path, found: Mapping[str, Mapping[str, Any]], config: Config) -> None:
    """Writes what the runs reached, beside what the paper claims.

    Args:
      folder: to write into.
      found: `measured` by the runs' names.
      config: config of the study.
    """
    write_text(folder / "protocols.json", json.dumps(found, indent=2) + "\n")
    collection = READERS[config.data.collection].TITLE
    published = PUBLISHED.get(config.data.collection, {})
    shown = ("accuracy", "balanced_accuracy", "roc_auc")
    rows = [
        plots.Row(run["bridge"], [run["metrics"][name] for name in shown], f"Protocol '{run['protocol']}'")
        for run in found.values()
    ]
    plots.forest(folder / "figures" / "protocols.png", rows, [labels.label(name) for name in shown])
    content = Page(
        title=f"By how much leakage flatters: {collection}",
        verdict=verdict(found, published),
        warnings=[
            "Accuracy, precision, F1, Matthews correlation and PR-AUC depend on how many test images are malignant, "
            "half of them in the paper's protocol: compare balanced accuracy and ROC-AUC.",
            "Each model was trained once, for equally many steps under all protocols.",
        ],
        sections=[
            Section(
                "What was reached",
                [
                    Figure(
                        "Protocols", "Test images, 95 % intervals over groups.", folder / "figures" / "protocols.png"
                    ),
                    _table(found, published),
                ],
                intro="At a probability of one half, as the paper decides; not calibrated.",
            ),
            Section("What leaked", [_leaks(found)]),
        ],
    )
    page.write(folder / "index.html", content)
    write_text(folder / "summary.md", text.markdown(content, folder))
    logging.info("%s", content.verdict)


def verdict(found: Mapping[str, Mapping[str, Any]], published: Mapping[str, Mapping[str, float]]) -> str:
    """Says how the same models do under the paper's protocol, under the honest one, and what the paper claims."""
    first = {run["protocol"]: run for run in reversed(list(found.values()))}
    honest, paper = first["grouped"], first["paper"]
    leaked = percent(paper["leaks"]["any of these"])
    sentences = [
        f"{_told(paper, 'roc_auc')} and balanced accuracy {_told(paper, 'balanced_accuracy', named=False)} under the "
        f"paper's protocol, in which {leaked} of test images have a relative in training or validation; "
        f"{_told(honest, 'roc_auc')} and {_told(honest, 'balanced_accuracy', named=False)} on held-out groups."
    ]
    if published:
        claim = published["with its bridge"]
        sentences.append(f"The paper claims ROC-AUC {claim['roc_auc']:.2f} and accuracy {claim['accuracy']:.4f}.")
    return " ".join(sentences)


def _told(run: Mapping[str, Any], name: str, *, named: bool = True) -> str:
    entry = run["metrics"][name]
    shown = labels.estimate(name, entry)
    interval = f" ({shown.interval})" if shown.interval else ""
    return f"{labels.label(name) + ' ' if named else ''}{shown.value:.3f}{interval}"


def _table(found: Mapping[str, Mapping[str, Any]], published: Mapping[str, Mapping[str, float]]) -> Table:
    rows = [
        (
            _name(run),
            run["n"],
            percent(run["prevalence"]),
            *labels.estimates(METRICS, run["metrics"]),
            None if run["dice"] is None else labels.estimate("dice", run["dice"]),
        )
        for run in found.values()
    ]
    for name, claims in published.items():
        values = (Estimate(claims[metric]) if metric in claims else None for metric in METRICS)
        rows.append((f"published, {name}", None, "about 50 %", *values, None))
    headings = ("Protocol and bridge", "Test images", "Malignant", *map(labels.label, METRICS), "Dice of masks")
    return Table("Metrics", headings, rows)


def _name(run: Mapping[str, Any]) -> str:
    return f"{run['protocol'].replace('_', ' ')}, bridge '{run['bridge'].replace('_', ' ')}'"


def _leaks(found: Mapping[str, Mapping[str, Any]]) -> Table:
    rows = [
        (_name(run), run["n"], percent(run["leaks"]["same picture"]), percent(run["leaks"]["any of these"]))
        for run in found.values()
    ]
    headings = ("Protocol and bridge", "Test images", "Same picture in training or validation", "Any relative")
    note = "Relatives are the same picture or a copy, near duplicates, images of the same lesion or patient."
    return Table("Test images with relatives in training or validation", headings, rows, note)


def configs(config: Config, workdir: pathlib.Path) -> Iterator[tuple[str, Config]]:
    """Yields each protocol with the bridge of `config`; but for the one in between, without a bridge too.

    All train for as many steps as the honest one: by image there are some more or fewer images, and the paper's copies
    make ten times as many.
    """
    for protocol in PROTOCOLS:
        modes = (config.bridge.mode,) if protocol == "by_image" else (config.bridge.mode, REFERENCE)
        for mode in dict.fromkeys(modes):
            variant = changed(changed(config, "splits", protocol=protocol), "bridge", mode=mode)
            if protocol != "grouped":
                variant = _as_long_as(Run(config, workdir / f"grouped_{config.bridge.mode}"), variant)
            yield f"{protocol}_{mode}", variant


def _as_long_as(honest: Run, config: Config) -> Config:
    """Returns `config` with epochs of as many steps as those of the run `honest`."""
    steps = {
        "segmenter": steps_per_epoch(
            config.segmenter.training, [len(rows) for rows in honest.split.unet()[0].values()]
        ),
        "classifier": steps_per_epoch(config.classifier.training, [len(honest.split.classified("train"))]),
    }
    for name, number in steps.items():
        batch_size = getattr(config, name).training.batch_size
        config = changed(config, f"{name}.training", images_per_epoch=number * batch_size)
    return config
