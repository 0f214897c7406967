"""Stage 7: all of a run on one page, and its models in a folder that `SegFusion.load` reads."""

import collections
import dataclasses
import datetime
import json
import os
import pathlib
import platform

from segfusion_jax.config import unplaced
from segfusion_jax.datasets.joining import publishers, titles
from segfusion_jax.pipeline.run import Run
from segfusion_jax.pipeline.stages import classify, segment
from segfusion_jax.pipeline.stages.release import release
from segfusion_jax.report import contents, figures, page, text
from segfusion_jax.report.finished_run import FinishedRun
from segfusion_jax.report.pseudonyms import Key, pseudonymised
from segfusion_jax.runtime.atomic import write_text
from segfusion_jax.serving.model_folder import MANIFEST, METADATA, digests
from segfusion_jax.training.choice import told


def report(run: Run) -> None:
    """Writes the page, the same in Markdown, and the folder of the model."""
    if not run.devices.is_lead:
        return
    release(run, run.read_metrics())
    content = contents.page(_finished(run))
    page.write(run.page, content)
    write_text(run.summary, text.markdown(content, run.summary.parent))


def share(run: Run, folder: pathlib.Path, *, photographs: bool, key: Key | None) -> None:
    """Writes the page, the same in Markdown, and the figures that it shows, for others, into a folder of their own.

    Args:
      run: a run whose stages are all done.
      folder: is created; of what is there, files of the same names are replaced.
      photographs: whether pictures of patients are shown.
      key: keeps the numbers that stand for ids; None leaves ids as they are. With numbers no photograph is shown, since
        ids are drawn into these.
    """
    found = dataclasses.replace(_finished(run), photographs=photographs)
    content = contents.page(pseudonymised(found, key) if key else found)
    content = dataclasses.replace(content, sections=figures.copied(content.sections, folder / "figures"))
    page.write(folder / "index.html", content)
    write_text(folder / "summary.md", text.markdown(content, folder))


def _finished(run: Run) -> FinishedRun:
    return FinishedRun(
        config=unplaced(run.config),
        metrics=run.read_metrics(),
        audit=run.audit,
        classes=run.classes.names,
        binary_names=run.classes.binary_names if run.classes.has_sides else (),
        collection=titles(run.config.data),
        address=", ".join(source.ADDRESS for source in publishers(run.config.data)),
        fallbacks=collections.Counter(mask.fallback for mask in run.masks.rows),
        predictions=run.read_predictions(),
        overlaps=run.read_scores(),
        figures=run.figures,
        provenance=_provenance(run),
        facts=_facts(run),
    )


def _provenance(run: Run) -> str:
    digest = digests(run.model)[MANIFEST]
    code = f"segfusion_jax {run.versions['segfusion_jax']}, commit {run.versions.get('commit', 'not known')}"
    return f"Model {digest[:16]} (SHA-256 of its {MANIFEST}) · {code} · {datetime.date.today().isoformat()}"


def _facts(run: Run) -> dict[str, str]:
    chosen = {"unet": segment.best_metric(run.config), "classifier": classify.best_metric(run.config)}
    histories = run.read_histories().items()
    kept = (f"{name.replace('_', ' ')}: {told(lines, chosen[name.split('_')[0]])}" for name, lines in histories)
    longer = (f"stage {stage} {' and then '.join(map(str, before))}" for stage, before in run.longer.items())
    return {
        "Weights": "; ".join(kept),
        **({"Epochs before it was trained for longer": "; ".join(longer)} if run.longer else {}),
        **({"Started from": started} if (started := _started_from(run)) else {}),
        "Devices": run.devices.describe(),
        "Machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores",
        "Seconds by stage": ", ".join(f"{name} {seconds:g}" for name, seconds in run.seconds.items()),
        "Model (SHA-256)": ", ".join(f"{name} {digest}" for name, digest in digests(run.model).items()),
        "Versions": ", ".join(f"{name} {version}" for name, version in run.versions.items()),
    }


def _started_from(run: Run) -> str:
    files = json.loads((run.model / METADATA).read_text())["pretrained"]
    return ", ".join(f"{name}: {file['file']} (SHA-256 {file['sha256']})" for name, file in files.items())
