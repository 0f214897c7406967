"""Does the bridge help? A classifier for each of its modes, on the same images, splits, masks and seeds."""

import logging
import pathlib
from collections.abc import Iterator

from segfusion_jax.bridge.modes import MODES, REFERENCE
from segfusion_jax.config import Config
from segfusion_jax.pipeline import comparison
from segfusion_jax.pipeline.run import Run
from segfusion_jax.pipeline.studies import variants
from segfusion_jax.pipeline.studies.variants import changed
from segfusion_jax.runtime.devices import make_devices

_log = logging.getLogger(__name__)


def study(config: Config, workdir: pathlib.Path, repeats: int = 1) -> pathlib.Path:
    """Runs every mode and writes the comparison of `comparison.write` into `workdir`.

    Args:
      config: the config whose bridge is varied.
      workdir: folder of the study; each run has a folder in it.
      repeats: classifiers of each mode, with other seeds.

    Returns:
      The page.

    Raises:
      ValueError: as `comparison.check_sides`.
    """
    comparison.check_sides(config.data)
    config = variants.with_shared_records(config, workdir)
    finished = variants.run("bridge", configs(config, workdir, repeats), workdir)
    devices = make_devices(config.parallel)
    if devices.is_lead:
        runs: dict[str, list[Run]] = {}
        for name, run in finished.items():
            runs.setdefault(name.partition("/")[0], []).append(run)
        compared = comparison.compare(runs, REFERENCE, resamples=config.evaluation.resamples)
        comparison.write(workdir, compared, REFERENCE, title=f"Does the bridge help? {config.data.name}")
        _log.info("%s", comparison.verdict(compared, REFERENCE))
    devices.wait_for_all("the study's page")  # none ends before the others
    return workdir / "index.html"


def configs(config: Config, workdir: pathlib.Path, repeats: int) -> Iterator[tuple[str, Config]]:
    """Yields every mode with predicted masks, then some with annotated ones where all images have such.

    A released model's masks are the only ones, since others could be of images that it saw. They are named
    `mode/number`.
    """
    masks = config.bridge.released or "predicted"
    for mode in (REFERENCE, *(mode for mode in MODES if mode != REFERENCE)):
        yield from _repeated(mode, changed(config, "bridge", mode=mode, masks=masks), repeats)
    if not config.bridge.released and _all_annotated(Run(config, workdir / REFERENCE / "0")):
        for mode in (name for name, mode in MODES.items() if mode.is_tried_with_annotations):
            annotated = changed(config, "bridge", mode=mode, masks="annotated")
            yield from _repeated(f"{mode}, annotated masks", annotated, repeats)


def _repeated(name: str, config: Config, repeats: int) -> Iterator[tuple[str, Config]]:
    first = config.classifier.seed
    return ((f"{name}/{number}", changed(config, "classifier", seed=first + number)) for number in range(repeats))


def _all_annotated(run: Run) -> bool:
    splits = run.audit["splits"]
    return all(splits[name]["with_mask"] == splits[name]["images"] for name in ("train", "validation", "test"))
