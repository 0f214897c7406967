"""Published weights: fetched from a server of our own that cuts, refuses, ignores ranges or counts what it sends."""

import hashlib
import http.server
import os
import pathlib
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import types

import numpy as np
import pytest

from segfusion_jax.models import published
from segfusion_jax.models.published import PUBLISHED, Published, fetch

CONTENT = np.random.default_rng(0).bytes(700_001)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME, FILENAME = "efficientnet_b0.test", "weights.pth"


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT at every path; `requests` has each request's Range and `sent` the bytes of each answer."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[str | None] = []
        self.agents: list[str] = []
        self.sent: list[int] = []
        self.cuts: list[int] = []  # of the next answers, how many bytes are sent before the connection is cut
        self.status: int | None = None  # instead of the content
        self.ranges = True
        self.content_range: str | None = None  # instead of the right one
        self.length = True  # whether it is announced
        self.reset = False  # a cut connection is reset, not closed
        self.pause = 0.0


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        asked = self.headers["Range"]
        self.server.requests.append(asked)
        self.server.agents.append(self.headers["User-Agent"])
        time.sleep(self.server.pause)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.server.ranges else 0
        if self.server.status or start >= len(CONTENT):
            self.server.sent.append(0)
            return self.send_error(self.server.status or 416)
        self.send_response(206 if asked and self.server.ranges else 200)
        if asked and self.server.ranges:
            right = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
            self.send_header("Content-Range", self.server.content_range or right)
        body = CONTENT[start:]
        if self.server.length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = self.server.cuts.pop(0) if self.server.cuts else None
        self.server.sent.append(len(body[:cut]))
        try:
            self.wfile.write(body[:cut])
        except ConnectionError:
            pass  # the client may hang up
        if cut is not None and self.server.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, format, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(published, "_PAUSE", 0.0)
    monkeypatch.setenv("no_proxy", "*")
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        publish(monkeypatch, f"http://127.0.0.1:{made.server_port}/{FILENAME}", SHA256)
        yield made
        made.shutdown()
        thread.join()


def publish(monkeypatch, url: str, sha256: str) -> None:
    monkeypatch.setitem(PUBLISHED, NAME, Published(url, sha256, "efficientnet_b0", "tensorflow"))


def url() -> str:
    return PUBLISHED[NAME].url


def part(cache: pathlib.Path) -> pathlib.Path:
    return cache / f"{FILENAME}.part"


def check_failure(error: pytest.ExceptionInfo, cache: pathlib.Path, reason: str) -> None:
    """The message gives the reason, the URL and both places for the file; nothing has the final name."""
    for text in (reason, url(), "SEGFUSION_DATA", str(cache), FILENAME):
        assert text in str(error.value)
    assert not (cache / FILENAME).exists()


def check_success(cache: pathlib.Path) -> None:
    assert fetch(NAME, cache) == cache / FILENAME
    assert (cache / FILENAME).read_bytes() == CONTENT
    assert not os.path.lexists(part(cache))


def test_a_file_is_downloaded_once(server, tmp_path):
    check_success(tmp_path / "new" / "cache")
    check_success(tmp_path / "new" / "cache")
    assert server.requests == [None]
    assert server.agents == ["segfusion_jax"]


@pytest.mark.parametrize(("seconds", "least", "most"), [(0, 8, 9), (100, 1, 2)])
def test_progress_is_logged_now_and_then_and_as_our_own(server, tmp_path, caplog, monkeypatch, seconds, least, most):
    monkeypatch.setattr(published, "_CHUNK", 100_000)
    monkeypatch.setattr(published, "_LOG_SECONDS", seconds)
    with caplog.at_level("INFO", "absl"):
        fetch(NAME, tmp_path)
    messages = [record.getMessage() for record in caplog.records]
    assert least <= len(messages) <= most and messages[-1].startswith(f"{FILENAME}: 0.7 MB in ")
    assert all(re.fullmatch(rf"{FILENAME}: 0.\d of 0.7 MB, [\d.]+ MB/s", message) for message in messages[:-1])
    assert {record.pathname for record in caplog.records} == {published.__file__}


def test_a_cached_file_is_taken_as_it_is(server, tmp_path):
    (tmp_path / FILENAME).write_bytes(b"other")
    assert fetch(NAME, tmp_path).read_bytes() == b"other"
    assert [path.name for path in tmp_path.iterdir()] == [FILENAME]  # no lock: the folder may be read-only
    assert not server.requests


def test_the_leading_digits_of_the_sum_are_enough(server, tmp_path, monkeypatch):
    publish(monkeypatch, url(), SHA256[:8])
    check_success(tmp_path)


@pytest.mark.parametrize("expected", ["0" * 64, "0" * 8, SHA256[1:9]])
def test_a_wrong_sum_is_an_error_and_leaves_nothing(server, tmp_path, monkeypatch, expected):
    publish(monkeypatch, url(), expected)
    with pytest.raises(ValueError) as error:
        fetch(NAME, tmp_path)
    for text in (url(), expected, SHA256):
        assert text in str(error.value)
    assert not part(tmp_path).exists() and not (tmp_path / FILENAME).exists()
    assert server.requests == [None]


def test_a_cut_download_goes_on_where_it_ended(server, tmp_path):
    server.cuts = [300_000, 1, 0]
    check_success(tmp_path)
    assert server.requests == [None, "bytes=300000-", "bytes=300001-", "bytes=300001-"]
    assert server.sent == [300_000, 1, 0, len(CONTENT) - 300_001]


def test_a_reset_connection_is_tried_again(server, tmp_path):
    server.reset = True
    server.cuts = [600_000]
    check_success(tmp_path)
    assert len(server.requests) == 2


def test_a_silent_server_is_tried_again_and_then_an_error(server, tmp_path, monkeypatch):
    monkeypatch.setattr(published, "_TIMEOUT", 0.05)
    server.pause = 0.2
    with pytest.raises(OSError) as error:
        fetch(NAME, tmp_path)
    check_failure(error, tmp_path, "timed out")
    assert len(server.requests) == published._ATTEMPTS


def test_a_download_cut_for_good_is_an_error_and_goes_on_next_time(server, tmp_path):
    server.cuts = [100_000] * published._ATTEMPTS
    with pytest.raises(OSError) as error:
        fetch(NAME, tmp_path)
    kept = 100_000 * published._ATTEMPTS
    check_failure(error, tmp_path, f"cut after {kept} of {len(CONTENT)} bytes")
    assert part(tmp_path).read_bytes() == CONTENT[:kept]
    check_success(tmp_path)
    assert server.requests[published._ATTEMPTS :] == [f"bytes={kept}-"]


def test_pauses_between_attempts_are_short_and_grow(server, tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr(published, "_PAUSE", 1.0)
    monkeypatch.setattr(published, "time", types.SimpleNamespace(sleep=pauses.append, monotonic=time.monotonic))
    server.cuts = [0] * published._ATTEMPTS
    with pytest.raises(OSError):
        fetch(NAME, tmp_path)
    assert len(pauses) == len(server.requests) - 1 == published._ATTEMPTS - 1
    assert pauses == sorted(set(pauses)) and 0 < sum(pauses) < 10


def test_a_server_without_ranges_starts_over(server, tmp_path):
    server.ranges = False
    server.cuts = [300_000]
    check_success(tmp_path)
    assert server.sent == [300_000, len(CONTENT)]


def test_a_server_that_answers_with_another_range_starts_over(server, tmp_path):
    part(tmp_path).write_bytes(CONTENT[:1000])
    server.content_range = f"bytes 10000-{len(CONTENT) - 1}/{len(CONTENT)}"
    check_success(tmp_path)
    assert server.requests == ["bytes=1000-", None]


@pytest.mark.parametrize("stale", [len(CONTENT), len(CONTENT) + 1000])
def test_a_part_that_is_too_long_is_written_anew(server, tmp_path, stale):
    part(tmp_path).write_bytes(bytes(stale))
    check_success(tmp_path)
    assert server.requests == [f"bytes={stale}-", None]


def test_a_wrong_part_fails_once(server, tmp_path):
    part(tmp_path).write_bytes(bytes(1000))
    with pytest.raises(ValueError, match="SHA-256"):
        fetch(NAME, tmp_path)
    check_success(tmp_path)


def test_a_length_that_is_not_announced_is_no_fault_but_a_short_file_is(server, tmp_path):
    server.length = False
    server.cuts = [1000]
    with pytest.raises(ValueError, match="SHA-256"):
        fetch(NAME, tmp_path)
    assert not (tmp_path / FILENAME).exists()
    check_success(tmp_path)


@pytest.mark.parametrize("status", [403, 404, 416, 500])
def test_an_http_error_is_told_at_once(server, tmp_path, status):
    server.status = status
    with pytest.raises(OSError) as error:
        fetch(NAME, tmp_path)
    check_failure(error, tmp_path, f"HTTP Error {status}")
    assert server.requests == [None]


def test_no_server(tmp_path, monkeypatch, server):
    with Server() as closed:
        port = closed.server_port
    publish(monkeypatch, f"http://127.0.0.1:{port}/{FILENAME}", SHA256)
    with pytest.raises(OSError) as error:
        fetch(NAME, tmp_path)
    check_failure(error, tmp_path, "Connection refused")


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk(server, tmp_path):
    part(tmp_path).symlink_to("/dev/full")
    with pytest.raises(OSError) as error:
        fetch(NAME, tmp_path)
    check_failure(error, tmp_path, "No space left on device")
    assert server.requests == [None]


def test_a_cache_that_cannot_be_written(server, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(OSError) as error:
        fetch(NAME, tmp_path / "cache")
    for text in (url(), "SEGFUSION_DATA", str(tmp_path / "cache")):
        assert text in str(error.value)
    assert not server.requests


def test_threads_that_ask_at_once_download_once(server, tmp_path):
    server.pause = 0.1
    threads = [threading.Thread(target=fetch, args=(NAME, tmp_path)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check_success(tmp_path)
    assert server.requests == [None]


def test_a_process_waits_for_another_that_downloads(server, tmp_path):
    hold = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); "
    other = subprocess.Popen(
        [sys.executable, "-c", hold + "sys.stdin.read()", str(tmp_path / f"{FILENAME}.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert other.stdout and other.stdout.readline() == b"held\n"
    thread = threading.Thread(target=fetch, args=(NAME, tmp_path))
    thread.start()
    thread.join(0.2)
    assert thread.is_alive() and not server.requests
    (tmp_path / FILENAME).write_bytes(b"by the other process")
    other.communicate()
    thread.join()
    assert (tmp_path / FILENAME).read_bytes() == b"by the other process"
    assert not server.requests


def test_an_unknown_name(tmp_path):
    with pytest.raises(ValueError) as error:
        fetch("efficientnet_b9.tf_aa", tmp_path)
    for name in ("efficientnet_b9.tf_aa", *PUBLISHED):
        assert name in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_entry_agrees_with_the_digits_in_its_files_name(name):
    entry = PUBLISHED[name]
    digits = re.fullmatch(r"https://.+-([0-9a-f]{8})\.pth", entry.url)
    assert digits and entry.sha256.startswith(digits[1])
    assert re.fullmatch(r"[0-9a-f]{8}|[0-9a-f]{64}", entry.sha256)
    assert name.startswith(f"{entry.backbone}.")
    assert entry.family in ("tensorflow", "timm", "torchvision")
