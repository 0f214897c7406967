"""Compiling the kernels, choosing between them and JAX, and running them on several devices at once."""

import concurrent.futures
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
from jax.sharding import PartitionSpec as P

from segfusion_jax.ops import native
from segfusion_jax.ops.conv import conv_moments, transposed_conv_3x3
from segfusion_jax.ops.depthwise import depthwise_conv
from segfusion_jax.ops.dropout import dropout
from segfusion_jax.ops.excite import squeeze_excite
from segfusion_jax.ops.normalization import channel_moments, scale_shift
from segfusion_jax.ops.resampling import max_pool_2x2
from segfusion_jax.runtime import caches

ONE = ((1, 1), (1, 1))


def params(dtype=np.float32):
    return np.ones((3, 3, 8, 8), dtype), np.ones((3, 3, 8), dtype), np.ones(8, dtype)


OPERATIONS = {
    # its kernels -> an operation of x [batch, height, width, 8] and `params`, to differentiate
    ("conv", "conv_kernel_gradient"): lambda x, square, spatial, bias: conv_moments(x, square, 1, ONE)[0],
    ("transposed_conv",): lambda x, square, spatial, bias: transposed_conv_3x3(x, square, bias),
    ("depthwise", "depthwise_input_gradient", "depthwise_kernel_gradient"): (
        lambda x, square, spatial, bias: depthwise_conv(x, spatial, bias, 2, ONE, jax.nn.relu)
    ),
    ("moments",): lambda x, square, spatial, bias: channel_moments(x)[0],
    ("norm_act", "norm_act_sums", "norm_act_gradient"): (
        lambda x, square, spatial, bias: scale_shift(x, bias.astype("f4"), bias.astype("f4"), jax.nn.silu)
    ),
    ("max_pool", "max_pool_gradient"): lambda x, square, spatial, bias: max_pool_2x2(x),
    ("image_sums", "image_scale"): (
        lambda x, square, spatial, bias: squeeze_excite(x, bias, lambda bias, means: bias * means)
    ),
    ("concatenate_dropout", "concatenate_dropout_gradient"): (
        lambda x, square, spatial, bias: dropout(x, 0.5, key=jax.random.key(0))
    ),
}


def test_every_kernel_belongs_to_an_operation():
    assert sorted(name for names in OPERATIONS for name in names) == sorted(native._NAMES)


@pytest.mark.parametrize("names", OPERATIONS, ids=lambda names: names[0])
def test_float32_on_a_cpu_runs_the_kernels_and_nothing_else_does(kernels, names, monkeypatch):
    def lowered(shape=(2, 4, 6, 8), dtype=np.float32) -> str:
        arrays = np.ones(shape, dtype), *params(dtype)
        step = jax.jit(jax.value_and_grad(lambda *a: OPERATIONS[names](*a).astype("f4").sum(), (0, 1, 2, 3)))
        return step.lower(*arrays).as_text()

    assert all(f"@segfusion_{name}(" in lowered() for name in names)
    others = [lowered(dtype=jnp.bfloat16), lowered(shape=(0, 4, 6, 8))]
    with monkeypatch.context() as context:
        context.setattr(jax, "default_backend", lambda: "gpu")
        others.append(lowered())
    monkeypatch.setattr(native, "available", lambda: False)
    for text in [*others, lowered()]:
        assert not any(f"@segfusion_{name}(" in text for name in names)


def test_an_activation_without_a_kernel_is_jaxs(kernels):
    x, bias = jnp.ones((2, 4, 6, 8)), jnp.ones(8)
    for activation, is_built in [(jax.nn.silu, True), (jnp.tanh, False)]:
        text = jax.jit(lambda x, f=activation: scale_shift(x, bias, bias, f)).lower(x).as_text()
        assert ("segfusion_norm_act" in text) == is_built


def network(x):
    """The sum of what several kernels make one after the other."""
    square, spatial, bias = params()
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


def test_a_gradient_is_the_same_at_every_run(kernels):
    """Whichever threads are quick, what they add up is rounded alike: a run that is resumed repeats what it did."""
    arrays = np.random.default_rng(0).normal(size=(4, 48, 50, 8)).astype(np.float32), *params()

    def losses(*arrays):
        values = (operation(*arrays) for operation in OPERATIONS.values())
        return sum((value**2).sum() for value in values), conv_moments(arrays[0], arrays[1], 1, ONE)[1]

    step = jax.jit(jax.grad(losses, (0, 1, 2, 3), has_aux=True))
    first = step(*arrays)
    for _ in range(30):
        jax.tree.map(np.testing.assert_array_equal, step(*arrays), first)


def test_vmap_runs_a_kernel_for_each(kernels):
    x = np.random.default_rng(0).normal(size=(3, 2, 4, 6, 8)).astype(np.float32)
    np.testing.assert_allclose(jax.vmap(network)(x), [network(part) for part in x], rtol=1e-5)


@pytest.fixture
def warnings(monkeypatch) -> list[str]:
    """What is logged, and `available` as in a new process."""
    said = []
    monkeypatch.setattr(native._log, "warning", lambda message, *args: said.append(message % args))
    monkeypatch.setattr(native, "available", functools.cache(native.available.__wrapped__))
    return said


@pytest.fixture
def cache(tmp_path, monkeypatch) -> pathlib.Path:
    """An empty folder for what is compiled."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "segfusion_jax" / "native"


@pytest.fixture(scope="session")
def compiled() -> str:
    """The kernels' library."""
    library = native._library()
    if library is None:
        pytest.skip("the kernels need a C++ compiler")
    return library._name


@pytest.fixture
def compiler(tmp_path, monkeypatch, compiled) -> pathlib.Path:
    """The log of a compiler that takes half a second to fetch what was compiled before."""
    log, script = tmp_path / "compiler.log", tmp_path / "quick-c++"
    script.write_text(
        "#!/bin/sh\n"
        'while [ $# -gt 0 ]; do [ "$1" = -o ] && to="$2"; shift; done\n'
        f'[ -z "$to" ] || {{ echo "$to" >> {log}; sleep 0.5; cp {compiled} "$to"; }}\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("CXX", str(script))
    return log


def test_without_a_compiler_there_is_one_warning_and_the_same_numbers(kernels, warnings, monkeypatch):
    x = np.random.default_rng(0).normal(size=(2, 4, 6, 8)).astype(np.float32)
    steps = [jax.jit(lambda x: network(x)).lower(x)]
    native.available.cache_clear()
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CXX", "no-such-compiler")
    steps.append(jax.jit(lambda x: network(x)).lower(x))
    assert ["segfusion" in step.as_text() for step in steps] == [True, False]
    assert len(warnings) == 1 and "no C++ compiler" in warnings[0]
    native_sum, sum_without = (float(step.compile()(x)) for step in steps)
    assert native_sum == pytest.approx(sum_without, rel=1e-5)


def test_a_compiler_that_fails_is_quoted(cache, warnings, tmp_path, monkeypatch):
    script = tmp_path / "bad-c++"
    script.write_bytes(b"#!/bin/sh\necho 'error: unknown machine \xab' >&2\nexit 1\n")  # in no Unicode
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    assert not native.available() and not native.available()
    assert len(warnings) == 1 and "bad-c++ cannot compile" in warnings[0] and "unknown machine" in warnings[0]
    assert list(cache.iterdir()) == []


def test_the_library_is_compiled_once(cache, compiler, warnings):
    assert native._library() and native._library()
    (library,) = cache.iterdir()
    assert list(cache.iterdir()) == [library] and len(compiler.read_text().splitlines()) == 1
    assert warnings == []


def test_another_compiler_source_or_flag_makes_another_library(compiler, tmp_path, monkeypatch):
    names = {native._fingerprint(os.environ["CXX"])}
    sources = tmp_path / "cpu"
    shutil.copytree(native._SOURCES, sources)
    monkeypatch.setattr(native, "_SOURCES", sources)
    assert native._fingerprint(os.environ["CXX"]) in names
    (sources / "conv.h").write_text("// changed")
    names.add(native._fingerprint(os.environ["CXX"]))
    names.add(native._fingerprint(sys.executable))
    monkeypatch.setattr(native, "_FLAGS", (*native._FLAGS, "-O1"))
    names.add(native._fingerprint(sys.executable))
    assert len(names) == 4


@pytest.mark.parametrize("content", [b"", b"half of it", None], ids=["empty", "no library", "of another user"])
def test_what_is_damaged_or_anothers_is_made_anew_and_never_loaded(cache, compiler, warnings, content):
    cxx = os.environ["CXX"]
    kept = native._compile(cxx, caches.folder("native"), native._fingerprint(cxx))
    assert kept is not None and kept.parent == cache
    whole = kept.read_bytes()
    if content is None:
        if os.geteuid():
            pytest.skip("only root can give a file away")
        os.chown(kept, 65534, 65534)
    else:
        kept.write_bytes(content)
    assert native._library() and warnings == []
    assert kept.read_bytes() == whole and kept.stat().st_uid == os.geteuid() and kept.stat().st_mode & 0o777 == 0o600
    assert len(compiler.read_text().splitlines()) == 2


def test_where_nothing_can_be_kept_the_kernels_are_made_for_this_process(cache, compiler, warnings, tmp_path):
    cache.parent.mkdir(parents=True)
    cache.write_text("a file where the folder should be")
    library = native._library()
    assert library and not pathlib.Path(library._name).is_relative_to(tmp_path)


def test_threads_that_ask_at_once_all_get_the_kernels(kernels, warnings):
    with concurrent.futures.ThreadPoolExecutor(4) as executor:
        assert all(executor.map(lambda _: native.available(), range(4)))
    assert warnings == []


def test_processes_that_compile_at_once_do_not_disturb_each_other(cache, compiler):
    program = "from segfusion_jax.ops import native; assert native.available()"
    processes = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(2)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    (library,) = cache.iterdir()
    assert library.suffix == ".so"
    places = compiler.read_text().splitlines()
    assert len(set(places)) == len(places)  # none wrote where another did
