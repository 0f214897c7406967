"""The page without a server, as files. What it does in a browser is tests/browser's matter."""

import io
import json
import tarfile

import numpy as np
import pytest

from segfusion_jax.bridge.resize import resize
from segfusion_jax.runtime.downloads import Remote
from segfusion_jax.serving.export import site
from tests.file_server import running
from tests.serving.export.models import SOFTMAX, foldered, images, make_model

EXPLAINED = ("evidence", "frame", "bridged")


def package(names=site.RUNTIME_FILES) -> bytes:
    """A package as npm has them, with these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in (*names, "other.js"):
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(name)
            archive.addfile(member, io.BytesIO(name.encode()))
    return buffer.getvalue()


@pytest.fixture
def published(monkeypatch):
    """A registry with a package of our own."""
    import hashlib

    content = package()
    with running() as server:
        server.files["/runtime.tgz"] = content
        remote = Remote(f"{server.address}/runtime.tgz", sha512=hashlib.sha512(content).hexdigest(), size=len(content))
        monkeypatch.setattr(site, "RUNTIME", remote)
        yield server


def test_the_runtime_is_fetched_once_and_only_what_is_needed_of_it(published, tmp_path):
    for _ in range(2):
        contents = site.unpacked(tmp_path)
    assert contents == {f"runtime/{name}": name.encode() for name in site.RUNTIME_FILES}
    assert published.asked == ["GET /runtime.tgz"]


def test_another_runtime_is_refused_whether_it_is_there_or_comes(published, tmp_path):
    (tmp_path / "runtime.tgz").write_bytes(package()[:-1] + b"x")
    with pytest.raises(ValueError, match=r"runtime.tgz has SHA-512 .*: remove it, or put the one there that 'npm pack"):
        site.unpacked(tmp_path)
    published.files["/runtime.tgz"] = package(("foreign.js",))
    with pytest.raises(ValueError, match="it was not kept"):
        site.unpacked(tmp_path / "empty")


def test_the_model_of_a_site_says_where_the_evidence_is(published, tmp_path):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    model = foldered(make_model(tmp_path, SOFTMAX, bridge__mode="crop_dilate"))
    paths = site.save(model, tmp_path / "site", tmp_path / "npm")
    assert all(path.is_file() for path in paths) and (tmp_path / "site/index.html") in paths
    session = runtime.InferenceSession(str(tmp_path / "site/segfusion.onnx"), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    batch = images(3)  # of a size at which nothing is rounded
    outputs = dict(zip(names, session.run(None, {"images": batch}), strict=True))
    assert set(EXPLAINED) < set(names) and "lesion" not in names
    for number, prediction in enumerate(model.predict(batch, explain=True)):
        top, left, bottom, right = outputs["frame"][number]
        placed = np.zeros((32, 32), np.float32)
        placed[top:bottom, left:right] = resize(outputs["evidence"][number], (bottom - top, right - left))
        np.testing.assert_allclose(placed, prediction.evidence, atol=2e-3 * np.abs(prediction.evidence).max())
        assert np.abs(outputs["bridged"][number].astype(int) - prediction.bridged).max() <= 1
        assert outputs["novelty"][number] == pytest.approx(prediction.novelty, rel=5e-3)
    facts = json.loads((tmp_path / "site/model.json").read_text())
    assert (
        facts["classes"][1] == {"name": "melanoma", "malignant": True, "positive": True} and facts["prevalence"] == 0.2
    )
    assert facts["operating_points"][0]["threshold"] == 0.3
    assert facts["bytes"] == (tmp_path / "site/segfusion.onnx").stat().st_size
