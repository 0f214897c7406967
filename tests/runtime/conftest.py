"""A web server that has the file that tests download."""

import pytest

from segfusion_jax.runtime import downloads
from tests import file_server
from tests.runtime.fetching import CONTENT, FILENAME


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(downloads, "_PAUSE", 0.0)
    monkeypatch.setenv("no_proxy", "*")
    with file_server.running() as running:
        running.files[f"/{FILENAME}"] = CONTENT
        yield running
