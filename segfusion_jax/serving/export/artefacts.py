"""The files: `segfusion.stablehlo`, `segfusion.onnx`, and `segfusion.json`, which says how to use both."""

import contextlib
import importlib.metadata
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax import export

from segfusion_jax.bridge.traced_clean import FALLBACKS
from segfusion_jax.ops import native
from segfusion_jax.runtime.atomic import write_bytes, write_text
from segfusion_jax.serving.export.chain import Chain, make_chain
from segfusion_jax.serving.export.onnx_file import save_onnx
from segfusion_jax.serving.facts import USE
from segfusion_jax.serving.segfusion import SegFusion

FORMATS = ("stablehlo", "onnx")
PLATFORMS = ("cpu", "cuda", "tpu")
"""What the StableHLO is for."""


def save(
    model: SegFusion,
    folder: pathlib.Path,
    formats: Sequence[str] = FORMATS,
    image_size: tuple[int, int] | None = None,
    data: Sequence[Mapping[str, str]] = (),
) -> list[pathlib.Path]:
    """Writes the whole chain of a model, for batches of any size.

    Args:
      model: loaded with `compute_dtype="float32"`: bfloat16 is not for every platform.
      folder: made if it is not there; files in it are replaced.
      formats: the ones of `FORMATS` that are written.
      image_size: (height, width) of the images that it will take; None for any.
      data: what it learned from and under which licences, as metadata.json of its folder says; goes with the weights.

    Returns:
      The files.

    Raises:
      ValueError: an unknown format, a size that is none, a model that computes in another dtype, or one of images
        whose light is made even.
      ModuleNotFoundError: StableHLO needs the package `flatbuffers`, ONNX `onnx`: the extra [export].
    """
    if image_size is not None and min(image_size) < 1:
        raise ValueError(f"image_size = {image_size}: must be (height, width) in pixels")
    unknown = sorted(set(formats) - set(FORMATS))
    if unknown or not formats:
        raise ValueError(f"formats = {list(formats)}: must be one or more of {', '.join(FORMATS)}")
    if model.config.compute_dtype not in ("float32", "auto"):
        raise ValueError(f"compute_dtype = {model.config.compute_dtype!r}: must be 'float32' to be exported")
    if model.config.data.illumination != "as_is":
        raise ValueError(
            f"data.illumination = {model.config.data.illumination!r}: an exported chain takes pixels as they are; "
            "models of images 'as_is' can be exported"
        )
    folder.mkdir(parents=True, exist_ok=True)
    shape = symbolic_shape(image_size)
    chain, metadata = make_chain(model), describe(model, image_size, data)
    text = json.dumps(metadata, indent=2)
    paths = {name: folder / f"segfusion.{name}" for name in (*formats, "json")}
    if "stablehlo" in formats:
        write_bytes(paths["stablehlo"], bytes(to_stablehlo(chain, shape).serialize()))
    if "onnx" in formats:
        save_onnx(chain, shape, paths["onnx"], {"segfusion": text})
    write_text(paths["json"], text + "\n")
    return list(paths.values())


def symbolic_shape(image_size: tuple[int, int] | None) -> tuple[Any, ...]:
    """Returns the shape of images, [batch, height, width, 3], with symbols for what is not known."""
    sides = ("height", "width") if image_size is None else image_size
    return tuple(export.symbolic_shape(f"batch, {sides[0]}, {sides[1]}, 3"))


def to_stablehlo(chain: Chain, shape: tuple[Any, ...]) -> export.Exported:
    """Returns the chain as one program for all of `PLATFORMS`, without our native kernels and this machine's paths."""
    with native.disabled(), _no_locations():
        return export.export(jax.jit(chain), platforms=PLATFORMS)(jax.ShapeDtypeStruct(shape, np.uint8))


@contextlib.contextmanager
def _no_locations() -> Iterator[None]:
    """Keeps programs made within from saying which lines of which files their operations come from."""
    limit = jax.config.values["jax_traceback_in_locations_limit"]
    jax.config.update("jax_traceback_in_locations_limit", 0)
    try:
        yield
    finally:
        jax.config.update("jax_traceback_in_locations_limit", limit)


def describe(model: SegFusion, image_size: tuple[int, int] | None, data: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Returns what the numbers mean that the exported chain gives."""
    config, classes = model.config, model.classifiers.classes
    sought = {"malignant": "[batch] float32: sum of the probabilities of the positive classes"}
    return {
        "input": {
            "images": {
                "dtype": "uint8",
                "shape": ["batch", *(image_size or ("height", "width")), 3],
                "content": "RGB, upright, each stretched to this size if there is one",
            }
        },
        "outputs": {
            "lesion": "[batch, height, width] float32: probability of lesion",
            "mask": "[batch, height, width] float32: the same, cleaned; lesion from mask_threshold on",
            "fallback": "[batch] int32: why the whole image is taken, a number in fallbacks",
            "probabilities": "[batch, classes] float32: calibrated, at the prevalence below",
            **(sought if classes.has_sides else {}),
            "novelty": "[batch] float32: how unlike the training images; above 1 nobody knows what the rest is worth",
        },
        "classes": list(classes.names),
        "positive": [name for name, positive in zip(classes.names, classes.positive, strict=True) if positive],
        "threshold": model.threshold,
        "prevalence": model.prevalence,
        "mask_threshold": config.bridge.threshold,
        "fallbacks": list(FALLBACKS),
        "bridge": config.bridge.mode,
        "segmenter_size": list(config.segmenter.image_size),
        "classifier_size": list(config.classifier.image_size),
        "data": list(data),
        "versions": {name: importlib.metadata.version(name) for name in ("segfusion_jax", "jax")},
        "use": USE,
    }
