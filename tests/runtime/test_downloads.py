"""The downloader, against a server of our own that cuts, refuses, ignores ranges or counts what it sends."""

import io
import itertools
import re
import subprocess
import sys
import threading
import types
import zipfile

import pytest

from segfusion_jax.runtime import downloads, progress
from segfusion_jax.runtime.downloads import Remote, announced_size, fetch
from tests.runtime.fetching import CONTENT, FILENAME, MD5, SHA256, SHA512, check_failure, check_success, part, remote


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
        check_success(server, tmp_path, sha256=SHA256.upper(), sha512=SHA512, md5=MD5, size=len(CONTENT))

    def test_nothing_needs_to_be_known(self, server, tmp_path):
        check_success(server, tmp_path, sha256="")

    @pytest.mark.parametrize(
        ("algorithm", "expected", "found"),
        [
            ("sha256", "0" * 64, SHA256),
            ("sha256", "0" * 8, SHA256),
            ("sha256", SHA256[1:9], SHA256),
            ("sha512", "0" * 128, SHA512),
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
