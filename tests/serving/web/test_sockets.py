"""The server at a real socket: connections that no client of good manners makes."""

import concurrent.futures
import contextlib
import http.client
import socket
import threading
import time

import pytest

from segfusion_jax.serving.web import server
from segfusion_jax.serving.web.app import make_app
from segfusion_jax.serving.web.limits import Limits
from tests.serving.web.conftest import FACTS, encoded, picture

BODY = (
    b'--x\r\nContent-Disposition: form-data; name="images"; filename="lesion.png"\r\n\r\n'
    + encoded(picture())
    + b"\r\n--x--\r\n"
)
HEAD = (
    f"POST /v1/predictions HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    f"Content-Length: {len(BODY)}\r\nConnection: close\r\n\r\n"
).encode()


@contextlib.contextmanager
def served(model, **limits):
    """Serves a model at a free port, and ends with the block."""
    listening = server.listen("127.0.0.1", 0)
    process = server.make_server(make_app(model, FACTS, Limits(**limits)))
    thread = threading.Thread(target=process.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield listening.getsockname()[1], process
    finally:
        process.should_exit = True
        thread.join(30)
    assert not thread.is_alive()


def answered(port: int, sent: bytes, *, then_close: bool = False) -> bytes:
    """What the server answers to some bytes; b"" where the connection is closed without waiting."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        with contextlib.suppress(OSError):  # the server may have closed it, having read enough
            connection.sendall(sent)
        if then_close:
            return b""
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                answer += piece
        return answer


@pytest.fixture
def port(colours):
    with served(colours, seconds=20) as (port, _):
        yield port


BAD = {
    "no HTTP": b"hello\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "zeros": bytes(1000) + b"\r\n\r\n",
    "a path of a million": b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a header of a million": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n",
    "200,000 headers": b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 200_000 + b"\r\n",
    "two lengths": HEAD.replace(b"Connection", b"Content-Length: 5\r\nConnection") + BODY,
    "length and chunks": HEAD.replace(b"Connection", b"Transfer-Encoding: chunked\r\nConnection") + BODY,
    "two hosts": b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "a length too large": HEAD.replace(str(len(BODY)).encode(), b"9" * 17) + BODY,
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_request_is_refused_and_the_next_good_one_answered(port, kind):
    assert answered(port, BAD[kind])[9:12] in (b"400", b"413", b"")
    assert answered(port, HEAD + BODY).startswith(b"HTTP/1.1 200")


def test_connections_that_are_cut_anywhere_leave_the_server_as_it_was(port):
    whole = HEAD + BODY
    for place in range(0, len(whole), 37):
        answered(port, whole[:place], then_close=True)
    assert answered(port, whole).startswith(b"HTTP/1.1 200")


def test_a_body_that_comes_slowly_is_refused_in_time(colours):
    with served(colours, seconds=0.5) as (port, _):
        assert answered(port, HEAD + BODY[:50]).startswith(b"HTTP/1.1 408")
        assert answered(port, HEAD + BODY).startswith(b"HTTP/1.1 200")


def test_a_body_too_large_is_refused_before_it_is_sent(colours):
    with served(colours, bytes=1000) as (port, _):
        head = HEAD.replace(str(len(BODY)).encode(), b"100000000")
        assert answered(port, head).startswith(b"HTTP/1.1 413")


def test_a_server_that_ends_answers_what_is_under_way(colours):
    with concurrent.futures.ThreadPoolExecutor(4) as clients, served(colours) as (port, process):
        assert answered(port, HEAD + BODY).startswith(b"HTTP/1.1 200")
        colours.open.clear()
        waiting = [clients.submit(answered, port, HEAD + BODY) for _ in range(4)]
        connection = http.client.HTTPConnection("127.0.0.1", port)
        while "segfusion_images_under_way 4\n" not in counts(connection):
            pass
        process.should_exit = True
        time.sleep(0.3)
        colours.open.set()
        assert [one.result()[:12] for one in waiting] == [b"HTTP/1.1 200"] * 4


def counts(connection: http.client.HTTPConnection) -> str:
    connection.request("GET", "/metrics", headers={"Host": "localhost"})
    return connection.getresponse().read().decode()


def test_an_address_that_is_taken_is_told(port):
    with pytest.raises(OSError, match=f"cannot listen at 127.0.0.1, port {port}: .*in use"):
        server.listen("127.0.0.1", port)


def test_nothing_is_written_to_disk(port, monkeypatch):
    import tempfile

    def refuse(*_, **__):
        raise AssertionError("a file")

    for name in ("TemporaryFile", "NamedTemporaryFile", "mkstemp", "SpooledTemporaryFile"):
        monkeypatch.setattr(tempfile, name, refuse)
    assert answered(port, HEAD + BODY).startswith(b"HTTP/1.1 200")
