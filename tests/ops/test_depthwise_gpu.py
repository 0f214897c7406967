"""The GPU's kernels of depthwise convolution, interpreted on a CPU, against NumPy in float64, as test_depthwise.py.

Compiling what is interpreted takes seconds a case, so there are few: each kernel, stride, padding and dtype once.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segfusion_jax.models.layers import zero_padding
from segfusion_jax.ops import depthwise_gpu, native
from segfusion_jax.ops.depthwise import depthwise_conv, depthwise_moments
from segfusion_jax.ops.depthwise_gpu import Tiling
from tests.ops import reference

KIND = "NVIDIA H100 80GB HBM3"


@pytest.fixture
def kernels(monkeypatch):
    """All layers go through the kernels, in tiles that neither pixels nor channels fill."""
    monkeypatch.setattr(native, "available", lambda: False)
    monkeypatch.setattr(depthwise_gpu, "tiling", lambda *_: Tiling(pixels=8, channels=16, tiles=3))


@pytest.mark.parametrize(
    ("shape", "size", "stride", "padding", "dtype"),
    [
        ((2, 5, 7, 20), 3, 1, "symmetric", np.float32),
        ((2, 8, 6, 5), 3, 2, "same", np.float32),
        ((1, 9, 5, 17), 5, 1, "same", np.float32),
        ((2, 5, 7, 3), 5, 2, "symmetric", jnp.bfloat16),
    ],
)
def test_value_moments_and_gradients(kernels, shape, size, stride, padding, dtype):
    x, kernel = reference.draw(0, shape, (size, size, shape[-1]), dtype=dtype)
    tolerance = 1e-5 if dtype == np.float32 else 2e-2
    window = zero_padding(padding, shape, size, stride)
    reference.check_moments(depthwise_moments, x, kernel, stride, window, tolerance)


def test_bias_and_activation(kernels):
    x, kernel, bias = reference.draw(0, (2, 5, 4, 20), (3, 3, 20), (20,))
    reference.check_activation(depthwise_conv, x, kernel, bias, 2, ((1, 1), (1, 1)), jax.nn.silu)


def test_nan_stays_in_its_channel_and_in_view(kernels):
    x, kernel = reference.draw(0, (2, 4, 5, 6), (3, 3, 6))
    x[1, 3, 4, 2] = np.nan
    y, moments = depthwise_moments(x, kernel, 1, ((1, 1), (1, 1)))
    assert np.isnan(y[1, 2:, 3:, 2]).all() and np.isnan(y).sum() == 4
    assert (np.isnan(moments) == (np.arange(6) == 2)).all()


@pytest.fixture
def on_gpu(monkeypatch, tmp_path):
    """What is traced is meant for a GPU of KIND, with a table of one layer."""
    table = tmp_path / "table.json"
    table.write_text(json.dumps({KIND: {"6x6x16, 3x3/2, bfloat16": {"moments": [8, 16, 2], "gradients": [4, 16, 1]}}}))
    monkeypatch.setattr(depthwise_gpu, "TABLE", table)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "devices", lambda: [type("Device", (), {"device_kind": KIND})])
    depthwise_gpu._table.cache_clear()
    yield
    depthwise_gpu._table.cache_clear()


def lowered(dtype, *, gradient: bool) -> str:
    def convolve(x, kernel):
        return depthwise_moments(x, kernel, 2, ((1, 1), (1, 1)))[0].astype(jnp.float32).sum()

    step = jax.jit(jax.value_and_grad(convolve, (0, 1)) if gradient else convolve)
    arrays = jnp.ones((2, 6, 6, 16), dtype), jnp.ones((3, 3, 16), dtype)
    return step.trace(*arrays).lower(lowering_platforms=("cuda",)).as_text()


def test_the_table_says_which_layers_they_compute(on_gpu):
    try:
        text = lowered(jnp.bfloat16, gradient=True)
    except RuntimeError as error:  # of jax 0.12, which lowers these kernels where there is a GPU only
        if "No supported GPU devices" not in str(error):
            raise
        pytest.skip("this jax lowers Triton kernels only where there is a GPU")
    assert text.count("triton") == 2 and "stablehlo.convolution" not in text
    assert "triton" not in lowered(jnp.float32, gradient=True)


def test_what_is_to_run_without_our_kernels_has_none(on_gpu):
    with native.disabled():
        text = lowered(jnp.bfloat16, gradient=False)
    assert "triton" not in text and "stablehlo.convolution" in text


def test_the_table_that_is_shipped_can_be_read():
    for layers in depthwise_gpu._table().values():
        for passes in layers.values():
            assert set(passes) <= {"moments", "activation", "gradients"}
            assert all(
                number & number - 1 == 0 for pixels, channels, _ in passes.values() for number in (pixels, channels)
            )
