"""What is checked of a part before the first step: of somebody's own as of ours.

Each check raises ValueError that begins with the field and the name and says which part of the protocol is not met.
"""

import inspect
from collections.abc import Callable
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from segfusion_jax.bridge.modes import MODES
from segfusion_jax.config import Config
from segfusion_jax.models.functional import functional
from segfusion_jax.plugins.protocols import PROTOCOLS
from segfusion_jax.runtime import plugins

_BATCH = 2
_CLASSES = 3


def check(config: Config) -> None:
    """Loads and checks every part of somebody else's that a config names.

    Raises:
      ValueError: one cannot be imported, or does not meet its contract.
    """
    for field, name in config.plugins.items():
        part, where = plugins.load(name, field), f"config.{field} = {name!r}"
        match field.rpartition(".")[2]:
            case "backbone":
                size = config.classifier.image_size
                check_backbone(part, where, image_size=size, channels=MODES[config.bridge.mode].channels)
            case "loss":
                check_loss(part, where)
            case "extra":
                section = config.segmenter if field.startswith("segmenter") else config.classifier
                check_augmentation(part, where, image_size=section.image_size)
            case "metric_logger":
                _check_call(part, where, "metric_logger", ("folder", "from_step"))
            case "reader":
                check_reader(part, where)


def check_backbone(
    make: Callable[..., Any], where: str, *, image_size: tuple[int, int] = (64, 48), channels: int = 3
) -> None:
    """Checks a `protocols.Backbone` by shapes and dtypes, without computing."""
    options: dict[str, Any] = dict(dropout=0.1, drop_path=0.1, axis_name=None, remat=False, dtype=jnp.float32)
    options |= dict(num_classes=_CLASSES, channels=channels)
    try:
        module = nnx.eval_shape(lambda: make(**options, rngs=nnx.Rngs(0)))
    except Exception as error:
        _refuse(where, f"called with {', '.join(options)} and rngs", f"{type(error).__name__}: {error}", error)
    if not isinstance(module, nnx.Module):
        _refuse(where, "returns an nnx.Module", f"it returns {type(module).__name__}")
    network = _split(module, where)
    if "head" not in network.params:
        _refuse(where, "its last layer is called head", f"its parts are {', '.join(map(str, network.params))}")
    for path, leaf in jax.tree_util.tree_leaves_with_path(network.params):
        if leaf.dtype != jnp.float32:
            _refuse(where, "parameters are float32", f"{jax.tree_util.keystr(path)} is {leaf.dtype}")
    images = jax.ShapeDtypeStruct((_BATCH, *image_size, channels), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))

    def called(method: str, *args: Any, **options: Any) -> Any:
        def run(params, batch_stats, args, traced):
            return network.apply(params, batch_stats, *args, **traced, **options, method=method)

        traced = {"key": options.pop("key")} if "key" in options else {}
        try:
            result, statistics = jax.eval_shape(run, network.params, network.batch_stats, args, traced)
        except Exception as error:
            _refuse(where, f"method {method}", f"{type(error).__name__}: {error}", error)
        if jax.tree.structure(statistics) != jax.tree.structure(network.batch_stats):
            _refuse(where, f"method {method} leaves no other state than nnx.BatchStat", f"it leaves {statistics}")
        return result

    for train in (False, True):
        options = {"train": train} | ({"key": key} if train else {})
        maps = called("maps", images, **options)
        _expect(where, "maps", maps, (_BATCH, None, None, None), dtype=None)
        pooled = called("pool", maps)
        _expect(where, "pool", pooled, (_BATCH, None))
        _expect(where, "features", called("features", images, **options), pooled.shape)
    for options in ({}, {"key": key}):
        _expect(where, "classify", called("classify", pooled, **options), (_BATCH, _CLASSES))
    for options in ({"train": False}, {"train": True, "key": key}):
        _expect(where, "__call__", called("__call__", images, **options), (_BATCH, _CLASSES))
    _expect(where, "middle_features", called("middle_features", images), (_BATCH, None))


def check_loss(loss: Callable[..., Any], where: str) -> None:
    """Checks a `protocols.Loss` on drawn logits: shape, values, gradients, and that each image's is its own."""
    rng = np.random.default_rng(0)
    logits = jnp.asarray(np.concatenate([rng.normal(0, 3, (6, _CLASSES)), [[60, -60, 0], [-60, 60, 0]]]), jnp.float32)
    possible = jnp.asarray(np.eye(_CLASSES, dtype=bool)[[0, 1, 2, 0, 1, 2, 0, 0]]).at[5, 1].set(True)
    try:
        values, gradient = jax.jit(
            lambda one: (loss(one, possible), jax.grad(lambda some: loss(some, possible).sum())(one))
        )(logits)
    except Exception as error:
        _refuse(where, "called with logits and possible, traced", f"{type(error).__name__}: {error}", error)
    _expect(where, "the result", values, (len(logits),))
    for what, array in (("the loss is finite", values), ("its gradient is finite", gradient)):
        if not np.isfinite(array).all():
            _refuse(
                where, what, f"of logits {np.asarray(logits[~np.isfinite(array).reshape(8, -1).all(1)][0])} it is not"
            )
    if (values < 0).any():
        _refuse(where, "the loss is at least 0", f"it is {float(values.min())}")
    if not values[6] < values[7]:
        _refuse(where, "the loss of a right answer is lower", f"sure and right {values[6]}, sure and wrong {values[7]}")
    one = jax.jit(loss)
    alone = np.concatenate([one(logits[n : n + 1], possible[n : n + 1]) for n in range(len(logits))])
    if not np.allclose(values, alone, rtol=1e-4, atol=1e-5):
        _refuse(where, "the loss of an image does not depend on the others of its batch", "it does")


def check_augmentation(augment: Callable[..., Any], where: str, *, image_size: tuple[int, int] = (24, 32)) -> None:
    """Checks a `protocols.Augmentation` on drawn images: shapes, dtypes, and that it is a function of its arguments."""
    drawn = np.random.default_rng(0)
    image = drawn.integers(0, 256, (*image_size, 3)).astype(np.uint8)
    mask = drawn.integers(0, 256, image_size).astype(np.uint8)
    for seed in range(3):
        given = image.copy(), mask.copy()
        try:
            first = augment(*given, np.random.default_rng(seed))
            again = augment(image.copy(), mask.copy(), np.random.default_rng(seed))
        except Exception as error:
            _refuse(where, "called with image, mask and rng", f"{type(error).__name__}: {error}", error)
        if not isinstance(first, tuple) or len(first) != 2:
            _refuse(where, "returns image and mask", f"it returns {type(first).__name__}")
        for name, one, before, left in zip(("image", "mask"), first, (image, mask), given, strict=True):
            if getattr(one, "shape", None) != before.shape or one.dtype != np.uint8:
                told = f"{getattr(one, 'dtype', type(one).__name__)} {getattr(one, 'shape', '')}"
                _refuse(where, f"the {name} returned is uint8 {before.shape}", f"it is {told}")
            if not np.array_equal(left, before):
                _refuse(where, f"the {name} given is left as it is", "it is changed")
        if not all(map(np.array_equal, first, again)):
            _refuse(where, "all that is random comes from rng", "the same rng gives another result")


def check_reader(reader: Any, where: str) -> None:
    """Checks a `protocols.Reader`; its records are checked when they are read."""
    for name in ("TITLE", "ADDRESS", "LICENCE"):
        if not isinstance(getattr(reader, name, None), str) or not getattr(reader, name):
            _refuse(where, f"{name} is a text", f"it is {getattr(reader, name, 'not there')!r}")
    _check_call(getattr(reader, "read", None), where, "read", ("root", "data"))


def _check_call(part: Any, where: str, what: str, names: tuple[str, ...]) -> None:
    if not callable(part):
        _refuse(where, f"{what} can be called with {', '.join(names)}", f"it is {part!r}")
    try:
        inspect.signature(part).bind(*names)
    except TypeError as error:
        _refuse(where, f"{what} can be called with {', '.join(names)}", str(error), error)


def _split(module: nnx.Module, where: str) -> Any:
    try:
        return functional(module)
    except ValueError as error:
        _refuse(where, "all of its state is nnx.Param and nnx.BatchStat", str(error), error)


def _expect(where: str, what: str, array: Any, shape: tuple[int | None, ...], dtype: Any = jnp.float32) -> None:
    """Checks shape, of which None is any side, and dtype, of which None is any."""
    found = getattr(array, "shape", None)
    alike = found is not None and len(found) == len(shape) and zip(shape, found, strict=True)
    if not alike or any(want not in (None, is_) for want, is_ in alike):
        told = "[" + ", ".join("any" if side is None else str(side) for side in shape) + "]"
        _refuse(where, f"{what} has shape {told}", f"it is {found if found is not None else type(array).__name__}")
    if dtype is not None and array.dtype != dtype:
        _refuse(where, f"{what} is {jnp.dtype(dtype).name}", f"it is {array.dtype}")


def _refuse(where: str, rule: str, found: str, error: Exception | None = None) -> NoReturn:
    kind = where.partition(" = ")[0].rpartition(".")[2]
    named = getattr(PROTOCOLS.get(kind), "__name__", "")
    protocol = f" (segfusion_jax.plugins.protocols.{named})" if named else ""
    raise ValueError(f"{where} does not meet its protocol{protocol}: {rule}; {found}") from error
