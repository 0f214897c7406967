"""A server of a model that only looks at colours, so that what it must say is plain."""

import contextlib
import io
import threading

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from segfusion_jax.serving.facts import Facts, OperatingPoint
from segfusion_jax.serving.segfusion import Prediction
from segfusion_jax.serving.web.app import make_app
from segfusion_jax.serving.web.limits import Limits

REACHED = {"sensitivity": {"value": 0.8, "low": 0.7, "high": 0.9}, "specificity": {"value": 0.85}}
FACTS = Facts(
    digest="ab" * 32,
    classes=("melanoma", "nevus"),
    positive=(True, False),
    decisions=("benign", "malignant"),
    prevalence=0.2,
    points={"own": OperatingPoint("own", 0.5, REACHED), "sensitivity-0.9": OperatingPoint("sensitivity-0.9", 0.2)},
    data=({"title": "Drawn", "licence": "none"},),
)


class Colours:
    """A model: the lesion is what is dark, and malignant by the share of red, 0 to 255.

    Attributes:
      batches: how many images it was given at once, each time.
      open: predicts only while it is set.
    """

    def __init__(self):
        self.batches: list[int] = []
        self.open = threading.Event()
        self.open.set()

    def __call__(self, images, explain):
        assert self.open.wait(30)
        self.batches.append(len(images))
        if any(image[0, 0].tolist() == [1, 2, 3] for image in images):
            raise RuntimeError("a secret of lesion.jpg")
        return [self.predict(image, explain) for image in images]

    def predict(self, image, explain):
        red, mask = image[0, 0, 0] / 255, image[..., 1] < 128
        fallback = "" if mask.any() else "empty"
        return Prediction(
            mask=mask if mask.any() else np.ones_like(mask),
            probability=red,
            malignant=bool(red >= 0.5),
            fallback=fallback,
            probabilities={"melanoma": red, "nevus": 1 - red},
            novelty=image[0, 0, 2] / 100,
            familiar=bool(image[0, 0, 2] <= 100),
            evidence=image[..., 0].astype(np.float32) - 128 if explain else None,
            bridged=image if explain else None,
        )


def picture(red=51, blue=10, size=(30, 40), lesion=(slice(5, 15), slice(10, 30))) -> np.ndarray:
    image = np.full((*size, 3), (red, 200, blue), np.uint8)
    image[lesion] = (red, 50, blue)
    return image


def encoded(image, kind="PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind)
    return buffer.getvalue()


def post(client, *files, headers=None, **options):
    parts = [("images", (f"{number}.png", content)) for number, content in enumerate(files)]
    return client.post("/v1/predictions", files=parts, params=options, headers=headers)


def is_problem(response, status: int) -> bool:
    body = response.json()
    stated = response.status_code == body["status"] == status and body["detail"]
    return bool(stated and response.headers["content-type"] == "application/problem+json")


@pytest.fixture
def colours():
    model = Colours()
    yield model
    model.open.set()


@pytest.fixture
def serve(colours):
    """Starts servers; each ends with the test."""
    with contextlib.ExitStack() as stack:

        def started(limits=None, predict=colours, facts=FACTS, **options):
            app = make_app(predict, facts, limits or Limits(seconds=20), **options)
            client = stack.enter_context(TestClient(app, base_url="http://127.0.0.1:8000"))
            while client.get("/readyz").status_code != 200 and colours.open.is_set():
                pass
            colours.batches.clear()
            return client

        yield started
        colours.open.set()


@pytest.fixture
def client(serve):
    return serve()
