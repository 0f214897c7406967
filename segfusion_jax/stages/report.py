"""Stage 6: all of a run on one page, and its models in a folder that `SegFusion.load` reads."""

import collections
import csv
import dataclasses
import datetime
import json
import os
import pathlib
import platform
import shutil
from collections.abc import Mapping
from typing import Any

from segfusion_jax.atomic import write_text
from segfusion_jax.config import Config
from segfusion_jax.datasets.sources import SOURCES
from segfusion_jax.evaluation.report import contents, page, text
from segfusion_jax.evaluation.report.run import Run
from segfusion_jax.inference import METADATA, NOVELTY, Classes
from segfusion_jax.input.mask_store import MaskStore
from segfusion_jax.parallel import Devices, make_devices
from segfusion_jax.stages.workdir import classifier_weights, load_classes, unet_weights


def report(config: Config, workdir: pathlib.Path) -> None:
    """Writes `report/index.html`, the same in Markdown as `report/summary.md`, and `model/`."""
    devices = make_devices(config.parallel)
    if not devices.is_lead:
        return
    classes = load_classes(config, workdir)
    run = _run(config, workdir, devices, classes)
    _release(config, workdir, run.metrics, classes)
    content = contents.page(run)
    folder = workdir / "report"
    page.write(folder / "index.html", content)
    write_text(folder / "summary.md", text.markdown(content, folder))


def _run(config: Config, workdir: pathlib.Path, devices: Devices, classes: Classes) -> Run:
    source, evaluation = SOURCES[config.data.collection], workdir / "evaluation"
    return Run(
        config=config,
        metrics=json.loads((evaluation / "metrics.json").read_text()),
        audit=json.loads((workdir / "splits" / "audit.json").read_text()),
        classes=classes.names,
        sides=classes.sides,
        collection=source.TITLE,
        address=source.ADDRESS,
        fallbacks=collections.Counter(mask.fallback for mask in MaskStore(workdir / "masks").rows),
        predictions=_lines(evaluation / "predictions.csv"),
        overlaps=_lines(evaluation / "segmentation.csv"),
        figures=evaluation / "figures",
        facts=_facts(workdir, devices),
    )


def _lines(path: pathlib.Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _facts(workdir: pathlib.Path, devices: Devices) -> dict[str, str]:
    versions = json.loads((workdir / "config.json").read_text())["versions"]
    stages = {path.parent.name: json.loads(path.read_text())["seconds"] for path in sorted(workdir.glob("*/done.json"))}
    return {
        "Date": datetime.date.today().isoformat(),
        "Devices": devices.describe(),
        "Machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores",
        "Seconds by stage": ", ".join(f"{name} {seconds:g}" for name, seconds in stages.items()),
        "Versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }


def _release(config: Config, workdir: pathlib.Path, metrics: Mapping[str, Any], classes: Classes) -> None:
    """Writes the weights and what is needed to use them: the folder `model`."""
    folder = workdir / "model"
    folder.mkdir(exist_ok=True)
    unets = [f"unet_{fold}.safetensors" for fold in range(config.splits.num_folds)]
    classifiers = (
        [f"classifier_{fold}.safetensors" for fold in range(config.splits.num_folds)]
        if config.classifier.fold_ensemble
        else ["classifier.safetensors"]
    )
    sources = [*unet_weights(config, workdir), *classifier_weights(config, workdir)]
    for source, name in zip(sources, [*unets, *classifiers], strict=True):
        shutil.copyfile(source, folder / name)
    shutil.copyfile(workdir / "evaluation" / NOVELTY, folder / NOVELTY)
    data = dataclasses.replace(config.data, root="", mask_root="", records="")  # this machine's paths concern nobody
    calibration = metrics.get("calibration", {})
    metadata = {
        "config": json.loads(dataclasses.replace(config, data=data).to_json()),
        "unets": unets,
        "classifiers": classifiers,
        "views": {"segmenter": config.segmenter.views, "classifier": config.classifier.views},
        "classes": classes.names,
        "positive": [name for name, positive in zip(classes.names, classes.positive, strict=True) if positive],
        "num_logits": classes.num_logits,
        "threshold": metrics["classification"]["threshold"]["value"],
        **{name: calibration[name] for name in ("temperature", "shift", "prevalence") if name in calibration},
        "metrics": metrics,
        "use": "Research use only. Not a medical device.",
    }
    (folder / METADATA).write_text(json.dumps(metadata, indent=2) + "\n")
