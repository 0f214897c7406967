"""Stage 7: all of a run on one page, and its models in a folder that `SegFusion.load` reads."""

import collections
import datetime
import os
import platform

from segfusion_jax.datasets.joining import publishers, titles
from segfusion_jax.pipeline.run import Run
from segfusion_jax.pipeline.stages import classify, segment
from segfusion_jax.pipeline.stages.release import release
from segfusion_jax.report import contents, page, text
from segfusion_jax.report.finished_run import FinishedRun
from segfusion_jax.runtime.atomic import write_text
from segfusion_jax.serving.model_folder import MANIFEST, digests
from segfusion_jax.training.choice import told


def report(run: Run) -> None:
    """Writes the page, the same in Markdown, and the folder of the model."""
    if not run.devices.is_lead:
        return
    release(run, run.read_metrics())
    finished = _finished(run)
    content = contents.page(finished)
    page.write(run.page, content)
    write_text(run.summary, text.markdown(content, run.summary.parent))


def _finished(run: Run) -> FinishedRun:
    return FinishedRun(
        config=run.config,
        metrics=run.read_metrics(),
        audit=run.audit,
        classes=run.classes.names,
        binary_names=run.classes.binary_names,
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
        "Devices": run.devices.describe(),
        "Machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores",
        "Seconds by stage": ", ".join(f"{name} {seconds:g}" for name, seconds in run.seconds.items()),
        "Model (SHA-256)": ", ".join(f"{name} {digest}" for name, digest in digests(run.model).items()),
        "Versions": ", ".join(f"{name} {version}" for name, version in run.versions.items()),
    }
