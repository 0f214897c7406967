"""What a run will take: the memory and arithmetic of its train steps, compiled for its devices, and its time."""

import dataclasses
import functools
import logging
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax

from segfusion_jax.config import Config, Training
from segfusion_jax.datasets.classes import Told
from segfusion_jax.datasets.prepared import Prepared
from segfusion_jax.input.examples import Examples, empty_batch
from segfusion_jax.input.loader import TrainStream
from segfusion_jax.models.functional import Functional
from segfusion_jax.ops import native
from segfusion_jax.pipeline.run import Run
from segfusion_jax.pipeline.stages import classify, segment
from segfusion_jax.pipeline.timing import Pace, estimate, store_sample, time_predictions, time_steps, training_batches
from segfusion_jax.pipeline.workload import STEPS, Workload, workload
from segfusion_jax.runtime import footprint
from segfusion_jax.runtime.devices import Devices
from segfusion_jax.runtime.footprint import Footprint
from segfusion_jax.runtime.progress import duration
from segfusion_jax.serving.ensembles import Classes
from segfusion_jax.training import steps
from segfusion_jax.training.state import TrainState, create_state
from segfusion_jax.training.trainer import Phase, steps_per_epoch

_log = logging.getLogger(__name__)

_Row = tuple[str, ...]
"""A line of the table: a label and a cell for each model, or nothing but a heading."""


@dataclasses.dataclass(frozen=True)
class _Model:
    """A network and its train step, compiled.

    Attributes:
      name: what it is called.
      section: name of its section of the config.
      training: how it is trained.
      image_size: height and width of its images, in pixels.
      state: shapes of what is trained.
      batch_bytes: bytes of a device's share of a batch.
      num_images: most images that one such network is trained on; None = unknown.
      needs: what a step takes.
      pace: times some steps.
    """

    name: str
    section: str
    training: Training
    image_size: tuple[int, int]
    state: TrainState
    batch_bytes: int
    num_images: int | None
    needs: Footprint
    pace: Callable[[], Pace]


def plan(run: Run) -> str:
    """Compiles the train steps of the U-Nets, if any are trained, and of the classifier's phase "all"; makes a few.

    Of the workdir only what the stage `prepare` found is read, if it is there. Pretrained weights, which change no
    shape, are left out. All processes call this together.

    Returns:
      What the steps need of the devices, and how long each stage will take, as text; nothing is written.
    """
    config, work = run.config, workload(run)
    _log.info("counting the images: %s", work.origin if work else "the files are not there")
    images, storing = _images(run, work)
    has_unets = bool(work.unet_training) if work else not config.bridge.released
    models = [*([_unet(run, work, images)] if has_unets else []), _classifier(run, work, images)]
    told = (
        work.origin
        if work
        else f"not found: taken for {len(_unread(config).names)} classes and {STEPS:,} steps an epoch"
    )
    if work:
        epochs = f"{_unet_steps(config, work):,} (U-Net), " if has_unets else ""
        epochs += f"{_classifier_steps(config, work):,} (classifier)"
        told += f": {len(work.classes.names)} classes; steps an epoch: {epochs}"
    if not has_unets:
        why = f"masks are by {config.bridge.masks}" if config.bridge.released else "nothing is annotated"
        told += f"; {why}, so that no U-Net will be trained"
    facts = [*_facts(config, run.devices), ("data", told)]
    width = max(len(name) for name, _ in facts)
    lines = [f"{name:<{width}}  {value}" for name, value in facts]
    table = _table(_rows(models, config, run.devices))
    return "\n".join([*lines, "", table, *_remarks(models, run.devices), *_times(run, work, models, storing)])


def _images(run: Run, work: Workload | None) -> tuple[Prepared | None, float]:
    """Returns images by which reading is timed, none where there are no files; and the seconds to store one more."""
    if run.is_prepared or work is None:
        return run.prepared if work else None, 0.0
    return store_sample(run.config)


def _unet(run: Run, work: Workload | None, images: Prepared | None) -> _Model:
    config, section = run.config, run.config.segmenter
    network = run.networks.random_unet(0)
    steps_each = _unet_steps(config, work) if work else STEPS
    phase = segment.make_phase(config, network, steps_per_epoch=steps_each)
    stream = None
    if images:
        rows = next(iter(run.split.unet()[0].values()), images.rows) if run.is_prepared else images.rows
        source = Examples(images, rows, section.image_size, scaled_decoding=True)
        stream = TrainStream(source, section.augmentation, section.training.batch_size, 0)
    predict = steps.make_segment(network, section.test_time_augmentation)
    number = max(work.unet_training, default=0) if work else None
    return _compile("U-Net", "segmenter", network, phase, number, predict, stream, run)


def _classifier(run: Run, work: Workload | None, images: Prepared | None) -> _Model:
    config, section = run.config, run.config.classifier
    classes = work.classes if work else _unread(config)
    number = len(classes.told.labels)
    weights = classify.class_weights(config, classes, run.split.training) if run.is_prepared else (1.0,) * number
    network = run.networks.random_classifier(0, classes.num_logits)
    steps_each = _classifier_steps(config, work) if work else STEPS
    labels: dict[str, Any] = dict(class_weights=weights, coarse=classify.coarse(classes))
    phase = classify.make_phase(config, network, "all", steps_per_epoch=steps_each, **labels)
    stream = None
    if images:  # bridged by annotated masks, or by empty ones: the others are not there yet
        rows = run.split.training[0] if run.is_prepared else images.rows
        source = Examples(images, rows, section.image_size, bridge=config.bridge, scaled_decoding=True)
        stream = TrainStream(source, section.augmentation, section.training.batch_size, 0)
    predict = steps.make_classify(network, config.bridge, section.test_time_augmentation)
    number = max(work.classifier_training) if work else None
    return _compile("classifier", "classifier", network, phase, number, predict, stream, run)


def _unread(config: Config) -> Classes:
    if config.data.own_classes:
        return Classes.of(Told(config.data.own_classes, {}), config.data)
    return Classes(("benign", "malignant"), (False, True), 2 if config.data.target == "diagnosis" else 1)


def _unet_steps(config: Config, work: Workload) -> int:
    return steps_per_epoch(config.segmenter.training, work.unet_training or (0,))


def _classifier_steps(config: Config, work: Workload) -> int:
    return steps_per_epoch(config.classifier.training, work.classifier_training)


def _compile(name, section, network: Functional, phase: Phase, num_images, predict, stream, run: Run) -> _Model:
    fields = getattr(run.config, section)
    devices, training, step = run.devices, fields.training, phase.train_step
    fresh = functools.partial(
        create_state, network.params, network.batch_stats, phase.optimizer, ema_decay=training.ema_decay
    )
    state = jax.eval_shape(fresh)
    batch = empty_batch(training.batch_size // devices.num_processes, fields.image_size)
    _log.info("compiling the train step of the %s", name)
    needs = footprint.measure(devices.lower_train_step(step, state, batch))
    batch_bytes = footprint.tree_bytes(batch) * devices.num_processes // devices.mesh.size

    def pace() -> Pace:
        _log.info("timing some steps of the %s", name)
        batches, reading = training_batches(stream, run)
        variables = devices.replicate((network.params, network.batch_stats))
        predicting = time_predictions(devices.compile_predict(predict), variables, batches[0])
        making = time_steps(devices.compile_train_step(step), devices.replicate(fresh()), batches)
        together = operator.add if devices.is_cpu else max
        return Pace(needs.compile_seconds, together(making, reading), together(predicting, reading))

    return _Model(name, section, training, fields.image_size, state, batch_bytes, num_images, needs, pace)


def _times(run: Run, work: Workload | None, models: Sequence[_Model], storing: float) -> list[str]:
    limit = run.devices.memory_bytes
    if work is None or (limit and any(model.needs.memory > limit for model in models)):
        return []
    paces = {model.section: model.pace() for model in models}
    seconds = estimate(run, work, paces.get("segmenter"), paces["classifier"], storing)
    left = {name: 0.0 if run.done(name) else value for name, value in seconds.items()}
    rows = [(name, "done" if run.done(name) else f"about {duration(value)}") for name, value in seconds.items()]
    width = max(len(value) for _, value in rows)
    return [
        "",
        "time of each stage on this machine, from a few steps, at least: without checkpoints, intervals, figures",
        "and the report" + f"; without the masks by {run.config.bridge.masks}" * bool(run.config.bridge.released),
        *(f"  {name:<10}{value:>{width}}" for name, value in rows),
        f"  {'in all':<10}{f'about {duration(sum(left.values()))}':>{width}}",
    ]


def _facts(config: Config, devices: Devices) -> list[tuple[str, str]]:
    mesh, dtype = devices.mesh, devices.compute_dtype(config.compute_dtype)
    device, memory = mesh.devices.flat[0], devices.memory_bytes
    return [
        ("devices", f"{mesh.size} x {device.device_kind}, platform {device.platform}"),
        ("processes", f"{devices.num_processes}, each with {mesh.local_mesh.size} device(s)"),
        ("memory", f"{_quantity(memory, 'B')} a device" if memory else "the devices do not tell"),
        ("step", f"{devices.api}, {dtype}, batch norm over {_norm_group(config)}"),
    ]


def _norm_group(config: Config) -> str:
    return "all devices" if config.parallel.sync_batch_norm else "each device's share"


def _rows(models: Sequence[_Model], config: Config, devices: Devices) -> list[_Row]:
    def row(label: str, cell: Callable[[_Model], str]) -> _Row:
        return label, *map(cell, models)

    def size(label: str, of: Callable[[_Model], float | None], unit: str = "B") -> _Row:
        return row(label, lambda model: _quantity(of(model), unit))

    rows = [
        row("", lambda m: m.name),
        row("image size", lambda m: "{} x {}".format(*m.image_size)),
        row("batch", lambda m: f"{m.training.batch_size:,}"),
        row("  a device", lambda m: f"{m.training.batch_size // devices.mesh.size:,}"),
    ]
    if any(model.training.microbatches > 1 for model in models):
        rows.append(row("  microbatches", lambda m: str(m.training.microbatches)))
    return rows + [
        row("parameters", lambda m: f"{sum(leaf.size for leaf in jax.tree.leaves(m.state.params)):,}"),
        ("state",),
        size("  parameters", lambda m: footprint.tree_bytes(m.state.params)),
        size("  batch-norm statistics", lambda m: footprint.tree_bytes(m.state.batch_stats)),
        size("  optimiser", lambda m: footprint.tree_bytes((m.state.opt_state, m.state.step))),
        size("  moving average", lambda m: footprint.tree_bytes(m.state.average)),
        ("memory of a device",),
        size("  state", lambda m: footprint.tree_bytes(m.state)),
        size("  batch", lambda m: m.batch_bytes),
        size("  arguments in all", lambda m: m.needs.arguments),
        size("  results", lambda m: m.needs.outputs),
        size("  results that replace arguments", lambda m: m.needs.aliased),
        size("  activations and scratch", lambda m: m.needs.temporary),
        size("  in all", lambda m: m.needs.memory),
        ("one step of a device",),
        size("  arithmetic", lambda m: m.needs.flops, "FLOP"),
        size("  memory read and written", lambda m: m.needs.bytes_accessed),
        row("  compiling, unless cached", lambda m: f"{m.needs.compile_seconds:.1f} s"),
        *_exchange(models, config),
    ]


def _exchange(models: Sequence[_Model], config: Config) -> list[_Row]:
    """Returns what the devices tell each other in a step: as compiled, and as the step is written."""

    def compiled(kind: str, model: _Model) -> str:
        ours = [one for one in model.needs.collectives if one.kind == kind]
        return f"{sum(one.times for one in ours):,} x, {_quantity(sum(one.times * one.num_bytes for one in ours), 'B')}"

    def written(model: _Model) -> tuple[int, int]:
        rounds = 1 + (2 * model.training.microbatches if config.parallel.sync_batch_norm else 0)  # forwards, backwards
        return footprint.tree_bytes(model.state.params), rounds * footprint.tree_bytes(model.state.batch_stats)

    kinds = sorted({one.kind for model in models for one in model.needs.collectives})
    if not kinds:
        return [("exchange between devices", *("none" for _ in models))]
    rows = [("exchange between devices, a step",)]
    rows += [(f"  {kind}", *(compiled(kind, model) for model in models)) for kind in kinds]
    theory = [written(model) for model in models]
    return rows + [
        ("  in theory: gradients", *(f"{_quantity(g, 'B')}, {100 * g / (g + n):4.1f} %" for g, n in theory)),
        ("  in theory: batch norm", *(f"{_quantity(n, 'B')}, {100 * n / (g + n):4.1f} %" for g, n in theory)),
    ]


def _remarks(models: Sequence[_Model], devices: Devices) -> list[str]:
    remarks, limit = [], devices.memory_bytes
    calls = [sum(n for f, n in m.needs.custom_calls.items() if f.startswith(native.PREFIX)) for m in models]
    if any(calls):
        counts = " and ".join(map(str, calls))
        remarks.append(
            f"Arithmetic, memory traffic and scratch leave out the {counts} calls of our native CPU "
            "kernels, which XLA does not count."
        )
    if any(model.training.microbatches > 1 for model in models):
        remarks.append("Arithmetic and memory traffic count one microbatch: XLA counts the body of a loop once.")
    for model in models:
        if model.training.on_device_data:
            each = footprint.tree_bytes(empty_batch(1, model.image_size))
            total = f", {_quantity(each * model.num_images, 'B')} in all" if model.num_images else ""
            remarks.append(
                f"config.{model.section}.training.on_device_data: every device also holds the images, "
                f"{_quantity(each, 'B')} each"
                f"{total}; the step described is the one without."
            )
        if limit and model.needs.memory > limit:
            remarks.append(
                f"WARNING: the step of the {model.name} needs {_quantity(model.needs.memory, 'B')} of a device that "
                f"has {_quantity(limit, 'B')}: set config.{model.section}.training.remat or .microbatches, lower "
                ".batch_size, or take more devices."
            )
    return ["", *remarks] if remarks else []


def _table(rows: Sequence[_Row]) -> str:
    """Labels to the left, cells to the right."""
    label = max(len(row[0]) for row in rows)
    widths = [max(len(row[column]) for row in rows if len(row) > 1) for column in range(1, len(rows[0]))]
    lines = (
        f"{row[0]:<{label}}" + "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths, strict=False))
        for row in rows
    )
    return "\n".join(map(str.rstrip, lines))


def _quantity(value: float | None, unit: str) -> str:
    """Writes three digits and a prefix: 824 B, 7.76 MB, 12.3 GFLOP; a dash for None."""
    if value is None:
        return "-"
    power = 0
    while value >= 999.5:
        value, power = value / 1000, power + 1
    digits = 0 if not power or value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f} {' kMGTPE'[power].strip()}{unit}"
