"""Stage 1: official files to validated records and grouped splits."""

from segfusion_jax.datasets import prepared
from segfusion_jax.datasets.classes import kinds
from segfusion_jax.pipeline import released
from segfusion_jax.pipeline.run import Run


def prepare(run: Run) -> None:
    """Writes the records, and the tables of `prepared.prepare` into `prepare/`; of several processes, the first does.

    What models saw that the run starts from takes no part, nor do relatives of it.
    Images without the masks that later stages need are refused where such a stage is asked for too.

    Raises:
      FileNotFoundError: the official files are not there; says where they are published.
      ValueError: files cannot be used and data.on_error is "raise", or the images lack what a network needs.
    """
    if run.devices.is_lead:
        saw = {base.named: base.saw for base in released.bases(run.config)}
        folders = run.records, run.folder("prepare")
        prepared.prepare(run.config.data, run.config.splits, *folders, saw=saw, digests=run.digests)
    run.devices.wait_for_all("images dealt")
    run.split.check_classes(*kinds(run.classes.told, run.config.data))
    if set(run.stages) - {"prepare"}:
        run.split.check_masks()
