"""Exported chains against `SegFusion.predict`: the same from files that need none of our code."""

import dataclasses
import json
import pathlib
import subprocess
import sys
from unittest import mock

import jax
import numpy as np
import pytest

from segfusion_jax.bridge.traced_clean import FALLBACKS
from segfusion_jax.ops import native
from segfusion_jax.ops.resampling import max_pool_2x2
from segfusion_jax.pipeline.studies.variants import changed
from segfusion_jax.serving.export import artefacts
from segfusion_jax.serving.export.chain import make_chain
from segfusion_jax.serving.segfusion import SegFusion
from tests.serving.export.models import SOFTMAX, images, make_model

IMAGES = images(4)
CALL = f"custom_call @{native.PREFIX}"
PROGRAM = """
import sys
sys.modules["segfusion_jax"] = None  # an import would fail
import jax, numpy as np
from jax import export
call = jax.jit(export.deserialize(open("segfusion.stablehlo", "rb").read()).call)
np.savez("outputs.npz", **call(np.load("images.npy")))
"""


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> SegFusion:
    """The paper's U-Nets, one logit, no geometry: images of 32x32 are not resized."""
    return make_model(tmp_path_factory.mktemp("plain"), members=2)


@pytest.fixture(scope="module")
def cropping(tmp_path_factory) -> SegFusion:
    """A U-Net with an encoder, three logits, crops of grown masks."""
    overrides = {"bridge__mode": "crop_dilate", "segmenter__encoder": "mobilenet_v3_small"}
    return make_model(tmp_path_factory.mktemp("cropping"), SOFTMAX, **overrides)


def agree(outputs, model: SegFusion, batch: np.ndarray, pixels: float = 0.0, atol: float = 1e-4) -> None:
    """That the outputs of a chain are what the model says of the images; not of more than a share of `pixels`."""
    for number, prediction in enumerate(model.predict(batch)):
        limit = model.config.bridge.threshold
        assert ((outputs["mask"][number] >= limit) != prediction.mask).mean() <= pixels
        assert FALLBACKS[outputs["fallback"][number]] == prediction.fallback
        np.testing.assert_allclose(outputs["malignant"][number], prediction.probability, atol=atol)
        np.testing.assert_allclose(outputs["novelty"][number], prediction.novelty, rtol=max(1e-4, 10 * atol))
        np.testing.assert_allclose(outputs["probabilities"][number], list(prediction.probabilities.values()), atol=atol)
    limits = (outputs["mask"] >= limit).mean((1, 2)).min(), np.ptp(outputs["malignant"])
    assert len(batch) == 1 or (limits[0] < 0.9 and limits[1] > 0.01)  # else any chain would agree


def test_files_are_used_without_this_package(plain, tmp_path):
    pytest.importorskip("flatbuffers")
    paths = artefacts.save(plain, tmp_path, ["stablehlo"])
    assert [path.name for path in paths] == ["segfusion.stablehlo", "segfusion.json"]
    np.save(tmp_path / "images.npy", IMAGES[:1])
    subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, check=True, timeout=120)
    agree(np.load(tmp_path / "outputs.npz"), plain, IMAGES[:1])
    metadata = json.loads(paths[-1].read_text())
    assert (metadata["classes"], metadata["threshold"]) == (["benign", "malignant"], 0.3)
    assert metadata["input"]["images"]["shape"] == ["batch", "height", "width", 3]


def test_crops_of_grown_masks_and_several_diagnoses(cropping):
    exported = artefacts.to_stablehlo(make_chain(cropping), artefacts.symbolic_shape((32, 32)))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    program = exported.mlir_module()
    assert CALL not in program and ".py" not in program
    agree(jax.device_get(jax.jit(exported.call)(IMAGES)), cropping, IMAGES)


@pytest.mark.parametrize("size", [(27, 30), (35, 41)])
def test_crops_of_images_of_other_sizes_than_the_masks(cropping, size):
    batch = images(4, size)
    agree(jax.device_get(jax.jit(make_chain(cropping))(batch)), cropping, batch)


def test_kernels_are_left_out_of_what_was_traced_with_them_before(plain):
    if not native.available():
        pytest.skip("there is no compiler for our kernels")
    chain = make_chain(plain)
    assert CALL in jax.jit(chain).lower(IMAGES).as_text()
    assert CALL not in artefacts.to_stablehlo(chain, artefacts.symbolic_shape((32, 32))).mlir_module()


def test_kernels_are_back_afterwards(plain):
    if not native.available():
        pytest.skip("there is no compiler for our kernels")
    with pytest.raises(RuntimeError), native.disabled():
        raise RuntimeError
    x = np.zeros((1, 4, 4, 3), np.float32)
    with native.disabled():
        assert CALL not in jax.jit(lambda x: max_pool_2x2(x)).lower(x).as_text()
    assert CALL in jax.jit(lambda x: max_pool_2x2(x)).lower(x).as_text()


@pytest.mark.parametrize("which", ["plain", "cropping"])
def test_onnx_says_the_same_of_any_batch(which, request, tmp_path):
    model = request.getfixturevalue(which)
    runtime = session(model, tmp_path, (32, 32))
    for number in (1, 3):
        agree(run(runtime, IMAGES[:number]), model, IMAGES[:number], atol=5e-4)  # its convolutions round otherwise


def test_onnx_takes_images_of_any_size(plain, tmp_path):
    runtime = session(plain, tmp_path, None)
    batch = images(2, (27, 41))
    agree(run(runtime, batch), plain, batch)
    for size in ((48, 64), (30, 70)):  # means of pixels that lie between two levels, which OpenCV rounds either way
        batch = images(2, size)
        agree(run(runtime, batch), plain, batch, 0.005, 5e-3)
    properties = runtime.get_modelmeta().custom_metadata_map
    assert json.loads(properties["segfusion"])["classes"] == ["benign", "malignant"]


def session(model: SegFusion, folder: pathlib.Path, size: tuple[int, int] | None):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    path = artefacts.save(model, folder, ["onnx"], size)[0]
    return runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def run(runtime, batch: np.ndarray) -> dict[str, np.ndarray]:
    names = [output.name for output in runtime.get_outputs()]
    return dict(zip(names, runtime.run(None, {"images": batch}), strict=True))


def test_what_cannot_be_exported_is_named(plain, tmp_path):
    with pytest.raises(ValueError, match=r"formats = \['torch'\]: must be one or more of stablehlo, onnx"):
        artefacts.save(plain, tmp_path, ["torch"])
    half = mock.Mock(config=dataclasses.replace(plain.config, compute_dtype="bfloat16"))
    with pytest.raises(ValueError, match="compute_dtype = 'bfloat16': must be 'float32'"):
        artefacts.save(half, tmp_path)
    even = mock.Mock(config=changed(plain.config, "data", illumination="even"))
    with pytest.raises(ValueError, match="data.illumination = 'even': an exported chain takes pixels as they are"):
        artefacts.save(even, tmp_path)
