"""One of a test's processes: what `segfusion train` is, with a scenario of this module in the place of the experiment.

`start` starts all of them, from a test; `python -m tests.one_process` is one.
"""

import argparse
import os
import pathlib
import socket
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from segfusion_jax import config
from segfusion_jax.commands import launch, parser, program
from segfusion_jax.models.from_config import make_classifier, make_unet
from segfusion_jax.runtime import interruption, processes
from segfusion_jax.runtime.devices import AXIS, Devices, make_devices
from segfusion_jax.training import steps
from segfusion_jax.training.state import create_state
from tests import shallow
from tests.training import toy

ROOT = pathlib.Path(__file__).parent.parent
BATCH, LENGTHS = 8, (1, 7, 8, 9, 17)


def start(
    folder: pathlib.Path, scenario: str, *options: str, count: int = 2, devices: int = 2
) -> list[subprocess.Popen]:
    """Starts `count` processes of a scenario; one is alone, more find each other."""
    with socket.socket() as any_port:
        any_port.bind(("localhost", 0))
        port = any_port.getsockname()[1]
    together = [f"--coordinator=localhost:{port}", f"--num_processes={count}"] if count > 1 else []
    own = [[*together, f"--process={process}"] if together else [] for process in range(count)]
    return [run(folder, f"--scenario={scenario}", *options, *arguments, devices=devices) for arguments in own]


def run(folder: pathlib.Path, *arguments: str, devices: int = 2, **environment: str) -> subprocess.Popen:
    """Starts one process."""
    flags_of_xla = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=1"
    path = {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.one_process", "--config=synthetic", f"--workdir={folder}"]
    return subprocess.Popen(
        [*command, *arguments],
        cwd=ROOT,
        env=os.environ | path | {"XLA_FLAGS": flags_of_xla, "JAX_PLATFORMS": "cpu"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def unet_problem():
    values = config.Segmenter(image_size=(32, 32), filters=2, dropout=0.0, loss="bce_dice")
    # of seeds 0 to 2 an activation's sign, or a maximum, is decided by rounding, and goes elsewhere on other devices
    unet = make_unet(values, seed=4, dtype=jnp.float32, axis_name=AXIS)
    return unet, steps.segmentation_objective(unet, values)


def efficientnet_problem():
    values = config.Classifier(image_size=(32, 32), width=0.25, depth=0.25, dropout=0.0, drop_path=0.0)
    bridge = config.Bridge()
    network = make_classifier(values, bridge, seed=0, dtype=jnp.float32, axis_name=AXIS)
    return network, steps.classification_objective(network, bridge, values, class_weights=(1.0, 2.0), head_only=False)


PROBLEMS = {"unet": unet_problem, "efficientnet": efficientnet_problem}


def train(devices: Devices, name: str, path: pathlib.Path) -> None:
    """Writes what five steps make of a network, and what it was, each array by its name."""
    network, objective = PROBLEMS[name]()
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 16).astype(np.int32)
    mask = np.zeros((16, 32, 32, 1), np.uint8)
    mask[:, 8:24, 8:24] = 255
    image = (rng.integers(0, 120, (16, 32, 32, 3)) + mask // 4 + 60 * label[:, None, None, None]).astype(np.uint8)
    weight = np.array(14 * [1] + 2 * [0], np.float32)  # of eight devices, the last has only padding
    batch = {"image": image, "mask": mask, "label": label, "weight": weight}
    share = {key: np.split(array, devices.num_processes)[devices.process] for key, array in batch.items()}

    optimizer = optax.sgd(1e-2)
    step = devices.compile_train_step(steps.make_train_step(objective, optimizer, seed=0, ema_decay=0.0))
    initial = create_state(network.params, network.batch_stats, optimizer, ema_decay=0.0)
    state, losses = devices.replicate(jax.tree.map(jnp.copy, initial)), []
    for _ in range(5):
        state, metrics = step(state, share)
        losses.append(float(metrics["loss"]))
    arrays = {"initial": initial, "trained": state}
    named = jax.tree_util.tree_flatten_with_path({key: (s.params, s.batch_stats) for key, s in arrays.items()})[0]
    np.savez(path, losses=losses, **{jax.tree_util.keystr(name): np.asarray(array) for name, array in named})


def evaluate(devices: Devices, folder: pathlib.Path) -> None:
    """Writes which pictures were predicted, in their order, and what came out."""
    from segfusion_jax.training.predict import predict  # takes a second, which the other scenarios need not wait for

    compiled = devices.compile_predict(lambda variables, batch: variables["factor"] * batch["image"].mean((1, 2, 3)))
    options = dict(batch_size=BATCH, devices=devices, config=config.Input(num_threads=1))
    for length in LENGTHS:
        pairs = list(predict(compiled, {"factor": jnp.float32(2)}, toy.examples(length), **options))
        names, values = [row.image_id for row, _ in pairs], [float(value) for _, value in pairs]
        np.savez(folder / f"predicted_{length}_{devices.process}.npz", names=names, values=values)


def agree(devices: Devices, folder: pathlib.Path) -> None:
    """Writes what all agree on in ten steps, of which process 1 says yes at the fourth, and how long asking takes."""
    answers = [devices.any_process(devices.process == 1 and step == 3) for step in range(10)]
    begin = time.perf_counter()
    for _ in range(200):
        answers.append(devices.any_process(False))
    jax.block_until_ready(answers)
    microseconds = (time.perf_counter() - begin) / 200 * 1e6
    np.savez(folder / f"agreed_{devices.process}.npz", answers=list(map(bool, answers)), microseconds=microseconds)


def alone(values, workdir):
    """Trains on one device, and on eight in both ways."""
    first = toy.devices(1)
    for name in PROBLEMS:
        train(first, name, workdir / f"{name}_1.npz")
        for api in ("shard_map", "pmap"):
            train(make_devices(config.Parallel(api=api)), name, workdir / f"{name}_8_{api}.npz")


def together(values, workdir):
    """All that several processes do."""
    devices = make_devices(values.parallel)
    for name in PROBLEMS:
        train(devices, name, workdir / f"{name}_2x4_{devices.process}.npz")
    evaluate(devices, workdir)
    agree(devices, workdir)


def greet(values, workdir):
    """Prints which process of how many it is."""
    devices = make_devices(values.parallel)
    print(f"process {devices.process} of {devices.num_processes}, {devices.any_process(True)}", flush=True)


def slow_lead(values, workdir):
    """Process 0 takes longer than Gloo waits for, before a barrier and before a step."""
    devices = make_devices(values.parallel)
    for name in ("barrier", "step"):
        if devices.is_lead:
            time.sleep(40)
        if name == "barrier":
            devices.wait_for_all(name)
    print("agreed", bool(devices.any_process(True)))


def raises(values, workdir):
    """Process 1 fails while the other waits."""
    devices = make_devices(values.parallel)
    if devices.process == 1:
        raise OSError("disk full")
    devices.wait_for_all("never")


def bug(values, workdir):
    """Process 0 fails by a mistake of ours, while the other waits."""
    devices = make_devices(values.parallel)
    if devices.process == 0:
        raise TypeError("a mistake")
    devices.wait_for_all("never")


def idle(values, workdir):
    """Is in no training."""
    devices = make_devices(values.parallel)
    (workdir / f"ready_{devices.process}").touch()
    time.sleep(1e6)


def terminated(values, workdir):
    """A signal comes while its process waits; then the processes wait by different names."""
    devices = make_devices(values.parallel)
    if devices.process == 1:
        (workdir / "ready_1").touch()
    else:
        while not (workdir / "signalled").exists():
            time.sleep(0.1)
    with interruption.deferred() as asked:
        devices.wait_for_all("all are signalled")
        print(f"asked {asked()}", flush=True)
        devices.wait_for_all(["segment", "bridge"][devices.process])


def step(values, workdir):
    """Takes steps for ever."""
    devices = make_devices(values.parallel)
    while True:
        devices.any_process(False)
        (workdir / f"ready_{devices.process}").touch()


def wait(values, workdir):
    """Process 0 and 1 wait for a third, of three."""
    devices = make_devices(values.parallel)
    (workdir / f"ready_{devices.process}").touch()
    if devices.process == 2:
        time.sleep(1e6)
    devices.wait_for_all("never")


def compute(values, workdir):
    """Is busy for ever."""
    devices = make_devices(values.parallel)
    (workdir / f"ready_{devices.process}").touch()
    while True:
        pass


def main() -> int:
    """Runs the scenario that the command line names."""
    shallow.patch(setattr)  # of this process
    options = argparse.ArgumentParser(allow_abbrev=False)
    options.add_argument("--scenario", required=True, help="function of this module")
    options.add_argument("--heartbeat", type=int, default=processes.HEARTBEAT_SECONDS, help="seconds")
    ours, words = options.parse_known_args()
    processes.HEARTBEAT_SECONDS = ours.heartbeat

    def train(arguments: argparse.Namespace) -> int:
        globals()[ours.scenario](*launch.start(arguments))
        return 0

    return program.run(train, parser.parse(["train", *words]))


if __name__ == "__main__":
    sys.exit(main())
