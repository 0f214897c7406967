"""Runs an experiment: `python main.py --config=configs/ham10000.py --config.data.root=PATH --workdir=DIR`."""

import logging as std_logging
import pathlib
import sys

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from segfusion_jax.config import Config
from segfusion_jax.pipeline import experiment
from segfusion_jax.pipeline.stages import metrics
from segfusion_jax.pipeline.studies import bridge_modes, protocols
from segfusion_jax.runtime import interruption, processes
from segfusion_jax.runtime.devices import keep_memory, start_distributed
from segfusion_jax.runtime.locations import cache_folder

_CONFIG = config_flags.DEFINE_config_file("config", None, "Experiment, a file of configs/.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder that the run writes.", required=True)
_STAGES = flags.DEFINE_list("stages", list(experiment.STAGES), "Stages to run, in their order.")
_STUDY = flags.DEFINE_enum(
    "study", None, ["bridge", "protocols"], "Several runs of variants of the config, and a page of them."
)
_REPEATS = flags.DEFINE_integer(
    "repeats", 1, "Classifiers of each mode, with other seeds, in --study=bridge.", lower_bound=1
)
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Compile the training steps, print what they need, and stop.")
_COORDINATOR = flags.DEFINE_string(
    "coordinator", "", 'host:port of process 0 of several; "auto" on Slurm, Open MPI, Kubernetes, Cloud TPU.'
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", 0, "How many processes there are, with --coordinator=host:port.")
_PROCESS = flags.DEFINE_integer("process", 0, "Index of this process, with --coordinator=host:port.")


def main(argv: list[str]) -> None:
    """Checks the config, starts the devices, runs the stages, prints the metrics."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    if _STUDY.value and (_DRY_RUN.value or _STAGES.present):
        sys.exit("error: --study runs all stages of several runs: leave --stages and --dry_run away")
    if _REPEATS.present and _STUDY.value != "bridge":
        sys.exit("error: --repeats goes with --study=bridge only")
    handler = logging.get_absl_handler()
    handler.addFilter(_is_ours_or_serious)
    handler.setFormatter(std_logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    interruption.install()
    keep_memory()
    jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
    workdir = pathlib.Path(_WORKDIR.value).expanduser().absolute()
    try:
        config = Config.from_config_dict(_CONFIG.value)
        if _COORDINATOR.value or _NUM_PROCESSES.value or _PROCESS.value:
            start_distributed(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS.value)
            handler.setLevel(std_logging.INFO if jax.process_index() == 0 else std_logging.WARNING)
        if _DRY_RUN.value:
            needs = experiment.plan(config, workdir)
            if jax.process_index() == 0:
                print(needs)
            return
        if _STUDY.value:
            _study(config, workdir)
            return
        run = experiment.run(config, workdir, _STAGES.value)
    except (ValueError, OSError, FloatingPointError) as error:
        logging.debug("stopped", exc_info=True)
        _exit(f"error: {error}", error)
    except interruption.Stopped as stopped:
        message = f"{stopped}; the same command goes on"
        if jax.distributed.is_initialized() and not stopped.together:
            processes.leave(message, status=stopped.status)
        logging.info("%s", message)
        sys.exit(stopped.status)
    except Exception as error:
        if not jax.distributed.is_initialized():
            raise
        logging.exception("stopped")
        _exit(f"error: {type(error).__name__}: {error}", error)
    if jax.process_index() == 0 and run.done("report"):
        print(f"{metrics.main_table(run.read_metrics())}\n\nreport: {run.page}")


def _study(config: Config, workdir: pathlib.Path) -> None:
    if _STUDY.value == "bridge":
        report = bridge_modes.study(config, workdir, _REPEATS.value)
    else:
        report = protocols.study(config, workdir)
    if jax.process_index() == 0:
        print(f"report: {report}")


def _parse_flags(argv: list[str]) -> list[str]:
    """Parses the command line; of a field that the config does not have, ml_collections raises what it raises."""
    try:
        return app.parse_flags_with_usage(argv)
    except (AttributeError, KeyError) as error:
        inner = error.args[0]
        sys.exit(f"error: the config has no field {inner.args[0] if isinstance(inner, KeyError) else inner}")


def _is_ours_or_serious(record: std_logging.LogRecord) -> bool:
    """Keeps the libraries' remarks, which share absl's log, out of ours; Orbax's all, since its errors are raised."""
    path = pathlib.Path(record.pathname)
    if path == pathlib.Path(__file__) or "segfusion_jax" in path.parts:
        return True
    return record.levelno >= std_logging.WARNING and "orbax" not in path.parts


def _exit(message: str, error: Exception) -> None:
    if jax.distributed.is_initialized():
        # A collective that failed, not memory that ran out; Gloo's errors may come as ValueError.
        of_runtime = isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error)
        processes.leave(message, others_first=of_runtime or "Gloo" in str(error))
    sys.exit(message)


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    flags.FLAGS.set_default("verbosity", logging.INFO)
    app.run(main, flags_parser=_parse_flags)
