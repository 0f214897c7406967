"""What the server tells of itself, and the thread before the device."""

import re
import threading

import numpy as np
import pytest

from segfusion_jax.serving.web import metrics
from segfusion_jax.serving.web.device import Device
from tests.serving.web.conftest import Colours, encoded, is_problem, picture, post


def test_the_model(client):
    said = client.get("/v1/model").json()
    assert said["use"] == "Research use only. Not a medical device." and said["digest"] == "ab" * 32
    assert said["classes"] == [
        {"name": "melanoma", "positive": True, "malignant": True},
        {"name": "nevus", "positive": False, "malignant": False},
    ]
    own, other = said["operating_points"]
    assert own["name"] == "own" and own["specificity"] == {"value": 0.85, "low": None, "high": None}
    assert other["sensitivity"] is None and other["threshold"] == 0.2
    assert set(said["limits"]) == {"bytes", "pixels", "images", "queue", "seconds"}


def test_it_is_ready_when_the_model_has_predicted(serve, colours):
    colours.open.clear()
    client = serve()
    assert client.get("/healthz").text == "ok\n"
    response = client.get("/readyz")
    assert is_problem(response, 503) and response.headers["Retry-After"]
    colours.open.set()
    while (response := client.get("/readyz")).status_code == 503:
        pass
    assert response.text == "ready\n"


def test_counts(client):
    for _ in range(3):
        assert post(client, encoded(picture())).status_code == 200
    post(client, b"nonsense")
    for path in ("/secret/path", "/v1/model%0Ax%201"):
        client.get(path)
    text = client.get("/metrics").text
    found = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    requests = 'segfusion_requests_total{path="%s",status="%d"}'
    assert found[requests % ("/v1/predictions", 200)] == "3" and found[requests % ("/v1/predictions", 422)] == "1"
    assert found[requests % ("other", 404)] == "2" and "secret" not in text
    assert found["segfusion_images_total"] == found["segfusion_batches_total"] == "3"
    assert found["segfusion_prediction_seconds_count"] == found['segfusion_prediction_seconds_bucket{le="+Inf"}'] == "3"
    assert all(
        re.fullmatch(r'[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? [0-9.]+', line)
        for line in text.splitlines()
        if not line.startswith("#")
    )


def test_bins_of_the_histogram_add_up():
    counted = metrics.Metrics()
    for seconds in (0.05, 0.051, 3.0, 1000.0):
        counted.request("/v1/predictions", 200, seconds)
    counted.request("/v1/predictions", 429, 0.01)
    bins = re.findall(r'bucket\{le="(.*)"\} (\d+)', counted.text())
    assert dict(bins) == {
        **{"0.05": "1", "0.1": "2", "0.25": "2", "0.5": "2", "1.0": "2", "2.5": "2"},
        **{"5.0": "3", "10.0": "3", "30.0": "3", "60.0": "3", "+Inf": "4"},
    }


def test_openapi_describes_every_path_with_examples(client):
    said = client.get("/v1/openapi.json").json()
    assert set(said["paths"]) == {"/v1/predictions", "/v1/model", "/healthz", "/readyz", "/metrics"}
    operation = said["paths"]["/v1/predictions"]["post"]
    form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["properties"]["images"]["items"]["format"] == "binary"
    assert {"200", "401", "403", "408", "411", "413", "415", "421", "422", "429", "503"} <= set(operation["responses"])
    assert "application/problem+json" in operation["responses"]["422"]["content"]
    assert said["components"]["schemas"]["Prediction"]["examples"]
    names = set(said["components"]["schemas"])
    references = set(re.findall(r'"#/components/schemas/(\w+)"', client.get("/v1/openapi.json").text))
    assert references <= names


def test_the_page_is_whole(client):
    page = client.get("/").text
    assert "Research use only. Not a medical device." in page
    for address in re.findall(r'(?:src|href)="([a-z.]+)"', page):
        assert client.get(f"/{address}").status_code == 200
    assert "<style" not in page and " style=" not in page and not re.search(r"\son\w+=", page)
    for name in ("page.js", "cards.js"):
        script = client.get(f"/{name}").text
        assert "innerHTML" not in script and all(
            client.get(f"/{one}").status_code == 200 for one in re.findall(r'from "\./([a-z.]+)"', script)
        )


def images(count):
    return [np.full((4, 4, 3), 10 * number, np.uint8) for number in range(count)]


def test_what_waits_together_is_predicted_together_by_kind_and_in_order(colours):
    colours.open.clear()
    sizes = []
    device = Device(colours, sizes.append)
    answered = [device.submit(image, explain=number % 3 == 0) for number, image in enumerate(images(20))]
    colours.open.set()
    found = [one.result(30) for one in answered]
    assert [one.probability for one in found] == [10 * number / 255 for number in range(20)]
    assert [one.evidence is not None for one in found] == [number % 3 == 0 for number in range(20)]
    assert sorted(sizes) == [5, 7, 8] and sum(sizes) == 20
    device.close()


def test_what_was_cancelled_is_not_predicted(colours):
    colours.open.clear()
    device = Device(colours)
    kept, dropped = (device.submit(image, explain=False) for image in images(2))
    assert dropped.cancel()
    colours.open.set()
    assert kept.result(30).probability == 0 and colours.batches == [1, 8, 1]
    device.close()


def test_a_device_that_closes_cancels_what_waits_and_takes_no_more(colours):
    colours.open.clear()
    device = Device(colours)
    waiting = device.submit(images(1)[0], explain=False)
    closing = threading.Thread(target=device.close)
    closing.start()
    while not waiting.cancelled():
        pass
    colours.open.set()
    closing.join(30)
    with pytest.raises(RuntimeError, match="closed"):
        device.submit(images(1)[0], explain=False)


def test_a_model_that_cannot_predict_is_never_ready_and_the_server_lives(caplog):
    def broken(images, explain):
        raise ValueError("no weights")

    device = Device(broken)
    with pytest.raises(ValueError, match="no weights"):
        device.submit(images(1)[0], explain=False).result(30)
    assert not device.ready.is_set() and "cannot predict" in caplog.text
    device.close()


def test_colours_are_what_other_tests_take_them_for():
    said = Colours()([picture(red=102)], False)[0]
    assert said.probability == 0.4 and said.mask.sum() == 200
