"""What `segfusion export --format web` writes, in a headless Chromium, against `SegFusion.predict`."""

import base64
import contextlib
import functools
import http.server
import io
import json
import pathlib
import shutil
import threading

import numpy as np
import pytest
from PIL import Image

from segfusion_jax.bridge.resize import resize
from segfusion_jax.runtime import caches
from segfusion_jax.serving.export import site
from segfusion_jax.serving.web import answers
from tests.browser.test_served_page import Address, card, choose, wait_for
from tests.serving.export.models import SOFTMAX, foldered, images, make_model
from tests.serving.web.conftest import encoded

pytestmark = pytest.mark.browser

POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PICTURES = [*images(3, (48, 64)), *images(2, (120, 90))]
NUMBERS = """const [encoded, done] = arguments;
  const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
  const pixels = (bitmap) => {
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
    canvas.drawImage(bitmap, 0, 0);
    return [bitmap.height, bitmap.width, [...canvas.getImageData(0, 0, bitmap.width, bitmap.height).data]];
  };
  import("./predictor.js")
    .then(({ predict }) => predict(new File([bytes], "lesion.png")))
    .then(({ mask, pictures, ...said }) => done({
      ...said, mask: pixels(mask), bridged: pixels(pictures.bridged), evidence: pixels(pictures.evidence),
    }), (error) => done(error.message));"""


class Handler(http.server.SimpleHTTPRequestHandler):
    """A host of static files that sends the policy which docs/export.md asks for."""

    def end_headers(self):
        self.send_header("Content-Security-Policy", POLICY)
        super().end_headers()

    def log_message(self, format, *args):
        pass


@contextlib.contextmanager
def hosted(folder: pathlib.Path):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Address(server.server_port)
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    overrides = {"bridge__mode": "crop_dilate", "segmenter__encoder": "mobilenet_v3_small"}
    return foldered(make_model(tmp_path_factory.mktemp("model"), SOFTMAX, **overrides))


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("site")
    try:
        site.save(model, folder, caches.folder("web"))
    except OSError as error:
        pytest.skip(f"needs the package onnxruntime-web of npm: {error}")
    return folder


@pytest.fixture(scope="module")
def address(folder):
    with hosted(folder) as address:
        yield address


@pytest.fixture(scope="module")
def opened(browser, address):
    """The page, its model loaded; tests that need no fresh one share it."""
    browser.driver.set_script_timeout(60)
    browser.open(address)
    wait_for(browser, "!document.getElementById('controls').hidden")
    return browser


def asked(browser, content: bytes):
    """What the predictor says of an encoded image; a text where it fails."""
    return browser.driver.execute_async_script(NUMBERS, base64.b64encode(content).decode("ascii"))


def pixels(told) -> np.ndarray:
    height, width, values = told
    return np.array(values, np.uint8).reshape(height, width, 4)


def test_the_browser_says_what_the_library_says(opened, model):
    for image in PICTURES:
        (prediction,) = model.predict([image], explain=True)
        said = asked(opened, encoded(image))
        assert said["probabilities"] == pytest.approx(prediction.probabilities, abs=1e-3)
        assert said["novelty"] == pytest.approx(prediction.novelty, rel=5e-3)
        assert (said["familiar"], said["fallback"]) == (prediction.familiar, prediction.fallback)
        assert (said["height"], said["width"]) == image.shape[:2]
        mask = pixels(said["mask"])[..., 0] == 255
        assert (mask != prediction.mask).mean() <= 0.002
        measured = None if prediction.fallback else answers.measure(mask).model_dump()
        assert said["measurements"] == pytest.approx(measured)
        bridged = pixels(said["bridged"])[..., :3].astype(int)
        assert np.abs(bridged - prediction.bridged).mean() < 0.1


def test_evidence_is_coloured_as_the_server_colours_it(opened):
    grid = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    (top, left, bottom, right), size = (8, 12, 40, 52), (48, 64)
    placed = np.zeros(size, np.float32)
    placed[top:bottom, left:right] = resize(grid, (bottom - top, right - left))
    expected = answers._evidence(placed)[..., [2, 1, 0, 3]]
    script = """const [grid, frame, done] = arguments;
      import("./answers.js").then(({ evidence }) => {
        const [cells, image] = [{ data: grid, dims: [1, 3, 4] }, { width: 64, height: 48 }];
        const picture = evidence(cells, frame, image, new ImageData(64, 48));
        done([...picture.data]);
      });"""
    told = opened.driver.execute_async_script(script, grid.ravel().tolist(), [top, left, bottom, right])
    found = np.array(told, np.uint8).reshape(*size, 4)
    assert np.abs(found[..., 3].astype(int) - expected[..., 3]).max() <= 1 and np.ptp(expected[..., 3]) > 150
    seen = (expected[..., 3] > 1) & (found[..., 3] > 1)
    np.testing.assert_array_equal(found[seen][:, :3], expected[seen][:, :3])


def test_jpeg_lies_as_the_camera_was_held(opened):
    buffer, image = io.BytesIO(), PICTURES[3]
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(image).save(buffer, "JPEG", quality=98, exif=exif)
    said = asked(opened, buffer.getvalue())
    assert (said["height"], said["width"]) == (image.shape[1], image.shape[0])


def test_what_cannot_be_looked_at_is_told(opened):
    assert asked(opened, b"nonsense") == "unreadable image: this browser cannot show it"
    large = io.BytesIO()
    Image.new("1", (5000, 4000)).save(large, "PNG")
    assert asked(opened, large.getvalue()).startswith("oversized image: 20000000 pixels; at most 16000000")


def test_measurements_are_the_servers(opened):
    rng = np.random.default_rng(0)
    masks = [rng.random((7, 9)) < share for share in (0.02, 0.1, 0.5, 1)]
    masks = [mask for mask in masks if mask.any()]
    script = """const [masks, done] = arguments;
      import("./answers.js").then(({ measured }) => done(masks.map((mask) => measured(mask, 9, 7))));"""
    told = opened.driver.execute_async_script(script, [mask.ravel().tolist() for mask in masks])
    assert told == [pytest.approx(answers.measure(mask).model_dump()) for mask in masks]


@pytest.mark.parametrize(("changed", "apart"), [({}, 0), ({"novelty": [1.3]}, 0.2), ({"mask": [1, 1]}, 0.5)])
def test_another_device_is_measured_by_what_it_says(opened, changed, apart):
    script = """const [first, second, done] = arguments;
      const tensors = (values) => Object.fromEntries(Object.entries(values).map(([name, data]) => [name, { data }]));
      import("./answers.js").then(({ disagreement }) => done(disagreement(tensors(first), tensors(second), 0.5)));"""
    said = {"probabilities": [0.2, 0.8], "novelty": [1.1], "mask": [0, 1]}
    found = opened.driver.execute_async_script(script, said, said | changed)
    assert found == pytest.approx(apart, abs=0.02)


def test_nothing_foreign_is_asked_for_and_nothing_is_refused_or_kept(browser, address, tmp_path):
    for number, image in enumerate(PICTURES[:2]):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    browser.open(address, width=390)
    choose(browser, sorted(tmp_path.iterdir()))
    for view in ("mask", "bridged", "evidence", "image", "outline"):
        browser.run("document.querySelector(`[value=${arguments[0]}]`).click();", view)
    assert card(browser, "0.png", ".probability strong")[0].endswith(" %")
    assert "one thread of this device" in browser.run("return document.getElementById('model').textContent;")
    assert "Images stay on this device" in browser.run("return document.getElementById('place').textContent;")
    ours = ("data:", f"blob:{address.as_uri()}", address.as_uri())
    assert [one for one in browser.requested() if not one.startswith(ours)] == []
    assert [one for one in browser.logged() if "No available adapters" not in one] == []  # of WebGPU
    kept = "return [document.cookie, localStorage.length, sessionStorage.length, (await indexedDB.databases()).length];"
    assert browser.run(f"return (async () => {{ {kept} }})();") == ["", 0, 0, 0]
    assert browser.run("return [innerWidth, document.documentElement.scrollWidth];") == [390, 390]


def test_a_model_that_did_not_arrive_whole_is_not_used(browser, folder, tmp_path):
    cut = tmp_path / "site"
    shutil.copytree(folder, cut)
    facts = json.loads((cut / "model.json").read_text())
    (cut / "model.json").write_text(json.dumps(facts | {"bytes": facts["bytes"] + 1}))
    with hosted(cut) as address:
        browser.open(address)
        wait_for(browser, "document.getElementById('status').textContent.includes('did not arrive whole')")
