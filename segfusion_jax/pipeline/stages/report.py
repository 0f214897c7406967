"""Stage 7: all of a run on one page, and its models in a folder that `SegFusion.load` reads."""

import collections
import csv
import datetime
import json
import os
import pathlib
import platform

from segfusion_jax.config import Config
from segfusion_jax.datasets.collections import READERS
from segfusion_jax.input.mask_store import MaskStore
from segfusion_jax.pipeline.stages.release import release
from segfusion_jax.pipeline.workdir import load_classes, stage_seconds
from segfusion_jax.report import contents, page, text
from segfusion_jax.report.results import Run
from segfusion_jax.runtime.atomic import write_text
from segfusion_jax.runtime.devices import Devices, make_devices
from segfusion_jax.serving.ensembles import Classes


def report(config: Config, workdir: pathlib.Path) -> None:
    """Writes `report/index.html`, the same in Markdown as `report/summary.md`, and `model/`."""
    devices = make_devices(config.parallel)
    if not devices.is_lead:
        return
    classes = load_classes(config, workdir)
    run = _run(config, workdir, devices, classes)
    release(config, workdir, run.metrics, classes)
    content = contents.page(run)
    folder = workdir / "report"
    page.write(folder / "index.html", content)
    write_text(folder / "summary.md", text.markdown(content, folder))


def _run(config: Config, workdir: pathlib.Path, devices: Devices, classes: Classes) -> Run:
    source, evaluation = READERS[config.data.collection], workdir / "evaluation"
    return Run(
        config=config,
        metrics=json.loads((evaluation / "metrics.json").read_text()),
        audit=json.loads((workdir / "splits" / "audit.json").read_text()),
        classes=classes.names,
        binary_names=classes.binary_names,
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
    return {
        "Date": datetime.date.today().isoformat(),
        "Devices": devices.describe(),
        "Machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores",
        "Seconds by stage": ", ".join(f"{name} {seconds:g}" for name, seconds in stage_seconds(workdir).items()),
        "Versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
