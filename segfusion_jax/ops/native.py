"""Our kernels for the CPU: compiled once a machine by its C++ compiler, called by XLA on its own threads.

XLA's CPU backend has no fast depthwise convolution, batch norm or 3x3 convolution, forwards or backwards. What is in
`ops/cpu/` is compiled for this processor at the first use, kept in the user's cache folder, and registered with XLA.
Without a compiler the operations are computed by XLA: the same numbers, several times slower.
"""

import contextlib
import contextvars
import ctypes
import functools
import hashlib
import importlib.metadata
import logging
import os
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segfusion_jax.runtime import caches, regular
from segfusion_jax.runtime.atomic import write_bytes

_log = logging.getLogger(__name__)

_SOURCES = pathlib.Path(__file__).parent / "cpu"
_FLAGS = ("-std=c++20", "-O3", "-march=native", "-fno-math-errno", "-shared", "-fPIC", "-w")
_BYTES = 1 << 26
PREFIX = "segfusion_"
"""What the names of all our kernels begin with in a compiled program."""

_NAMES = (
    *("moments", "norm_act", "norm_act_sums", "norm_act_gradient"),
    *("depthwise", "depthwise_input_gradient", "depthwise_kernel_gradient"),
    *("conv", "conv_kernel_gradient", "transposed_conv", "max_pool", "max_pool_gradient"),
    *("image_sums", "image_scale", "concatenate_dropout", "concatenate_dropout_gradient"),
)

_allowed = contextvars.ContextVar("native kernels are allowed", default=True)


@functools.cache
def available() -> bool:
    """Returns whether the kernels are there: compiles and registers them at the first call."""
    try:
        library = _library()
    except (OSError, ValueError) as error:  # no folder to write to, or a disk from which nothing may be run
        _log.warning("our kernels cannot be kept, training on a CPU will be several times slower: %s", error)
        return False
    if library is None:
        return False
    for name in _NAMES:
        handler = getattr(library, PREFIX + name)
        jax.ffi.register_ffi_target(PREFIX + name, jax.ffi.pycapsule(handler), platform="cpu")
    return True


@contextlib.contextmanager
def disabled() -> Iterator[None]:
    """Gives what is traced within the JAX form of every operation: for a program that is to run without our kernels.

    What JAX has traced before, and remembers, keeps the form that it has: trace a function that is new.
    """
    token = _allowed.set(False)
    try:
        yield
    finally:
        _allowed.reset(token)


def allowed() -> bool:
    """Returns whether what is traced may use our kernels, for a CPU or a GPU: it may not within `disabled`."""
    return _allowed.get()


def either(kernel: Callable, fallback: Callable, *arrays: jax.Array, is_built: bool = True) -> Any:
    """Calls `kernel` for float32 where the CPU is the backend and the kernels are there; else `fallback`, its equal.

    For empty arrays it is the fallback, too, since the kernels divide by their sides; and within `disabled`, where
    sizes may be symbols.

    Args:
      kernel: function of `arrays` that runs a kernel by `call`.
      fallback: function of the same arrays that computes the same in JAX.
      *arrays: arguments; their dtypes and sizes decide.
      is_built: whether there is a kernel for what else is asked.
    """
    is_served = is_built and allowed() and all(array.dtype == jnp.float32 and array.size for array in arrays)
    return (kernel if is_served and jax.default_backend() == "cpu" and available() else fallback)(*arrays)


def call(name: str, outputs: Any, *arrays: jax.Array, **attributes: int | np.float32) -> Any:
    """Runs a kernel; `outputs` are the shapes and dtypes of its results."""
    return jax.ffi.ffi_call(PREFIX + name, outputs, vmap_method="sequential")(*arrays, **attributes)


def _library() -> ctypes.CDLL | None:
    compiler = shutil.which(os.environ.get("CXX", "")) or shutil.which("c++")
    if compiler is None:
        _log.warning("no C++ compiler is found (c++, or CXX): training on a CPU will be several times slower")
        return None
    fingerprint = _fingerprint(compiler)
    folder = caches.folder("native")
    path = _kept(folder, fingerprint)
    if path is None:
        try:
            path = _compile(compiler, folder, fingerprint)
        except OSError as error:  # a full disk, or one that is read only
            path = _compile(compiler, caches.temporary(str(error)), fingerprint)
    return ctypes.CDLL(str(path)) if path else None


def _kept(folder: pathlib.Path, fingerprint: str) -> pathlib.Path | None:
    """Returns the library that was kept, whose name tells its content; removes one that is damaged."""
    for path in sorted(folder.glob(f"{fingerprint}-*.so")):
        if caches.is_own(path) and path.name == _name(fingerprint, regular.read(path, _BYTES)):
            return path
        with contextlib.suppress(OSError):
            path.unlink()
    return None


def _name(fingerprint: str, content: bytes) -> str:
    return f"{fingerprint}-{hashlib.sha256(content).hexdigest()}.so"


def _fingerprint(compiler: str) -> str:
    """Hashes all that decides what the compiler makes: sources, flags, compiler, processor, XLA's headers."""
    version = subprocess.run([compiler, "--version"], capture_output=True).stdout
    target = subprocess.run(
        [compiler, "-march=native", "-E", "-v", "-x", "c++", os.devnull], capture_output=True
    ).stderr
    headers = importlib.metadata.version("jaxlib")
    sources = [path.read_bytes() for path in sorted(_SOURCES.iterdir())]
    texts = [version, target, " ".join([*_FLAGS, headers]).encode(), *sources]
    return hashlib.sha256(b"\0".join(texts)).hexdigest()[:16]


def _compile(compiler: str, folder: pathlib.Path, fingerprint: str) -> pathlib.Path | None:
    """Writes the library and returns its path; None where the compiler fails, which is warned of."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made = pathlib.Path(scratch) / "kernels.so"
        command = [compiler, *_FLAGS, "-isystem", jax.ffi.include_dir(), "-o", str(made), str(_SOURCES / "kernels.cc")]
        result = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if result.returncode:
            told = result.stderr[:500]
            _log.warning("%s cannot compile our kernels, training on a CPU will be slower: %s", compiler, told)
            return None
        content = made.read_bytes()
    path = folder / _name(fingerprint, content)
    write_bytes(path, content, private=True)
    return path
