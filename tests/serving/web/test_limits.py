"""What is too much is refused by a status that says so, and what comes after is answered."""

import asyncio
import concurrent.futures
import time

import pytest

from segfusion_jax.serving.web.limits import Budget, Limits
from tests.serving.web.conftest import encoded, is_problem, picture, post


@pytest.mark.parametrize("field", ["bytes", "pixels", "images", "queue", "seconds"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_a_limit_is_above_zero(field, value):
    with pytest.raises(ValueError, match=f"{field} = .*: must be above 0"):
        Limits(**{field: value})


def test_a_body_may_have_just_so_many_bytes(serve):
    content = encoded(picture())
    client = serve(Limits(bytes=2000))
    assert post(client, content).status_code == 200
    response = post(client, content + bytes(2000))
    assert is_problem(response, 413) and "2000 bytes" in response.json()["accepted"]
    assert post(client, content).status_code == 200


def test_a_body_that_states_no_length_or_another_one_is_refused(client):
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    assert is_problem(client.post("/v1/predictions", content=iter([b"--x"]), headers=kind), 411)
    for length in ("-1", "1e9", "²", "9" * 30, "x"):
        headers = {**kind, "Content-Length": length.encode()}
        assert is_problem(client.post("/v1/predictions", content=b"--x", headers=headers), 422)


def test_a_body_that_is_longer_than_it_says_is_refused(serve):
    client = serve(Limits(bytes=1000))
    headers = {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": "10"}
    assert is_problem(client.post("/v1/predictions", content=b"--x\r\n" + bytes(2000), headers=headers), 413)


def test_an_image_may_have_just_so_many_pixels(serve):
    client = serve(Limits(pixels=30 * 40))
    assert post(client, encoded(picture())).status_code == 200
    for kind in ("PNG", "JPEG", "BMP", "TIFF", "WEBP"):
        response = post(client, encoded(picture(size=(30, 41)), kind))
        assert is_problem(response, 413) and "1,200 pixels" in response.json()["accepted"], kind
    assert response.json()["files"] == [{"file": "0.png", "detail": "oversized image: 1,230 pixels"}]


def test_a_picture_that_only_says_that_it_is_huge_is_not_decoded(client):
    bomb = bytearray(encoded(picture(), "BMP"))
    bomb[18:26] = (60000).to_bytes(4, "little") * 2
    assert is_problem(post(client, bytes(bomb)), 413)


def test_a_request_may_have_just_so_many_images(serve):
    client, content = serve(Limits(images=3)), encoded(picture())
    assert post(client, *[content] * 3).status_code == 200
    assert is_problem(post(client, *[content] * 4), 413)


def under_way(client) -> int:
    line = next(line for line in client.get("/metrics").text.splitlines() if line.startswith("segfusion_images_under"))
    return int(line.split()[1])


def wait_for(condition) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_full_queue_refuses_and_says_when_to_ask_again(serve, colours):
    client = serve(Limits(queue=3))
    colours.open.clear()
    with concurrent.futures.ThreadPoolExecutor(3) as clients:
        waiting = [clients.submit(post, client, encoded(picture())) for _ in range(3)]
        wait_for(lambda: under_way(client) == 3)
        response = post(client, encoded(picture()))
        assert is_problem(response, 429) and int(response.headers["Retry-After"]) > 0
        assert client.get("/healthz").status_code == 200
        colours.open.set()
        assert [one.result().status_code for one in waiting] == [200] * 3
    assert post(client, encoded(picture())).status_code == 200 and under_way(client) == 0


def test_more_images_at_once_than_the_queue_holds_are_refused(serve):
    client = serve(Limits(queue=2))
    assert is_problem(post(client, *[encoded(picture())] * 3), 429)
    assert post(client, *[encoded(picture())] * 2).status_code == 200


def test_an_answer_that_takes_too_long_is_refused_and_its_image_not_predicted(serve, colours):
    client = serve(Limits(seconds=0.3))
    colours.open.clear()
    held = encoded(picture())
    responses = [post(client, held), post(client, held)]
    for response in responses:
        assert is_problem(response, 503) and int(response.headers["Retry-After"]) > 0
    colours.open.set()
    wait_for(lambda: post(client, held).status_code == 200)
    assert under_way(client) == 0


def test_a_body_that_does_not_arrive_is_refused(serve):
    client = serve(Limits(seconds=0.2))
    messages = send(client, body=[b"--x\r\nContent-Disposition: form-data", None])
    assert messages[0]["status"] == 408 and (b"retry-after" not in dict(messages[0]["headers"]))
    assert post(client, encoded(picture())).status_code == 200


def test_a_connection_that_is_cut_leaves_nothing_behind(client):
    for begun in (b"", b"--x\r\n", b"--x\r\nContent-Disposition: form-data; name=images; filename=a\r\n\r\n\x89PNG"):
        messages = send(client, body=[begun, "cut"])
        assert messages[0]["status"] == 400
    assert under_way(client) == 0 and post(client, encoded(picture())).status_code == 200


def send(client, body) -> list[dict]:
    """Sends pieces of a body; None = nothing more comes, "cut" = the connection is closed."""
    headers = {"host": "localhost", "content-type": "multipart/form-data; boundary=x", "content-length": "500"}
    scope = {
        **dict(type="http", method="POST", path="/v1/predictions", raw_path=b"/v1/predictions", query_string=b""),
        **dict(scheme="http", root_path="", http_version="1.1", client=None, server=("localhost", 80)),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    sent, pieces = [], iter(body)

    async def receive():
        piece = next(pieces)
        if piece is None:
            await asyncio.Event().wait()
        cut = {"type": "http.disconnect"}
        return cut if piece == "cut" else {"type": "http.request", "body": piece, "more_body": True}

    async def ask():
        async def told(message):
            sent.append(message)

        await client.app(scope, receive, told)

    client.portal.call(ask)
    return sent


def test_memory_is_shared_in_the_order_of_asking():
    order = []

    async def hold(budget, name, amount):
        async with budget.taken(amount):
            order.append(name)
            await asyncio.sleep(0)

    async def all_of_them():
        budget = Budget(10)  # 40
        await asyncio.gather(*(hold(budget, number, 10) for number in range(12)))
        assert order == list(range(12))
        await asyncio.wait_for(hold(budget, "whole", 40), 1)
        with pytest.raises(TimeoutError):
            async with budget.taken(35):
                await asyncio.wait_for(hold(budget, "never", 10), 0.05)
        await asyncio.wait_for(hold(budget, "again", 40), 1)

    asyncio.run(all_of_them())
