"""Published weights: what is fetched under which name, and what is said where that fails."""

import hashlib
import os
import pathlib
import re

import numpy as np
import pytest

from segfusion_jax.models.published import PUBLISHED, Published, checked, fetch
from segfusion_jax.runtime import downloads
from tests import file_server

CONTENT = np.random.default_rng(0).bytes(700_001)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME, FILENAME = "efficientnet_b0.test", "weights.pth"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(downloads, "_PAUSE", 0.0)
    monkeypatch.setenv("no_proxy", "*")
    with file_server.running() as running:
        running.files[f"/{FILENAME}"] = CONTENT
        publish(monkeypatch, f"{running.address}/{FILENAME}", SHA256)
        yield running


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


def test_a_file_that_was_exchanged_in_the_cache_is_downloaded_again(server, tmp_path):
    check_success(tmp_path)
    (tmp_path / FILENAME).write_bytes(CONTENT[:-1] + b"?")
    check_success(tmp_path)
    assert server.requests == [None, None]


def test_a_file_of_that_name_among_the_users_own_must_be_it(server, tmp_path):
    (tmp_path / FILENAME).write_bytes(CONTENT)
    assert checked(NAME, tmp_path / FILENAME) == tmp_path / FILENAME
    (tmp_path / FILENAME).write_bytes(b"another")
    with pytest.raises(ValueError, match=f"{FILENAME} is not {NAME}: it has SHA-256 .*; remove it"):
        checked(NAME, tmp_path / FILENAME)


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


def test_a_download_cut_for_good_is_an_error_and_goes_on_next_time(server, tmp_path):
    server.cuts = [100_000] * downloads._ATTEMPTS
    with pytest.raises(OSError) as error:
        fetch(NAME, tmp_path)
    kept = 100_000 * downloads._ATTEMPTS
    check_failure(error, tmp_path, f"cut after {kept} of {len(CONTENT)} bytes")
    check_success(tmp_path)
    assert server.requests[downloads._ATTEMPTS :] == [f"bytes={kept}-"]


@pytest.mark.parametrize("status", [403, 404, 500])
def test_an_http_error(server, tmp_path, status):
    server.status = status
    with pytest.raises(OSError) as error:
        fetch(NAME, tmp_path)
    check_failure(error, tmp_path, f"HTTP Error {status}")


def test_no_server(tmp_path, monkeypatch, server):
    with file_server.Server() as closed:
        publish(monkeypatch, f"{closed.address}/{FILENAME}", SHA256)
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
    assert entry.conventions in ("tensorflow", "timm", "torchvision")
