"""The Dockerfile, compose.yaml and the manifest in docs/serve.md, against the program that they start."""

import json
import pathlib
import re
import subprocess
import sys

import pytest

from segfusion_jax.commands import parser

ROOT = pathlib.Path(__file__).parents[1]
LINES = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()


def instructions(name: str) -> list[str]:
    return [line.removeprefix(f"{name} ") for line in LINES if line.startswith(f"{name} ")]


def served(words: list[str]) -> None:
    """That the program takes a command line, and others can ask there."""
    arguments = parser.parse(words)
    assert (arguments.command, arguments.host, str(arguments.model)) == ("serve", "0.0.0.0", "/model")
    assert arguments.token_file == "/run/secrets/token" and arguments.allow_host


def test_what_is_copied_is_there_and_not_ignored():
    sources = [source for line in instructions("COPY") if "--from" not in line for source in line.split()[:-1]]
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert sorted(sources) == sorted(kept)
    assert all((ROOT / source).exists() for source in sources)


def test_the_image_serves_as_a_user_without_rights():
    assert instructions("ENTRYPOINT") == ['["segfusion"]']
    served(json.loads(instructions("CMD")[0]))
    assert re.fullmatch(r"[1-9]\d*", instructions("USER")[-1])
    stages = [line for line in LINES if line.startswith(("FROM", "USER"))]
    assert stages[-1].startswith("USER")


def test_the_health_check_asks_what_the_server_answers():
    pytest.importorskip("uvicorn", reason="needs the extra [serve]")
    from tests.serving.web.conftest import Colours
    from tests.serving.web.test_sockets import served as serving

    (check,) = (json.loads(line[line.index("[") :]) for line in LINES if "HEALTHCHECK" in line)
    with serving(Colours()) as (port, _):
        asked = [sys.executable, *(word.replace(":8000", f":{port}") for word in check[1:])]
        assert subprocess.run(asked, timeout=60).returncode == 0
    assert subprocess.run(asked, timeout=60, capture_output=True).returncode != 0


def test_compose_starts_the_same():
    yaml = pytest.importorskip("yaml", reason="needs the extra [docs]")
    service = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["segfusion"]
    served(service["command"])
    assert service["read_only"] and service["cap_drop"] == ["ALL"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_the_manifest_probes_what_needs_no_token():
    yaml = pytest.importorskip("yaml", reason="needs the extra [docs]")
    pytest.importorskip("fastapi", reason="needs the extra [serve]")
    from segfusion_jax.serving.web.guard import PROBES

    (text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/serve.md").read_text(), flags=re.DOTALL)
    deployment, service = yaml.safe_load_all(text)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    served(container["args"])
    probes = {name: container[name]["httpGet"]["path"] for name in container if name.endswith("Probe")}
    assert probes == {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}
    assert set(probes.values()) <= set(PROBES)
    volumes = {volume["name"] for volume in deployment["spec"]["template"]["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    assert service["spec"]["ports"][0]["targetPort"] == container["ports"][0]["containerPort"] == 8000
