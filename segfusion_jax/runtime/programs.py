"""Compiled programs that the next process finds again, without tracing or compiling anything."""

import functools
import hashlib
import importlib.metadata
import logging
import os
import pathlib
import pickle
import platform
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import serialize_executable

from segfusion_jax.runtime import caches
from segfusion_jax.runtime.atomic import write_bytes

_log = logging.getLogger(__name__)

_DIGEST_BYTES = hashlib.sha256().digest_size


def keep() -> None:
    """Makes this process keep what it compiles in the user's cache folder, unless JAX keeps it elsewhere already.

    The program `segfusion` does so; a script or a notebook calls it once, before the first model is loaded.

    >>> from segfusion_jax.runtime import programs
    >>> programs.keep()
    """
    if jax.config.values["jax_compilation_cache_dir"] is None:
        try:
            folder = caches.folder("compiled")
        except OSError as error:
            _log.warning("what is compiled cannot be kept: %s", error)
            return
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def kept(function: Callable, identity: str, devices: Sequence[Any], *arguments: Any) -> Callable:
    """Returns a function compiled for such arguments: loaded if it was kept, else compiled, and kept.

    It is found by `identity`, by shapes, dtypes and places of the arguments, the devices, the processor, the versions
    of jax and its libraries, XLA's flags, and this package's code. A file that does not fit is written anew.

    Args:
      function: what is compiled, pure and traceable.
      identity: all that decides what the function computes, beside this package's code.
      devices: where it runs, as `jax.devices()` lists them.
      *arguments: arrays on them.
    """
    folder = jax.config.values["jax_compilation_cache_dir"]
    path = pathlib.Path(folder) / "segfusion_jax" / _digest(identity, arguments) if folder else None
    if path and (program := _load(path, devices)):
        return program
    start = time.monotonic()
    _log.info("compiling for the first time%s", ", kept afterwards" if path else "")
    program = _compile(function, arguments)
    if path:
        _save(path, program, devices, arguments)
    _log.info("compiled in %.1f s", time.monotonic() - start)
    return program


def _compile(function: Callable, arguments: Any) -> jax.stages.Compiled:
    def program(*arguments):
        return function(*arguments)

    # JAX must not find it in its own cache: XLA's CPU backend cannot write what it has read itself.
    program.__name__ = f"kept_{uuid.uuid4().hex}"
    return jax.jit(program).lower(*arguments).compile()


def _digest(identity: str, arguments: Any) -> str:
    leaves, tree = jax.tree.flatten(arguments)
    shapes = [(leaf.shape, str(leaf.dtype), str(leaf.sharding)) for leaf in leaves]
    parts = (identity, str(tree), repr(shapes), _surroundings())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@functools.cache
def _surroundings() -> str:
    """Returns what a program depends on beside its function and arguments, as text."""
    root = pathlib.Path(__file__).parents[1]
    code = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.suffix in (".py", ".cc", ".h"):
            code.update(path.read_bytes())
    device = jax.devices()[0]
    settings = {name: value for name, value in jax.config.values.items() if "cache" not in name}
    facts = (
        *(
            jax.__version__,
            importlib.metadata.version("jaxlib"),
            device.platform,
            device.device_kind,
            device.client.platform_version,
        ),
        *(platform.machine(), _processor(), os.environ.get("XLA_FLAGS", ""), code.hexdigest(), str(settings)),
    )
    return "\0".join(facts)


def _processor() -> str:
    """Returns what the processor can do, by which a CPU's programs are compiled; "" where the system does not tell."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _load(path: pathlib.Path, devices: Sequence[Any]) -> Callable | None:
    """Returns a kept program; None where there is none, it is not this user's own, or it does not fit."""
    try:
        if not path.exists() or not caches.is_own(path) or not caches.is_own(path.parent):
            return None
        content = path.read_bytes()
        if hashlib.sha256(content[_DIGEST_BYTES:]).digest() != content[:_DIGEST_BYTES]:
            raise ValueError("it is damaged")
        return _deserialised(content[_DIGEST_BYTES:], devices)
    except Exception as error:  # of whatever kind: it is compiled again
        _log.debug("%s cannot be used: %s", path, error)
        return None


def _save(path: pathlib.Path, program: jax.stages.Compiled, devices: Sequence[Any], arguments: Any) -> None:
    """Keeps a program, if what is loaded again computes the same."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        content = pickle.dumps(serialize_executable.serialize(program))
        outputs = program(*arguments), _deserialised(content, devices)(*arguments)
        jax.tree.map(np.testing.assert_array_equal, *outputs)
        write_bytes(path, hashlib.sha256(content).digest() + content, private=True)
    except Exception as error:  # a full or read-only disk, or a device whose programs cannot be kept
        _log.debug("%s cannot be kept: %s", path, error)


def _deserialised(content: bytes, devices: Sequence[Any]) -> jax.stages.Compiled:
    return serialize_executable.deserialize_and_load(*pickle.loads(content), execution_devices=devices)
