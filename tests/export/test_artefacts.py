"""Exported chains against `SegFusion.predict`: the same masks and probabilities from files that need none of our code."""

import json
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from segfusion_jax.export import artefacts
from segfusion_jax.export.chain import make_chain
from segfusion_jax.export.regions import FALLBACKS
from segfusion_jax.inference import SegFusion
from segfusion_jax.ops import native
from tests.export.models import SOFTMAX, images, make_model

MODELS = {
    "dim": {},
    "crop": {"bridge__mode": "crop", "classes": SOFTMAX},
    "crop_dilate": {"bridge__mode": "crop_dilate", "segmenter__encoder": "mobilenet_v3_small"},
    "channel": {"bridge__mode": "channel", "classes": SOFTMAX, "segmenter__views": 8},
}
"""Both kinds of U-Net, one logit and three, the modes that need geometry or a fourth channel."""
IMAGES = images(4)


@pytest.fixture(scope="module", params=MODELS)
def model(request, tmp_path_factory) -> SegFusion:
    return make_model(tmp_path_factory.mktemp("model"), **MODELS[request.param])


def agree(outputs: dict, model: SegFusion, batch: np.ndarray, atol: float = 1e-4) -> None:
    """That the outputs of a chain are what the model says of the images."""
    for number, prediction in enumerate(model.predict(batch)):
        limit = model.config.bridge.threshold
        assert ((outputs["mask"][number] >= limit) != prediction.mask).mean() <= 0.002
        assert FALLBACKS[outputs["fallback"][number]] == prediction.fallback
        np.testing.assert_allclose(outputs["malignant"][number], prediction.probability, atol=atol)
        np.testing.assert_allclose(outputs["probabilities"][number], list(prediction.probabilities.values()), atol=atol)


def test_the_chain_says_what_predict_says(model):
    outputs = jax.device_get(jax.jit(make_chain(model))(IMAGES))
    agree(outputs, model, IMAGES)
    masks = outputs["mask"] >= 0.5
    assert 0 < masks[:-1].mean() < 1 and np.ptp(outputs["malignant"]) > 1e-4


def test_the_stablehlo_says_the_same_for_any_batch_without_our_kernels(model):
    with_kernels = jax.jit(make_chain(model)).lower(IMAGES).as_text()
    exported = artefacts.to_stablehlo(make_chain(model), artefacts.symbolic_shape((48, 64)))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    assert native.PREFIX not in exported.mlir_module()
    if native.available():
        assert native.PREFIX in with_kernels
    call = jax.jit(exported.call)
    for number in (1, 3):
        agree(jax.device_get(call(IMAGES[:number])), model, IMAGES[:number])


def test_files_are_used_without_this_package(tmp_path):
    pytest.importorskip("flatbuffers")
    model = make_model(tmp_path)
    paths = artefacts.save(model, tmp_path / "exported", ["stablehlo"])
    assert [path.name for path in paths] == ["segfusion.stablehlo", "segfusion.json"]
    np.save(tmp_path / "images.npy", IMAGES[:2])
    program = """
import json, sys
sys.modules["segfusion_jax"] = None  # an import would fail
import jax, numpy as np
call = jax.jit(export.deserialize(open("exported/segfusion.stablehlo", "rb").read()).call)
np.savez("outputs.npz", **call(np.load("images.npy")))
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=120)
    agree(np.load(tmp_path / "outputs.npz"), model, IMAGES[:2])
    metadata = json.loads(paths[-1].read_text())
    assert (metadata["classes"], metadata["threshold"]) == (["benign", "malignant"], 0.3)
    assert metadata["input"]["images"]["shape"] == ["batch", "height", "width", 3]


def test_onnx_says_the_same_for_any_batch(model, tmp_path):
    runtime = session(model, tmp_path, (48, 64))
    for number in (1, 3):
        agree(run(runtime, IMAGES[:number]), model, IMAGES[:number])


def test_onnx_takes_images_of_any_size(tmp_path):
    model = make_model(tmp_path)
    runtime = session(model, tmp_path, None)
    for size in ((48, 64), (30, 70)):
        batch = images(2, size)
        agree(run(runtime, batch), model, batch)
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


def test_what_cannot_be_exported_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"formats = \['torch'\]: must be one or more of stablehlo, onnx"):
        artefacts.save(make_model(tmp_path), tmp_path, ["torch"])
    half = make_model(tmp_path, compute_dtype="bfloat16")
    with pytest.raises(ValueError, match="compute_dtype = 'bfloat16': must be 'float32'"):
        artefacts.save(half, tmp_path)
