"""The downloader, against a server of our own that cuts, refuses, ignores ranges or counts what it sends."""

import errno
import hashlib
import io
import itertools
import pathlib
import re
import subprocess
import sys
import threading
import time
import types
import zipfile

import numpy as np
import pytest

from segfusion_jax.runtime import downloads, progress
from segfusion_jax.runtime.downloads import Remote, announced_size, fetch
from tests import file_server

CONTENT = np.random.default_rng(0).bytes(700_001)
SHA256, MD5 = hashlib.sha256(CONTENT).hexdigest(), hashlib.md5(CONTENT).hexdigest()
FILENAME = "weights.pth"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(downloads, "_PAUSE", 0.0)
    monkeypatch.setenv("no_proxy", "*")
    with file_server.running() as running:
        running.files[f"/{FILENAME}"] = CONTENT
        yield running


def remote(server: file_server.Server, path: str = f"/{FILENAME}", **known) -> Remote:
    return Remote(f"{server.address}{path}", **(known or {"sha256": SHA256}))


def part(folder: pathlib.Path) -> pathlib.Path:
    return folder / f"{FILENAME}.part"


def check_failure(server: file_server.Server, folder: pathlib.Path, reason: str, **known) -> None:
    with pytest.raises(OSError, match=reason):
        fetch(remote(server, **known), folder)
    assert not (folder / FILENAME).exists()


def check_success(server: file_server.Server, folder: pathlib.Path, **known) -> None:
    assert fetch(remote(server, **known), folder) == folder / FILENAME
    assert (folder / FILENAME).read_bytes() == CONTENT
    assert not part(folder).exists()


def archive(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


class TestRemote:
    def test_a_file_is_named_like_the_last_part_of_its_path_or_as_told(self):
        assert Remote("https://a.org/b/c.zip?format=original").filename == "c.zip"
        assert Remote("https://a.org/api/7", "c.zip").filename == "c.zip"

    @pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://a.org/b", "/etc/passwd", "data:,b"])
    def test_other_schemes_are_refused(self, url):
        with pytest.raises(ValueError, match=f"{url}.*http"):
            Remote(url, "b")

    def test_an_address_without_a_name_is_refused(self):
        with pytest.raises(ValueError, match="https://a.org/"):
            Remote("https://a.org/")


class TestOnce:
    def test_a_file_is_downloaded_once(self, server, tmp_path):
        check_success(server, tmp_path / "new" / "cache")
        check_success(server, tmp_path / "new" / "cache")
        assert server.requests == [None]
        assert server.agents == ["segfusion_jax"]

    def test_a_file_that_is_there_is_taken_as_it_is(self, server, tmp_path):
        (tmp_path / FILENAME).write_bytes(b"other")
        assert fetch(remote(server), tmp_path).read_bytes() == b"other"
        assert [path.name for path in tmp_path.iterdir()] == [FILENAME]  # no lock: the folder may be read-only
        assert not server.requests

    def test_threads_that_ask_at_once_download_once(self, server, tmp_path):
        server.pause = 0.1
        threads = [threading.Thread(target=fetch, args=(remote(server), tmp_path)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        check_success(server, tmp_path)
        assert server.requests == [None]

    def test_processes_that_ask_at_once_download_once(self, server, tmp_path):
        server.pause = 1.0
        program = (
            "import pathlib, sys; from segfusion_jax.runtime.downloads import Remote, fetch; "
            "fetch(Remote(sys.argv[1]), pathlib.Path(sys.argv[2]))"
        )
        command = [sys.executable, "-c", program, remote(server).url, str(tmp_path)]
        running = [subprocess.Popen(command) for _ in range(2)]
        assert [process.wait(timeout=60) for process in running] == [0, 0]
        check_success(server, tmp_path)
        assert server.requests == [None]

    def test_a_process_waits_for_another_that_downloads(self, server, tmp_path):
        hold = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True)"
        other = subprocess.Popen(
            [sys.executable, "-c", f"{hold}; sys.stdin.read()", str(tmp_path / f"{FILENAME}.lock")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert other.stdout and other.stdout.readline() == b"held\n"
        thread = threading.Thread(target=fetch, args=(remote(server), tmp_path))
        thread.start()
        thread.join(0.2)
        assert thread.is_alive() and not server.requests
        (tmp_path / FILENAME).write_bytes(b"by the other process")
        other.communicate()
        thread.join()
        assert (tmp_path / FILENAME).read_bytes() == b"by the other process"
        assert not server.requests


class TestProgress:
    @pytest.mark.parametrize(("seconds", "least", "most"), [(0, 9, 10), (100, 2, 2)])
    def test_is_logged_now_and_then_and_as_our_own(self, server, tmp_path, caplog, monkeypatch, seconds, least, most):
        monkeypatch.setattr(downloads, "_CHUNK", 100_000)
        monkeypatch.setattr(downloads, "_LOG_SECONDS", seconds)
        with caplog.at_level("INFO", "segfusion_jax"):
            fetch(remote(server), tmp_path)
        messages = [record.getMessage() for record in caplog.records]
        assert least <= len(messages) <= most and messages[-1].startswith(f"{FILENAME}: 0.7 MB in ")
        assert messages[0] == f"{FILENAME}: 0.0 of 0.7 MB"
        pattern = rf"{FILENAME}: 0.\d of 0.7 MB, [\d.]+ MB/s, \d+ s left"
        assert all(re.fullmatch(pattern, message) for message in messages[1:-1])
        assert {record.pathname for record in caplog.records} == {downloads.__file__, progress.__file__}

    def test_of_a_resumed_file_counts_the_rate_of_what_came_now(self, server, tmp_path, monkeypatch, caplog):
        part(tmp_path).write_bytes(CONTENT[:600_001])
        monkeypatch.setattr(progress, "time", types.SimpleNamespace(monotonic=lambda: next(clock)))
        monkeypatch.setattr(downloads, "_LOG_SECONDS", 0)
        clock = itertools.count(0.0, 0.5)
        with caplog.at_level("INFO", "segfusion_jax"):
            check_success(server, tmp_path)
        started, showed, _ = (record.getMessage() for record in caplog.records)
        assert started == f"{FILENAME}: 0.6 of 0.7 MB"
        # what came is 0.1 MB in 1.5 s: the clock is asked at the start, for two lines, and for the rate of the second
        assert showed == f"{FILENAME}: 0.7 of 0.7 MB, 0.1 MB/s, 0 s left"


class TestChecks:
    def test_the_leading_digits_of_the_sum_are_enough(self, server, tmp_path):
        check_success(server, tmp_path, sha256=SHA256[:8])

    def test_every_known_fact_is_checked(self, server, tmp_path):
        check_success(server, tmp_path, sha256=SHA256.upper(), md5=MD5, size=len(CONTENT))

    def test_nothing_needs_to_be_known(self, server, tmp_path):
        check_success(server, tmp_path, sha256="")

    @pytest.mark.parametrize(
        ("algorithm", "expected", "found"),
        [
            ("sha256", "0" * 64, SHA256),
            ("sha256", "0" * 8, SHA256),
            ("sha256", SHA256[1:9], SHA256),
            ("md5", "0" * 32, MD5),
            ("md5", SHA256, MD5),
        ],
    )
    def test_a_wrong_sum_is_an_error_and_leaves_nothing(self, server, tmp_path, algorithm, expected, found):
        with pytest.raises(ValueError) as error:
            fetch(remote(server, **{algorithm: expected}), tmp_path)
        for text in (remote(server).url, expected, found):
            assert text in str(error.value)
        assert not part(tmp_path).exists() and not (tmp_path / FILENAME).exists()
        assert server.requests == [None]

    def test_a_wrong_size_is_an_error_and_leaves_nothing(self, server, tmp_path):
        for size in (len(CONTENT) - 1, len(CONTENT) + 1):
            with pytest.raises(ValueError, match=f"{server.address}.*has {len(CONTENT)} bytes, expected {size};"):
                fetch(remote(server, size=size), tmp_path)
            assert not part(tmp_path).exists() and not (tmp_path / FILENAME).exists()
        assert server.requests == [None, None]

    def test_a_zip_is_checked_by_its_members(self, server, tmp_path):
        server.files["/a.zip"] = archive(a=CONTENT, b=bytes(1000))
        assert fetch(Remote(f"{server.address}/a.zip"), tmp_path).read_bytes() == server.files["/a.zip"]

    @pytest.mark.parametrize("where", ["stored data", "deflated data", "end", "no zip"])
    def test_a_broken_zip_is_an_error_and_leaves_nothing(self, server, tmp_path, where):
        content = bytearray(archive(stored=CONTENT, deflated=bytes(range(256)) * 100))
        at = {"stored data": 1000, "deflated data": content.index(b"deflated") + 20, "end": -4, "no zip": 0}[where]
        content[at : at + 4] = b"\xff\xfe\xfd\xfc"
        server.files["/a.zip"] = b"image,MEL\n" if where == "no zip" else bytes(content)
        with pytest.raises(ValueError, match=f"{server.address}/a.zip is a broken zip"):
            fetch(Remote(f"{server.address}/a.zip"), tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["a.zip.lock"]

    def test_a_zip_of_known_sum_is_not_opened(self, server, tmp_path):
        fetch(remote(server, filename="a.zip", md5=MD5), tmp_path)
        assert (tmp_path / "a.zip").read_bytes() == CONTENT

    @pytest.mark.parametrize(("headers", "status"), [({"Content-Type": "text/html; charset=utf-8"}, None), ({}, 202)])
    def test_a_page_instead_of_the_file_is_an_error(self, server, tmp_path, headers, status):
        server.headers, server.status = headers, status
        part(tmp_path).write_bytes(CONTENT[:1000])
        check_failure(server, tmp_path, "not with a file")
        assert part(tmp_path).read_bytes() == CONTENT[:1000]
        assert len(server.requests) == 1


class TestResume:
    def test_a_cut_download_goes_on_where_it_ended(self, server, tmp_path):
        server.cuts = [300_000, 1, 0]
        check_success(server, tmp_path)
        assert server.requests == [None, "bytes=300000-", "bytes=300001-", "bytes=300001-"]
        assert server.sent == [300_000, 1, 0, len(CONTENT) - 300_001]

    def test_after_a_redirection_too(self, server, tmp_path):
        server.redirects["/7"] = f"/{FILENAME}?signed"
        server.files[f"/{FILENAME}?signed"] = CONTENT
        server.cuts = [300_000]
        check_success(server, tmp_path, path="/7", filename=FILENAME)
        assert server.requests == [None, None, "bytes=300000-", "bytes=300000-"]
        assert server.sent == [300_000, len(CONTENT) - 300_000]

    def test_a_reset_connection_is_tried_again(self, server, tmp_path):
        server.reset = True
        server.cuts = [600_000]
        check_success(server, tmp_path)
        assert len(server.requests) == 2

    def test_a_download_cut_for_good_is_an_error_and_goes_on_next_time(self, server, tmp_path):
        server.cuts = [100_000] * downloads._ATTEMPTS
        kept = 100_000 * downloads._ATTEMPTS
        check_failure(server, tmp_path, f"cut after {kept} of {len(CONTENT)} bytes")
        assert part(tmp_path).read_bytes() == CONTENT[:kept]
        check_success(server, tmp_path)
        assert server.requests[downloads._ATTEMPTS :] == [f"bytes={kept}-"]

    def test_attempts_that_bring_much_are_not_counted(self, server, tmp_path, monkeypatch):
        monkeypatch.setattr(downloads, "_PROGRESS", 100_000)
        server.cuts = [100_000] * 6
        check_success(server, tmp_path)
        assert len(server.requests) == 7 > downloads._ATTEMPTS

    def test_a_server_without_ranges_starts_over(self, server, tmp_path):
        server.ranges = False
        server.cuts = [300_000]
        check_success(server, tmp_path)
        assert server.sent == [300_000, len(CONTENT)]

    def test_a_server_that_answers_with_another_range_starts_over(self, server, tmp_path):
        part(tmp_path).write_bytes(CONTENT[:1000])
        server.content_range = f"bytes 10000-{len(CONTENT) - 1}/{len(CONTENT)}"
        check_success(server, tmp_path)
        assert server.requests == ["bytes=1000-", None]

    @pytest.mark.parametrize("stale", [len(CONTENT), len(CONTENT) + 1000])
    def test_a_part_that_is_too_long_is_written_anew(self, server, tmp_path, stale):
        part(tmp_path).write_bytes(bytes(stale))
        check_success(server, tmp_path)
        assert server.requests == [f"bytes={stale}-", None]

    def test_a_part_of_the_known_size_is_only_checked(self, server, tmp_path):
        part(tmp_path).write_bytes(CONTENT)
        check_success(server, tmp_path, size=len(CONTENT), md5=MD5)
        assert not server.requests

    def test_a_wrong_part_fails_once(self, server, tmp_path):
        part(tmp_path).write_bytes(bytes(1000))
        with pytest.raises(ValueError, match="SHA-256"):
            fetch(remote(server), tmp_path)
        check_success(server, tmp_path)

    def test_a_length_that_is_not_announced_is_no_fault_but_a_short_file_is(self, server, tmp_path):
        server.length = False
        server.cuts = [1000]
        with pytest.raises(ValueError, match="SHA-256"):
            fetch(remote(server), tmp_path)
        assert not (tmp_path / FILENAME).exists()
        check_success(server, tmp_path)

    def test_the_known_size_stands_in_for_a_length_that_is_not_announced(self, server, tmp_path):
        server.length = False
        server.cuts = [1000]
        check_success(server, tmp_path, size=len(CONTENT))
        assert server.requests == [None, "bytes=1000-"]


class TestRetries:
    def test_a_silent_server_is_tried_again_and_then_an_error(self, server, tmp_path, monkeypatch):
        monkeypatch.setattr(downloads, "_TIMEOUT", 0.05)
        server.pause = 0.2
        check_failure(server, tmp_path, "timed out")
        assert len(server.requests) == downloads._ATTEMPTS

    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    def test_a_busy_server_is_tried_again(self, server, tmp_path, status):
        server.statuses = [status, status]
        check_success(server, tmp_path)
        assert len(server.requests) == 3

    def test_a_server_that_stays_busy_is_an_error(self, server, tmp_path):
        server.status = 503
        check_failure(server, tmp_path, "HTTP Error 503")
        assert len(server.requests) == downloads._ATTEMPTS

    @pytest.mark.parametrize("status", [403, 404, 416])
    def test_another_http_error_is_told_at_once(self, server, tmp_path, status):
        server.status = status
        check_failure(server, tmp_path, f"HTTP Error {status}")
        assert server.requests == [None]

    def pauses(self, monkeypatch) -> list[float]:
        pauses = []
        monkeypatch.setattr(downloads, "_PAUSE", 1.0)
        monkeypatch.setattr(downloads, "time", types.SimpleNamespace(sleep=pauses.append, monotonic=time.monotonic))
        return pauses

    def test_pauses_between_attempts_are_short_and_grow(self, server, tmp_path, monkeypatch):
        pauses = self.pauses(monkeypatch)
        server.cuts = [0] * downloads._ATTEMPTS
        check_failure(server, tmp_path, "cut after 0")
        assert len(pauses) == len(server.requests) - 1 == downloads._ATTEMPTS - 1
        assert pauses == sorted(set(pauses)) and 0 < sum(pauses) < 10

    def test_a_server_says_how_long_to_wait(self, server, tmp_path, monkeypatch):
        pauses = self.pauses(monkeypatch)
        server.headers = {"Retry-After": "60"}
        server.statuses = [429, 503]
        check_success(server, tmp_path)
        assert pauses == [60.0, 60.0]

    def test_a_long_wait_is_an_error(self, server, tmp_path, monkeypatch):
        pauses = self.pauses(monkeypatch)
        server.headers = {"Retry-After": "61"}
        server.statuses = [503]
        check_failure(server, tmp_path, "HTTP Error 503")
        assert not pauses

    def test_a_date_to_wait_for_is_not_heeded(self, server, tmp_path, monkeypatch):
        pauses = self.pauses(monkeypatch)
        server.headers = {"Retry-After": "Fri, 31 Dec 2100 23:59:59 GMT"}
        server.statuses = [503]
        check_success(server, tmp_path)
        assert pauses == [1.0]

    def test_a_server_that_does_not_speak_http_is_an_error(self, server, tmp_path):
        server.nonsense = True
        check_failure(server, tmp_path, f"{server.address}.*nonsense")
        assert len(server.requests) == downloads._ATTEMPTS
        with pytest.raises(OSError, match=f"{server.address}.*nonsense"):
            announced_size(remote(server))

    def test_no_server(self, tmp_path, monkeypatch, server):
        with file_server.Server() as closed:
            pass
        monkeypatch.setattr(downloads, "_PAUSE", 100.0)  # waits for nothing
        check_failure(closed, tmp_path, "Connection refused")


class TestDisk:
    @pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="needs /dev/full")
    def test_a_full_disk(self, server, tmp_path):
        part(tmp_path).symlink_to("/dev/full")
        with pytest.raises(OSError, match=f"No space left on device.*make room.*{FILENAME}.part") as error:
            fetch(remote(server), tmp_path)
        assert error.value.errno == errno.ENOSPC
        assert part(tmp_path).is_symlink() and not (tmp_path / FILENAME).exists()
        assert server.requests == [None]

    def test_a_disk_that_fills_keeps_what_came(self, server, tmp_path, monkeypatch):
        receive = downloads._receive

        def fills(*arguments):
            receive(*arguments)
            raise OSError(errno.EDQUOT, "Disk quota exceeded")

        server.cuts = [300_000]
        monkeypatch.setattr(downloads, "_CHUNK", 100_000)
        monkeypatch.setattr(downloads, "_ATTEMPTS", 1)
        with pytest.raises(OSError, match="cut"):
            fetch(remote(server), tmp_path)
        monkeypatch.setattr(downloads, "_receive", fills)
        with pytest.raises(OSError, match=r"Disk quota exceeded; the 0.7 MB that came are kept"):
            fetch(remote(server), tmp_path)
        assert part(tmp_path).read_bytes() == CONTENT

    def test_a_folder_that_cannot_be_written(self, server, tmp_path):
        (tmp_path / "cache").write_text("a file")
        with pytest.raises(OSError, match=str(tmp_path / "cache")):
            fetch(remote(server), tmp_path / "cache")
        assert not server.requests


class TestRedirects:
    @pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1/weights.pth", "data:,weights"])
    def test_to_something_else_than_the_web_are_refused(self, server, tmp_path, target):
        server.redirects[f"/{FILENAME}"] = target
        check_failure(server, tmp_path, "(?i)redirection")
        assert server.requests == [None]
        assert not part(tmp_path).exists()


def test_the_kept_size_is_that_of_the_part(server, tmp_path):
    assert downloads.kept_size(remote(server), tmp_path) == 0
    part(tmp_path).write_bytes(bytes(1000))
    assert downloads.kept_size(remote(server), tmp_path) == 1000


class TestAnnouncedSize:
    def test_is_asked_for_without_fetching(self, server):
        assert announced_size(remote(server)) == len(CONTENT)
        assert server.asked == [f"HEAD /{FILENAME}"]

    def test_is_0_where_the_server_does_not_say(self, server):
        server.length = False
        assert announced_size(remote(server)) == 0
        server.head = False
        assert announced_size(remote(server)) == 0

    def test_a_busy_server_is_asked_again(self, server):
        server.statuses = [503]
        assert announced_size(remote(server)) == len(CONTENT)

    def test_a_missing_file_is_an_error(self, server):
        with pytest.raises(OSError, match="HTTP Error 404"):
            announced_size(remote(server, path="/other"))
