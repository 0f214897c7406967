"""Rules of single primitives: what ONNX Runtime makes of the translation, against JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax

from segfusion_jax.serving.export.onnx_file import save_onnx

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 6, 5, 3)).astype(np.uint8)
KERNEL = np.random.default_rng(1).normal(size=(3, 3, 3, 4)).astype(np.float32)
LAYOUT = ("NHWC", "HWIO", "NHWC")


def _collatz(x):
    start = x.astype(jnp.int32).max((1, 2, 3)) + 1
    halve = lambda n: jnp.where(n > 1, jnp.where(n - lax.div(n, 2) * 2 == 0, lax.div(n, 2), 3 * n + 1), n)  # noqa: E731
    return lax.while_loop(lambda s: (s[0] > 1).any(), lambda s: (halve(s[0]), s[1] + (s[0] > 1)), (start, start * 0))


FUNCTIONS = {
    "arithmetic": lambda x: (x + 1.5) * (x - 2) / (jnp.abs(x) + 1) - lax.rsqrt(x + 1) + jnp.exp(-x) + jnp.sqrt(x),
    "comparison": lambda x: [x > 9, x >= 9, x < 9, x <= 9, x == 9, x != 9, ~(x > 9) & (x > 3) | (x < 1)],
    "extremes": lambda x: [jnp.clip(x, 3, 90), lax.clamp(3.0, x, 90.0), jnp.maximum(x, 7), x.max((1, 2)), x.min(3)],
    "activations": lambda x: [jax.nn.sigmoid(x - 99), jax.nn.relu(x - 99), jax.nn.silu(x / 99), jax.nn.hard_swish(x)],
    "rounding": lambda x: [jnp.round(x / 2), jnp.floor(x / 7), (x / 2).astype(jnp.int32), x.astype(jnp.uint8)],
    "logarithms of sums": lambda x: [
        jax.nn.logsumexp(x.mean((1, 2)), -1, where=np.array([True, False, True])),
        [jnp.isfinite(y) for y in (jnp.log(x - 99), jnp.log(x), 1 / x)],
    ],
    "softmax": lambda x: jax.nn.softmax(x.mean((1, 2)), -1),
    "sums": lambda x: [x.sum(), x.sum((0, 2)), (x > 9).any(1), (x > 9).all((1, 2))],
    "cut, turned, joined": lambda x: [
        lax.rev(lax.slice_in_dim(x, 1, 4, 2, 1), (2,)),
        x[..., 1:],
        jnp.stack([x, -x], 2),
        jnp.concatenate([x, x], 1)[:, 4:],
    ],
    "padded and cut": lambda x: lax.pad(x, 7.0, [(0, 0, 0), (2, -1, 0), (-1, 3, 0), (0, 0, 0)]),
    "shapes": lambda x: [x.reshape(-1, 30, 3), x.transpose(0, 3, 1, 2), x[:, :1].squeeze(1), x[..., None, :]],
    "repeated": lambda x: jnp.broadcast_to(x.mean((1, 2), keepdims=True), x.shape) + jnp.zeros(x.shape),
    "repeated all through": lambda x: jnp.concatenate([jnp.broadcast_to(x[:, :1] * 2 + 1, x.shape), x], 1),
    "products of matrices": lambda x: [
        x @ KERNEL[0, 0],
        jnp.einsum("bhwc,bhd->bwdc", x, x[:, :, 0]),
        jnp.einsum("bhwc,kh->bkwc", x, np.eye(2, 6, dtype=np.float32)),
    ],
    "convolution": lambda x: lax.conv_general_dilated(x, KERNEL, (2, 1), [(1, 0), (2, 1)], dimension_numbers=LAYOUT),
    "grouped": lambda x: lax.conv_general_dilated(
        x, KERNEL[:, :, :1, :3], (1, 1), "SAME", dimension_numbers=LAYOUT, feature_group_count=3
    ),
    "counted": lambda x: [
        jnp.take_along_axis(
            jax.vmap(lambda row: jnp.zeros(256, jnp.int32).at[row].add(1, mode="promise_in_bounds"))(
                x.reshape(-1, 90).astype(jnp.int32)
            ),
            x.reshape(-1, 90).astype(jnp.int32),
            1,
            mode="promise_in_bounds",
        )
    ],
    "as long as there are images": lambda x: jnp.arange(x.shape[0]) * 2.0 + x.shape[0],
    "while": _collatz,
    "scan": lambda x: lax.scan(lambda s, k: (s * k + 1, s.sum((1, 2))), x, np.array([0.5, 2.0], np.float32)),
    "scan, backwards": lambda x: lax.scan(
        lambda s, k: (s + k, s[:, 0]), x, np.arange(3.0, dtype=np.float32), reverse=True
    ),
    "either": lambda x: lax.platform_dependent(x, cpu=lambda x: 2 * x, default=lambda x: x + x),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_as_jax(name, tmp_path):
    def chain(images):
        leaves = jax.tree.leaves(FUNCTIONS[name](images.astype(jnp.float32)))
        return {f"output_{number:02}": leaf for number, leaf in enumerate(leaves)}

    expected = jax.device_get(jax.jit(chain)(IMAGES))
    save_onnx(chain, export.symbolic_shape("batch, 6, 5, 3"), tmp_path / "model.onnx", {})
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    for output, found in zip(session.get_outputs(), session.run(None, {"images": IMAGES}), strict=True):
        assert found.dtype == expected[output.name].dtype
        np.testing.assert_allclose(found, expected[output.name], rtol=1e-5, atol=1e-4)
    empty = jax.eval_shape(chain, IMAGES[:0])
    for output, found in zip(session.get_outputs(), session.run(None, {"images": IMAGES[:0]}), strict=True):
        assert found.shape == empty[output.name].shape


def test_every_loop_ends_with_an_empty_batch_and_with_a_condition_that_always_holds(tmp_path):
    def endless(x):
        start = x.astype(jnp.int32).sum((1, 2, 3))
        return lax.while_loop(lambda s: (s >= 0).any(), lambda s: s + 1, start)

    for name, function in {"collatz": lambda x: _collatz(x)[1], "endless": endless}.items():
        path = tmp_path / f"{name}.onnx"
        save_onnx(lambda x, f=function: {"y": f(x)}, export.symbolic_shape("batch, 6, 5, 3"), path, {})
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        for batch in (0, 1):
            assert session.run(None, {"images": IMAGES[:batch]})[0].shape == (batch,)


def test_what_has_no_rule_is_named(tmp_path):
    with pytest.raises(NotImplementedError, match="primitive 'erf': there is no rule"):
        shape = export.symbolic_shape("batch, 6, 5, 3")
        save_onnx(lambda x: {"y": lax.erf(x.astype(jnp.float32))}, shape, tmp_path / "model.onnx", {})
