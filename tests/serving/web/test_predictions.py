"""What is said of images that are good."""

import base64
import concurrent.futures
import io

import numpy as np
import pytest
from PIL import Image

from segfusion_jax.serving.facts import Facts
from tests.serving.web.conftest import FACTS, encoded, is_problem, picture, post


def test_one_image(client):
    (said,) = post(client, encoded(picture(red=153))).json()["predictions"]
    assert said["file"] == "0.png" and (said["width"], said["height"]) == (40, 30)
    assert said["probability"] == pytest.approx(0.6) and said["decision"] == "malignant"
    assert said["probabilities"] == pytest.approx({"melanoma": 0.6, "nevus": 0.4})
    assert said["novelty"] == 0.1 and said["familiar"] is True and said["fallback"] == ""
    assert said["mask_share"] == pytest.approx(200 / 1200)
    assert said["measurements"] == {"area": 200, "diameter": pytest.approx(np.hypot(10, 20))}
    assert said["pictures"] is None and said["prevalence"] == 0.2
    assert said["operating_point"]["name"] == "own" and said["operating_point"]["sensitivity"]["low"] == 0.7


def test_several_images_are_answered_in_their_order_whatever_their_sizes(client, colours):
    reds = [5 * number for number in range(14)]
    files = [encoded(picture(red=red, size=(30 + red, 40))) for red in reds]
    said = post(client, *files).json()["predictions"]
    assert [one["file"] for one in said] == [f"{number}.png" for number in range(14)]
    assert [one["probability"] for one in said] == pytest.approx([red / 255 for red in reds])
    assert [one["height"] for one in said] == [30 + red for red in reds]
    assert sum(colours.batches) == 14 and len(colours.batches) < 14


def test_clients_at_the_same_time_share_batches_and_each_gets_its_own(client, colours):
    with concurrent.futures.ThreadPoolExecutor(16) as clients:
        found = clients.map(lambda red: post(client, encoded(picture(red=red))).json(), range(32))
        probabilities = [one["predictions"][0]["probability"] for one in found]
    assert probabilities == pytest.approx([red / 255 for red in range(32)])
    assert sum(colours.batches) == 32 and max(colours.batches) > 1 and max(colours.batches) <= 8


def test_a_batch_that_fails_takes_only_its_own_image_with_it(client, colours):
    wrong = np.full((8, 8, 3), (1, 2, 3), np.uint8)
    colours.open.clear()
    with concurrent.futures.ThreadPoolExecutor(4) as clients:
        waiting = [clients.submit(post, client, encoded(one)) for one in (picture(), wrong, picture(red=102))]
        colours.open.set()
        statuses = [one.result().status_code for one in waiting]
    assert statuses == [200, 500, 200]


@pytest.mark.parametrize(("point", "decision"), [("own", "benign"), ("sensitivity-0.9", "malignant")])
def test_the_operating_point_decides_whatever_the_prevalence(client, point, decision):
    for options in ({}, {"prevalence": 0.001}, {"prevalence": 0.99}):
        (said,) = post(client, encoded(picture(red=102)), operating_point=point, **options).json()["predictions"]
        assert said["decision"] == decision and said["operating_point"]["name"] == point


def test_another_prevalence_multiplies_the_odds(client):
    (said,) = post(client, encoded(picture(red=51)), prevalence=0.5).json()["predictions"]
    odds = (0.2 / 0.8) * (0.5 / 0.5) / (0.2 / 0.8)
    assert said["probability"] == pytest.approx(odds / (1 + odds)) and said["prevalence"] == 0.5
    assert sum(said["probabilities"].values()) == pytest.approx(1)


def test_masks_by_their_formats(client):
    image = picture()
    expected = image[..., 1] < 128
    png = post(client, encoded(image)).json()["predictions"][0]["mask"]
    assert (np.array(Image.open(io.BytesIO(base64.b64decode(png)))) == 255 * expected).all()
    rle = post(client, encoded(image), mask="rle").json()["predictions"][0]["mask"]
    flat = np.repeat(np.arange(len(rle["counts"])) % 2, rle["counts"])
    assert (flat.reshape(rle["size"], order="F") == expected).all()
    assert post(client, encoded(image), mask="none").json()["predictions"][0]["mask"] is None


def test_a_mask_that_begins_with_lesion_begins_with_a_run_of_nothing(client):
    image = picture(lesion=(slice(0, 30), slice(0, 7)))
    rle = post(client, encoded(image), mask="rle").json()["predictions"][0]["mask"]
    assert rle == {"size": [30, 40], "counts": [0, 210, 990]}


def test_fallbacks_and_unfamiliar_images_are_told(client):
    (said,) = post(client, encoded(picture(blue=230, lesion=(slice(0, 0), slice(0, 0))))).json()["predictions"]
    assert (said["fallback"], said["mask_share"], said["measurements"]) == ("empty", 1.0, None)
    assert said["familiar"] is False and said["novelty"] == 2.3


def test_pictures_come_where_they_are_asked_for(client):
    (said,) = post(client, encoded(picture(size=(1500, 3000))), pictures=True).json()["predictions"]
    shown = {}
    for name, address in said["pictures"].items():
        kind, content = address.split(";base64,")
        shown[name] = Image.open(io.BytesIO(base64.b64decode(content)))
        assert kind == f"data:image/{shown[name].format.lower()}"
    assert shown["image"].size == shown["evidence"].size == (1024, 512)
    assert shown["evidence"].mode == "RGBA" and shown["evidence"].getpixel((5, 5))[:3] == (33, 102, 172)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP"])
def test_formats(client, kind):
    (said,) = post(client, encoded(picture(), kind)).json()["predictions"]
    assert said["probability"] == pytest.approx(0.2, abs=0.05)


def test_names_are_returned_as_they_are(client):
    for name in ("Läsion №1.png", "=cmd|' /C calc'!A0.png", "<img src=x>.png", "../../etc/passwd"):
        response = client.post("/v1/predictions", files=[("images", (name, encoded(picture())))])
        assert response.json()["predictions"][0]["file"] == name


def test_classes_none_of_which_is_looked_for(serve, colours):
    def predict(images, explain):
        return [said._replace(probability=None, malignant=None) for said in colours(images, explain)]

    facts = Facts(FACTS.digest, ("cat", "dog"), (False, False), (), None, {}, own_classes=True)
    named = {"melanoma": "cat", "nevus": "dog"}

    def named_so(images, explain):
        return [
            said._replace(probabilities={named[name]: share for name, share in said.probabilities.items()})
            for said in predict(images, explain)
        ]

    client = serve(predict=named_so, facts=facts)
    described = client.get("/v1/model").json()
    assert described["classes"] == [
        {"name": "cat", "positive": False, "malignant": None},
        {"name": "dog", "positive": False, "malignant": None},
    ]
    assert (described["decisions"], described["prevalence"], described["operating_points"]) == ([], None, [])
    cat, dog = post(client, encoded(picture(red=153)), encoded(picture(red=51))).json()["predictions"]
    assert (cat["decision"], dog["decision"]) == ("cat", "dog") and cat["probabilities"]["cat"] == pytest.approx(0.6)
    assert {cat[name] for name in ("probability", "operating_point", "prevalence")} == {None}
    for option in ({"prevalence": 0.1}, {"operating_point": "sensitivity-0.9"}):
        assert is_problem(post(client, encoded(picture()), **option), 422)
