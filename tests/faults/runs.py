"""Runs of main.py on a tiny config, in processes of their own, that can be killed and compared."""

import dataclasses
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

from segfusion_jax.training import metric_log

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = """
from tests import tiny


def get_config():
    return tiny.config(
        segmenter__training__epochs=2,
        segmenter__training__ema_decay=0.5,
        classifier__training__epochs=3,
        classifier__frozen_epochs=1,
        checkpoints__seconds=0.2,
        input__log_seconds=0.0,
    ).to_config_dict()
"""
STAGES = ("prepare", "segment", "score", "bridge", "classify")


@dataclasses.dataclass
class Run:
    """A run in one workdir; `start` it as often as you like.

    Attributes:
      folder: of the workdir and what is recorded beside it.
      cache: of compiled programs.
      devices: simulated ones, of each process.
      processes: of the run.
      stages: to run.
      options: more of the command line.
    """

    folder: pathlib.Path
    cache: pathlib.Path
    devices: int = 1
    processes: int = 1
    stages: tuple[str, ...] = STAGES
    options: tuple[str, ...] = ()

    @property
    def workdir(self) -> pathlib.Path:
        return self.folder / "workdir"

    def start(self, within: tuple[str, ...] = ()) -> list[subprocess.Popen]:
        """Starts all processes, each by the command `within`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "tiny_config.py").write_text(CONFIG)
        arguments = [f"--config={self.folder}/tiny_config.py", f"--workdir={self.workdir}"]
        arguments += [f"--stages={','.join(self.stages)}", *self.options]
        if self.processes == 1:
            return [self._start(0, arguments, within)]
        arguments += [f"--coordinator=localhost:{free_port()}", f"--num_processes={self.processes}"]
        return [self._start(number, [*arguments, f"--process={number}"], within) for number in range(self.processes)]

    def finish_on_a_disk_of(self, megabytes: int) -> int:
        """Runs it in a file system of that size, which it has to itself; returns the exit status."""
        mount = f"mount -t tmpfs -o size={megabytes}m none {self.workdir}"
        script = f'{mount} && "$@"; status=$?; cp -r {self.workdir} {self.folder}/kept; exit $status'
        self.workdir.mkdir(parents=True)
        (process,) = self.start(within=("unshare", "--mount", "sh", "-c", script, "sh"))
        status = process.wait(timeout=300)
        self.workdir.rmdir()
        (self.folder / "kept").rename(self.workdir)
        return status

    def _start(self, number: int, arguments: list[str], within: tuple[str, ...]) -> subprocess.Popen:
        flags = f"--xla_force_host_platform_device_count={self.devices} --xla_backend_optimization_level=1"
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "XDG_CACHE_HOME": str(self.cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": flags,
            "BATCHES": str(self.folder / f"batches_{number}"),
        }
        with (self.folder / "log").open("ab") as log:
            program = str(pathlib.Path(__file__).parent / "recorded_main.py")
            return subprocess.Popen(
                [*within, sys.executable, program, *arguments],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def finish(self) -> "Run":
        """Runs it to its end."""
        started = self.start()
        assert [process.wait(timeout=300) for process in started] == [0] * self.processes, self.log()
        return self

    def stop(self, number: signal.Signals, *, after_steps: int) -> list[int]:
        """Starts it, signals the last process after so many new lines of metrics, and returns the exit statuses.

        Any signal but SIGKILL goes to its group, hence to its workers too.
        """
        started, before = self.start(), self.steps()
        deadline = time.monotonic() + 120
        while self.steps() < before + after_steps:
            assert all(process.poll() is None for process in started) and time.monotonic() < deadline, self.log()
            time.sleep(0.01)
        if number == signal.SIGKILL:
            started[-1].kill()
        else:
            os.killpg(started[-1].pid, number)
        return [process.wait(timeout=60) for process in started]

    def steps(self) -> int:
        """Lines of metrics so far."""
        paths = (path for stage in ("segment", "classify") for path in self.workdir.glob(f"{stage}/*/metrics.jsonl"))
        return sum(len(metric_log.read(path)) for path in paths)

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def batches(self) -> list[set[str]]:
        """What the train steps of each process got, whole lines only."""
        texts = [path.read_text() for path in sorted(self.folder.glob("batches_*"))]
        return [set(text[: text.rfind("\n") + 1].splitlines()) for text in texts]

    def results(self) -> dict[str, bytes]:
        """All weights, masks and metrics."""
        names = ("weights.safetensors", "metrics.jsonl", "masks.csv", "splits.csv")
        found = sorted(path for path in self.workdir.rglob("*") if path.name in names)
        return {str(path.relative_to(self.workdir)): path.read_bytes() for path in found}


def free_port() -> int:
    """Returns a port of this machine that nobody listens at."""
    with socket.socket() as a_socket:
        a_socket.bind(("localhost", 0))
        return a_socket.getsockname()[1]


def check_same(one: Run, other: Run) -> None:
    """Checks that weights, masks, metrics and the order of the input are the same bit for bit."""
    ours, theirs = one.results(), other.results()
    assert ours.keys() == theirs.keys()
    differing = [name for name in ours if ours[name] != theirs[name]]
    assert not differing, f"{differing}\n{other.log()}"
    assert one.batches() == other.batches()
    for path in other.workdir.rglob("metrics.jsonl"):
        lines = [(line["step"], line["split"]) for line in metric_log.read(path)]
        trained = [step for step, split in lines if split == "train"]
        assert trained == list(range(1, len(trained) + 1)) and len(set(lines)) == len(lines)
