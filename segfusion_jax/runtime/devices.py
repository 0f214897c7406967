"""Devices: the mesh, compiling a step, moving batches. No other module knows them.

A train step is a pure function of one device's share, `(state, batch) -> (state, metrics)`, with collectives over the
axis "data". `Devices` compiles it for a one-dimensional mesh of all devices of all processes.
"""

import contextlib
import ctypes
import dataclasses
import functools
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from segfusion_jax.config import Parallel
from segfusion_jax.runtime import processes, programs

AXIS = "data"
"""Name of the axis that a step's collectives run over."""

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # of glibc's malloc.h


@dataclasses.dataclass(frozen=True)
class Devices:
    """All devices of all processes, in one row.

    Attributes:
      mesh: one-dimensional, its axis called AXIS.
      api: "shard_map" or "pmap".
    """

    mesh: Mesh
    api: str

    @property
    def process(self) -> int:
        """Index of this process."""
        return jax.process_index()

    @property
    def num_processes(self) -> int:
        """How many processes share the work."""
        return jax.process_count()

    @property
    def is_lead(self) -> bool:
        """Whether this process is the one that writes logs and reports."""
        return jax.process_index() == 0

    @property
    def is_cpu(self) -> bool:
        """Whether they are the processor itself."""
        return self.mesh.devices.flat[0].platform == "cpu"

    @property
    def memory_bytes(self) -> int | None:
        """Memory of one device that a program may take; None where devices do not tell, as CPUs."""
        return (self.mesh.local_mesh.devices.flat[0].memory_stats() or {}).get("bytes_limit")

    def wait_for_all(self, name: str) -> None:
        """Returns when every process has called it with this name."""
        if self.num_processes > 1:
            processes.wait_for_all(name)

    def any_process(self, flag: bool) -> jax.Array | np.bool_:
        """Returns whether any process says so; all call it at the same point, such as the same step of a loop.

        It is queued like a step: the caller goes on, and reads the result some steps later, with `bool`.
        """
        if self.num_processes == 1:
            return np.bool_(flag)
        flags = np.full(self.mesh.local_mesh.size, flag)
        return self._in_turn(_any(self.mesh)(self._shard({"flags": flags})["flags"]))

    def describe(self) -> str:
        """Returns how many devices of what kind there are, and how many processes, as text."""
        return f"{self.mesh.size} x {self.mesh.devices.flat[0].device_kind}, {self.num_processes} process(es)"

    def check_batch_size(self, name: str, batch_size: int, microbatches: int = 1) -> None:
        """Raises ValueError where a batch cannot be shared evenly, or a device's share not be cut into microbatches."""
        if batch_size % (self.mesh.size * microbatches):
            parts = f" x {microbatches} microbatches" if microbatches > 1 else ""
            raise ValueError(f"{name} = {batch_size}: must be divisible by the {self.mesh.size} devices{parts}")

    def round_up(self, batch_size: int) -> int:
        """Returns the smallest batch of at least `batch_size` that can be shared evenly."""
        return -(-batch_size // self.mesh.size) * self.mesh.size

    def compute_dtype(self, name: str) -> jnp.dtype:
        """Returns the dtype that the config's `compute_dtype` means here."""
        if name == "auto":
            name = "float32" if self.is_cpu else "bfloat16"
        return jnp.dtype(name)

    @property
    def compiler_options(self) -> dict[str, str] | None:
        """Options for compiling train steps: on a CPU, XLA is to keep the barriers that `jax.checkpoint` relies on.

        It drops them before it orders the operations, and then computes again what has not been freed yet.
        """
        return {"xla_disable_hlo_passes": "cse_barrier_expander"} if self.is_cpu else None

    def replicate(self, tree: Any) -> Any:
        """Copies arrays to every device."""
        return jax.device_put(tree, NamedSharding(self.mesh, P()))

    def compile_train_step(self, step: Callable) -> Callable:
        """Compiles `(state, batch) -> (state, metrics)`; the caller's state is donated, its batch is on the host.

        `check_vma` is off: with it on, autodiff already sums the gradient of replicated parameters over the axis, and
        the step's own sum of gradients would come out too large by the number of devices.
        """
        mapped = self._map_train_step(step)
        place = self._split if self.api == "pmap" else self._shard
        return lambda state, batch: self._in_turn(mapped(state, place(batch)))

    def lower_train_step(self, step: Callable, state: Any, batch: Mapping[str, Any]) -> jax.stages.Lowered:
        """Returns the program of `compile_train_step`, not compiled yet.

        Args:
          step: the step that is lowered.
          state: arrays, or their shapes and dtypes, which alone count.
          batch: this process's share of a batch: arrays, or their shapes and dtypes.
        """
        replicated, shared = NamedSharding(self.mesh, P()), NamedSharding(self.mesh, P(AXIS))
        state = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=replicated), state)
        if self.api == "pmap":
            return self._map_train_step(step).lower(state, jax.eval_shape(self._split, dict(batch)))
        whole = {name: (self.num_processes * len(array), *array.shape[1:]) for name, array in batch.items()}
        shapes = {n: jax.ShapeDtypeStruct(whole[n], array.dtype, sharding=shared) for n, array in batch.items()}
        return self._map_train_step(step).lower(state, shapes)

    def compile_train_steps(self, step: Callable, most: int) -> Callable:
        """Compiles many steps on examples that are on the devices: `(examples, state, draws) -> (state, metrics)`.

        Args:
          step: makes one step, of one device's share of its draws: `(examples, state, draws) -> (state, metrics)`.
          most: number of steps that one call may make.

        Returns:
          A function of examples and state that are on every device, the state donated, and of this process's share of
          the draws, arrays [steps, batch, ...] on the host. Its metrics are [steps]. Any number of steps is the same
          program.
        """

        def steps(examples, state, draws, count):
            def one(number, carried):
                state, history = carried
                state, metrics = step(examples, state, jax.tree.map(lambda array: array[number], draws))
                return state, jax.tree.map(lambda all, new: all.at[number].set(new), history, metrics)

            metrics = jax.eval_shape(lambda: step(examples, state, jax.tree.map(lambda array: array[0], draws)))[1]
            history = jax.tree.map(lambda metric: jnp.zeros((most, *metric.shape), metric.dtype), metrics)
            return lax.fori_loop(0, count, one, (state, history))

        if self.api == "pmap":
            axes, devices = (None, None, 1, None), list(self.mesh.devices.flat)
            compiled = jax.pmap(steps, axis_name=AXIS, in_axes=axes, out_axes=None, devices=devices)
            place = functools.partial(self._split, axis=1)
        else:
            specs = (P(), P(), P(None, AXIS), P())
            mapped = jax.shard_map(steps, mesh=self.mesh, in_specs=specs, out_specs=(P(), P()), check_vma=False)
            compiled = jax.jit(mapped, donate_argnums=1, compiler_options=self.compiler_options)
            place = functools.partial(self._shard, axis=1)

        def run(examples, state, draws):
            count = len(jax.tree.leaves(draws)[0])
            padded = jax.tree.map(lambda array: np.resize(array, (most, *array.shape[1:])), dict(draws))
            state, history = self._in_turn(compiled(examples, state, place(padded), np.int32(count)))
            return state, jax.tree.map(lambda metric: metric[:count], history)

        return run

    def compile_predict(
        self, predict: Callable, *, identity: str = ""
    ) -> Callable[[Any, Mapping[str, np.ndarray]], Any]:
        """Compiles `(variables, batch) -> outputs`, outputs being arrays with a row an example.

        Args:
          predict: what is compiled, for arguments of each shape when they first come.
          identity: all that decides what it computes beside this package's code; "" = not known. By it a single process
            finds the compiled program again that another one kept, see `programs.kept`.

        Returns:
          A function that takes this process's share of a batch and returns the outputs of all of it, on the host.
        """
        if self.api == "pmap":
            devices = list(self.mesh.devices.flat)
            mapped = jax.pmap(predict, axis_name=AXIS, in_axes=(None, 0), out_axes=0, devices=devices)
            return lambda variables, batch: jax.tree.map(
                lambda array: array.reshape(-1, *array.shape[2:]), jax.device_get(mapped(variables, self._split(batch)))
            )
        mapped = jax.shard_map(predict, mesh=self.mesh, in_specs=(P(), P(AXIS)), out_specs=P(AXIS), check_vma=False)
        if not identity or self.num_processes > 1:
            compiled = jax.jit(mapped)
            return lambda variables, batch: self._gather(compiled(variables, self._shard(batch)))
        compiled = {}

        def run(variables, batch):
            batch = self._shard(batch)
            shapes = jax.tree.leaves(variables)[0].shape, batch["image"].shape
            if shapes not in compiled:
                compiled[shapes] = programs.kept(mapped, identity, list(self.mesh.devices.flat), variables, batch)
            return self._gather(compiled[shapes](variables, batch))

        return run

    def _map_train_step(self, step):
        if self.api == "pmap":
            devices = list(self.mesh.devices.flat)
            return jax.pmap(step, axis_name=AXIS, in_axes=(None, 0), out_axes=None, devices=devices)
        mapped = jax.shard_map(step, mesh=self.mesh, in_specs=(P(), P(AXIS)), out_specs=(P(), P()), check_vma=False)
        return jax.jit(mapped, donate_argnums=0, compiler_options=self.compiler_options)

    def _shard(self, batch, axis=0):
        sharding = NamedSharding(self.mesh, P(*axis * [None], AXIS))
        return jax.tree.map(functools.partial(jax.make_array_from_process_local_data, sharding), dict(batch))

    def _split(self, batch, axis=0):
        local = self.mesh.local_mesh.size
        return jax.tree.map(
            lambda array: array.reshape(*array.shape[:axis], local, -1, *array.shape[axis + 1 :]), dict(batch)
        )

    def _in_turn(self, outputs):
        """Waits, on CPUs of several processes: programs in flight at once take each other's threads and lock up."""
        if self.num_processes > 1 and self.is_cpu:
            jax.block_until_ready(outputs)
        return outputs

    def _gather(self, outputs):
        if self.num_processes == 1:
            return jax.device_get(outputs)
        return multihost_utils.process_allgather(outputs, tiled=True)


@functools.cache
def _any(mesh: Mesh) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(jnp.any, out_shardings=NamedSharding(mesh, P()))


def make_devices(config: Parallel) -> Devices:
    """Returns all devices that this program sees.

    Raises:
      ValueError: "pmap" is asked for on several processes; or JAX_PLATFORMS names what is not there.
    """
    check_platforms()
    if config.api == "pmap" and jax.process_count() > 1:
        raise ValueError('parallel.api = "pmap": is for one process; "shard_map" runs on several')
    # Not jax.make_mesh: it orders a TPU's devices by their place, and `predict` counts on those of a process in a row.
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    return Devices(mesh=Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,)), api=config.api)


def check_platforms() -> None:
    """Starts the devices that JAX_PLATFORMS, else jax, chooses.

    Raises:
      ValueError: they are not there; says what is.
    """
    try:
        jax.devices()
    except (
        RuntimeError,
        AssertionError,
    ) as error:  # of CUDA without its plugin, which says nothing
        asked, why = jax.config.values["jax_platforms"], str(error).partition(" (set ")[0]
        jax.config.update("jax_platforms", "")
        found = ", ".join(sorted({device.platform for device in jax.devices()}))
        jax.config.update("jax_platforms", asked)
        raise ValueError(
            f"JAX_PLATFORMS = {asked!r}: no such device here{f' ({why})' if why else ''}; there is {found}. Set "
            f"JAX_PLATFORMS={found}, or unset it to take the best there is"
        ) from error


def keep_memory() -> None:
    """Makes this process keep memory that it frees, and a CPU run one step at a time; a program calls it first.

    XLA's CPU backend allocates the scratch of each step anew, gigabytes of it; handed back to the system, it returns as
    fresh pages, which cost a tenth to a third of a step. With one step at a time there is only one scratch to keep. It
    changes glibc's allocator for the whole process; elsewhere than on Linux with glibc, and for accelerators, nothing.
    """
    if "JAX_CPU_ENABLE_ASYNC_DISPATCH" not in os.environ:
        jax.config.update("jax_cpu_enable_async_dispatch", False)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for parameter, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_ARENA_MAX, 1)):
            mallopt(parameter, value)


def start_distributed(coordinator: str, num_processes: int, process: int) -> None:
    """Joins the other processes, as `processes.join`, and connects their devices."""
    processes.join(coordinator, num_processes, process)
    # On a CPU the first collective of a group of devices gives up after 30 s; later ones wait as long as it takes.
    with _unheard():
        make_devices(Parallel()).any_process(False)


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Sends standard output nowhere: Gloo, in C++, tells there who is connected."""
    try:
        kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    except OSError:  # it is closed
        yield
        return
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
