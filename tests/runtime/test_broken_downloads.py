"""The downloader against servers that cut, refuse and ignore ranges, and disks that are full."""

import errno
import pathlib
import time
import types

import pytest

from segfusion_jax.runtime import downloads
from segfusion_jax.runtime.downloads import announced_size, fetch
from tests import file_server
from tests.runtime.fetching import CONTENT, FILENAME, MD5, check_failure, check_success, part, remote


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
