"""A file that tests download from a server of our own, and what a download leaves."""

import hashlib
import pathlib

import numpy as np
import pytest

from segfusion_jax.runtime.downloads import Remote, fetch
from tests import file_server

CONTENT = np.random.default_rng(0).bytes(700_001)
SHA256, SHA512, MD5 = (hashlib.new(name, CONTENT).hexdigest() for name in ("sha256", "sha512", "md5"))
FILENAME = "weights.pth"


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
