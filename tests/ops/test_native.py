"""Compiling the kernels, choosing between them and JAX, and running them on several devices at once."""

import functools
import os
import pathlib
import shutil
import stat
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging
from jax.sharding import PartitionSpec as P

from segfusion_jax.ops import native
from segfusion_jax.ops.conv import conv, conv_moments, transposed_conv_3x3
from segfusion_jax.ops.depthwise import depthwise_conv, depthwise_moments
from segfusion_jax.ops.dropout import dropout
from segfusion_jax.ops.excite import squeeze_excite
from segfusion_jax.ops.normalization import channel_moments, scale_shift
from segfusion_jax.ops.resampling import max_pool_2x2

ONE = ((1, 1), (1, 1))


def params(dtype):
    return jnp.ones((3, 3, 8, 8), dtype), jnp.ones((3, 3, 8), dtype), jnp.ones(8, dtype)


def operations(x):
    """Name of its kernel -> one operation of x [batch, height, width, 8] a kernel, to differentiate."""
    square, spatial, bias = params(x.dtype)
    return {
        "conv": lambda x: conv_moments(x, square, 1, ONE)[0],
        "conv_kernel_gradient": lambda x: conv(x, square, bias, 1, ONE, jax.nn.silu),
        "transposed_conv": lambda x: transposed_conv_3x3(x, square, bias),
        "depthwise": lambda x: depthwise_moments(x, spatial, 1, ONE)[0],
        "depthwise_input_gradient": lambda x: depthwise_conv(x, spatial, bias, 2, ONE, jax.nn.relu),
        "norm_act": lambda x: scale_shift(x, jnp.ones(8), jnp.ones(8), jax.nn.silu),
        "norm_act_gradient": lambda x: scale_shift(x, jnp.ones(8), jnp.ones(8), jax.nn.relu),
        "max_pool": max_pool_2x2,
        "max_pool_gradient": max_pool_2x2,
        "image_sums": lambda x: squeeze_excite(x, (), lambda _, means: means),
        "image_scale": lambda x: squeeze_excite(x, (), lambda _, means: means),
        "concatenate_dropout": lambda x: dropout(x, 0.5, key=jax.random.key(0)),
        "concatenate_dropout_gradient": lambda x: dropout(x, 0.5, key=jax.random.key(0)),
    }


def lowered(name, x, platform="cpu") -> str:
    step = jax.jit(jax.grad(lambda x: operations(x)[name](x).astype(jnp.float32).sum()))
    return step.trace(x).lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize("name", operations(jnp.zeros((1, 1, 1, 8))))
def test_float32_on_a_cpu_runs_the_kernel_and_nothing_else_does(kernels, name, monkeypatch):
    x = jnp.ones((2, 4, 6, 8))
    target = f"@segfusion_{name}("
    assert target in lowered(name, x)
    assert "segfusion_" not in lowered(name, x, "cuda")
    assert target not in lowered(name, x.astype(jnp.bfloat16))
    assert target not in lowered(name, x[:0])
    monkeypatch.setattr(native, "available", lambda: False)
    assert "segfusion_" not in lowered(name, x)


def test_an_activation_without_a_kernel_is_jaxs(kernels):
    x, bias = jnp.ones((2, 4, 6, 8)), jnp.ones(8)
    for activation, is_built in [(jax.nn.silu, True), (jnp.tanh, False)]:
        text = jax.jit(lambda x, f=activation: scale_shift(x, bias, bias, f)).lower(x).as_text()
        assert ("segfusion_norm_act" in text) == is_built


def network(x):
    """The sum of what several kernels make one after the other."""
    square, spatial, bias = params(x.dtype)
    y, _ = conv_moments(x, square * 0.1, 1, ONE)
    y = depthwise_conv(y, spatial * 0.1, bias, 1, ONE, jax.nn.silu)
    y = squeeze_excite(max_pool_2x2(y), (), lambda _, means: jnp.tanh(means))
    y = dropout(transposed_conv_3x3(y, square * 0.1, bias), 0.5, key=jax.random.key(0))
    return scale_shift(y, bias, channel_moments(y)[0] * 0.01, jax.nn.hard_swish).sum()


def test_devices_run_their_kernels_at_once(kernels):
    """Each waits for the others at the end of a step, all of them on the threads that the kernels' loops share."""
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

    def share(x):
        return jax.lax.psum(jax.grad(network)(x), "data")

    step = jax.jit(jax.shard_map(share, mesh=mesh, in_specs=P("data"), out_specs=P(), check_vma=False))
    x = np.random.default_rng(0).normal(size=(8, 16, 18, 8)).astype(np.float32)
    alone = sum(np.asarray(jax.grad(network)(x[i : i + 2])) for i in range(0, 8, 2))
    for _ in range(20):
        np.testing.assert_allclose(step(x), alone, rtol=1e-4, atol=1e-3)


def test_vmap_runs_a_kernel_for_each(kernels):
    x = np.random.default_rng(0).normal(size=(3, 2, 4, 6, 8)).astype(np.float32)
    np.testing.assert_allclose(jax.vmap(network)(x), [network(part) for part in x], rtol=1e-5)


@pytest.fixture
def warnings(monkeypatch) -> list[str]:
    """What is logged, and `available` as in a new process."""
    said = []
    monkeypatch.setattr(logging, "warning", lambda message, *args: said.append(message % args))
    monkeypatch.setattr(native, "available", functools.cache(native.available.__wrapped__))
    return said


@pytest.fixture
def cache(tmp_path, monkeypatch) -> pathlib.Path:
    """An empty folder for what is compiled."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "segfusion_jax" / "native"


@pytest.fixture
def compiler(tmp_path, monkeypatch, kernels) -> pathlib.Path:
    """The log of a compiler that takes half a second to fetch what was compiled before."""
    made = native._library()._name
    log, script = tmp_path / "compiler.log", tmp_path / "quick-c++"
    script.write_text(
        "#!/bin/sh\n"
        'while [ $# -gt 0 ]; do [ "$1" = -o ] && to="$2"; shift; done\n'
        f'[ -z "$to" ] || {{ echo "$to" >> {log}; sleep 0.5; cp {made} "$to"; }}\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("CXX", str(script))
    return log


def test_without_a_compiler_there_is_one_warning_and_the_same_numbers(cache, warnings, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CXX", "no-such-compiler")
    x = jnp.ones((2, 4, 6, 8))
    assert float(network(x)) == pytest.approx(float(jax.jit(network)(x)), rel=1e-5)
    assert len(warnings) == 1 and "no C++ compiler" in warnings[0]
    assert not cache.exists()


def test_a_compiler_that_fails_is_quoted(cache, warnings, tmp_path, monkeypatch):
    script = tmp_path / "bad-c++"
    script.write_text("#!/bin/sh\necho 'error: unknown machine' >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    assert not native.available() and not native.available()
    assert len(warnings) == 1 and "bad-c++ cannot compile" in warnings[0] and "unknown machine" in warnings[0]
    assert list(cache.iterdir()) == []


def test_the_library_is_compiled_once(cache, compiler, warnings):
    assert native.available()
    (library,) = cache.iterdir()
    native.available.cache_clear()
    assert native.available()
    assert list(cache.iterdir()) == [library] and len(compiler.read_text().splitlines()) == 1
    assert warnings == []


def test_another_compiler_or_source_makes_another_library(compiler, tmp_path, monkeypatch):
    names = {native._fingerprint(os.environ["CXX"])}
    sources = tmp_path / "cpu"
    shutil.copytree(native._SOURCES, sources)
    monkeypatch.setattr(native, "_SOURCES", sources)
    assert native._fingerprint(os.environ["CXX"]) in names
    (sources / "conv.h").write_text("// changed")
    names.add(native._fingerprint(os.environ["CXX"]))
    names.add(native._fingerprint(sys.executable))
    assert len(names) == 3


@pytest.mark.parametrize("broken", ["a file where the folder should be", "no library"])
def test_what_cannot_be_kept_or_loaded_is_a_warning(cache, compiler, warnings, broken):
    if broken == "no library":
        cache.mkdir(parents=True)
        (cache / f"{native._fingerprint(os.environ['CXX'])}.so").write_bytes(b"half of it")
    else:
        cache.parent.mkdir(parents=True)
        cache.write_text("")
    assert not native.available()
    assert len(warnings) == 1 and str(cache) in warnings[0]


def test_processes_that_compile_at_once_do_not_disturb_each_other(cache, compiler):
    program = "from segfusion_jax.ops import native; assert native.available()"
    processes = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(2)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    (library,) = cache.iterdir()
    assert library.suffix == ".so"
    places = compiler.read_text().splitlines()
    assert len(set(places)) == len(places)  # none wrote where another did
