"""`segfusion serve`: what it refuses before it listens, and the process as a whole."""

import http.client
import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from segfusion_jax.commands import serve
from segfusion_jax.serving.segfusion import SegFusion

RELEASED = pathlib.Path(__file__).parents[2] / "released" / "ham10000"
TOKEN = "0123456789abcdef"


@pytest.fixture
def never_loads(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(SegFusion, "load", refuse)


@pytest.fixture
def token(tmp_path):
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    return tmp_path / "token"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "derma.example", "localhost.evil.example"])
def test_beyond_this_machine_a_token_is_needed(parse, never_loads, host):
    with pytest.raises(ValueError, match=f"--host = {host}: others can ask there, so give a token by --token-file"):
        serve.run(parse("serve", "--model", RELEASED, "--host", host, "--port", 0))


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_at_every_address_a_name_is_needed(parse, never_loads, token, host):
    with pytest.raises(ValueError, match="say by --allow-host what clients call this server"):
        serve.run(parse("serve", "--model", RELEASED, "--host", host, "--token-file", token, "--port", 0))


@pytest.mark.parametrize(
    "content", [b"", b"short", b"x" * 4097, "0123456789abcdeé".encode(), b"0123456789abcdef\n\x00x"]
)
def test_a_token_has_a_form(parse, never_loads, token, content):
    token.write_bytes(content)
    with pytest.raises(ValueError, match="token"):
        serve.run(parse("serve", "--model", RELEASED, "--token-file", token, "--port", 0))


def test_a_token_file_that_is_missing_is_named(parse, never_loads, tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing-here"):
        serve.run(parse("serve", "--model", RELEASED, "--token-file", tmp_path / "nothing-here", "--port", 0))


@pytest.mark.parametrize(
    "option", ["--max-megabytes", "--max-megapixels", "--max-images", "--max-queue", "--max-seconds"]
)
def test_limits_are_above_zero(parse, never_loads, option):
    with pytest.raises(ValueError, match="must be above 0"):
        serve.run(parse("serve", "--model", RELEASED, option, 0, "--port", 0))


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1"])
@pytest.mark.parametrize("option", ["--max-megabytes", "--max-megapixels", "--max-seconds"])
def test_limits_are_finite(parse, never_loads, option, value):
    with pytest.raises(ValueError, match=f"{option} = {value}.*: must be above 0"):
        serve.run(parse("serve", "--model", RELEASED, f"{option}={value}", "--port", 0))


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_is_one(parse, never_loads, port):
    with pytest.raises(ValueError, match=f"--port = {port}: must be 0 to 65535"):
        serve.run(parse("serve", "--model", RELEASED, f"--port={port}"))


def test_help_needs_none_of_its_packages():
    script = """
import sys
for name in ("fastapi", "uvicorn", "starlette", "pydantic", "jax"):
    sys.modules[name] = None
from segfusion_jax.commands import main
main.main(["serve", "--help"])
"""
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    assert "--token-file" in shown.stdout


@pytest.mark.faults
def test_a_process_serves_ends_in_order_and_starts_again_after_a_kill():
    for ending, status in ((signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 0)):
        process, port = started()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        connection.request("GET", "/v1/model")
        assert json.load(connection.getresponse())["classes"][0] == {"name": "melanoma", "malignant": True}
        process.send_signal(ending)
        told = process.communicate(timeout=60)[0]
        assert process.returncode == status, told
        assert "127.0.0.1 - " not in told and "Traceback" not in told


def started() -> tuple[subprocess.Popen, int]:
    command = [sys.executable, "-m", "segfusion_jax.commands.main", "serve", "--model", str(RELEASED), "--port", "0"]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    process = subprocess.Popen(command, env={**os.environ, "JAX_PLATFORMS": "cpu"}, **pipes)
    for line in process.stdout:
        if line.startswith("http://127.0.0.1:"):
            return process, int(line.strip(" /\n").rsplit(":", 1)[1])
    raise AssertionError(f"it ended with {process.wait()}")
