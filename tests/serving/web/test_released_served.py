"""The released model behind HTTP says what it says without."""

import base64
import io
import pathlib

import cv2
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

import segfusion_jax as sf
from segfusion_jax.serving.facts import Facts
from segfusion_jax.serving.web.app import make_app
from segfusion_jax.serving.web.limits import Limits
from tests.serving.web.conftest import encoded, post

FOLDER = pathlib.Path(__file__).parents[3] / "released" / "ham10000"
CLOSE = dict(rel=1e-3, abs=1e-6)  # a batch of one image is another program than one of eight


def lesion(seed: int) -> np.ndarray:
    """A dark blot on skin."""
    draw = np.random.default_rng(seed)
    image = np.full((150, 200, 3), (224, 172, 150), np.uint8)
    cv2.ellipse(image, (100, 75), draw.integers(25, 55, 2).tolist(), 30.0 * seed, 0, 360, (110, 60, 50), -1)
    noise = draw.normal(0, 4, image.shape)
    return np.clip(cv2.GaussianBlur(image, (9, 9), 0) + noise, 0, 255).astype(np.uint8)


def test_answers_are_those_of_the_model():
    model = sf.SegFusion.load(FOLDER)
    facts, images = Facts.of(model), [lesion(seed) for seed in range(3)]
    expected = model.predict(images, explain=True)
    app = make_app(lambda batch, explain: model.predict(batch, explain=explain), facts, Limits(seconds=600))
    with TestClient(app, base_url="http://localhost") as client:
        together = post(client, *map(encoded, images), pictures=True).json()["predictions"]
        alone = [post(client, encoded(image)).json()["predictions"][0] for image in images]
        (rare,) = post(client, encoded(images[0]), prevalence=0.02, mask="none").json()["predictions"]
        stated = client.get("/v1/model").json()
    for answers in (together, alone):
        for said, prediction in zip(answers, expected, strict=True):
            assert said["probabilities"] == pytest.approx(prediction.probabilities, **CLOSE)
            assert said["probability"] == pytest.approx(prediction.probability, **CLOSE)
            assert said["novelty"] == pytest.approx(prediction.novelty, **CLOSE)
            assert said["decision"] == ("malignant" if prediction.malignant else "benign")
            assert (said["fallback"], said["familiar"]) == (prediction.fallback, prediction.familiar)
            mask = np.array(Image.open(io.BytesIO(base64.b64decode(said["mask"])))) == 255
            assert (mask != prediction.mask).mean() < 1e-3
    (at_prevalence,) = model.predict(images[:1], prevalence=0.02)
    assert rare["probabilities"] == pytest.approx(at_prevalence.probabilities, **CLOSE)
    shown = Image.open(io.BytesIO(base64.b64decode(together[0]["pictures"]["bridged"].partition(",")[2])))
    assert np.abs(np.array(shown).astype(int) - expected[0].bridged).mean() < 3
    metrics = stated["operating_points"][0]
    assert metrics["threshold"] == model.threshold and 0.75 < metrics["sensitivity"]["value"] < 0.9
    assert [one["name"] for one in stated["operating_points"]][1:3] == ["sensitivity-0.8", "sensitivity-0.9"]
