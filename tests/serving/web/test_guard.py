"""Who may ask, and what every response carries."""

import logging
import re

import pytest

from tests.serving.web.conftest import encoded, is_problem, picture, post

TOKEN = "0123456789abcdef"
PATHS = ("/", "/page.css", "/page.js", "/v1/model", "/healthz", "/readyz", "/metrics", "/v1/openapi.json", "/nothing")


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:9000", "[::1]:8000", "LOCALHOST"])
def test_hosts_of_this_machine_are_answered(client, host):
    assert client.get("/v1/model", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::1", "10.0.0.1"]
)
def test_other_hosts_are_refused_but_by_probes(client, host):
    assert is_problem(client.get("/v1/model", headers={"Host": host}), 421)
    assert is_problem(client.get("/", headers={"Host": host}), 421)
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


def test_a_host_that_is_allowed_is_answered(serve):
    client = serve(hosts=["derma.example"], token=TOKEN)
    assert client.get("/", headers={"Host": "derma.example"}).status_code == 200
    assert is_problem(client.get("/", headers={"Host": "other.example"}), 421)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:3000", "file://", ""])
def test_other_pages_are_refused(client, colours, origin):
    assert is_problem(post(client, encoded(picture()), headers={"Origin": origin}), 403)
    assert colours.batches == []


def test_the_own_page_is_answered(client):
    assert post(client, encoded(picture()), headers={"Origin": "http://127.0.0.1:8000"}).status_code == 200


@pytest.mark.parametrize("sent", ["", "Bearer", "Bearer 0123456789abcdeF", f"Basic {TOKEN}", TOKEN, "Bearer é"])
def test_without_the_token_only_page_and_probes_are_answered(serve, sent):
    client = serve(token=TOKEN)
    headers = {"Authorization": sent.encode("utf-8")}
    for path in ("/v1/model", "/metrics", "/v1/openapi.json"):
        response = client.get(path, headers=headers)
        assert is_problem(response, 401) and response.headers["WWW-Authenticate"] == "Bearer"
    assert is_problem(post(client, encoded(picture()), headers=headers), 401)
    for path in ("/", "/page.js", "/healthz", "/readyz"):
        assert client.get(path, headers=headers).status_code == 200


def test_with_the_token_all_is_answered(serve):
    client = serve(token=TOKEN)
    assert post(client, encoded(picture()), headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


@pytest.mark.parametrize("path", PATHS)
def test_every_response_has_its_policy_and_no_cookie(client, path):
    headers = client.get(path).headers
    policy = dict(one.strip().split(" ", 1) for one in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'" and policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store" and "Set-Cookie" not in headers
    assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize("path", ["/", "/page.css", "/page.js", "/cards.js", "/numbers.js", "/v1/openapi.json"])
def test_nothing_names_another_address(client, path):
    assert re.findall(r"(?:https?:)?//[a-z0-9]", client.get(path).text.replace("// ", ""), re.IGNORECASE) == []


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect"])
def test_pages_that_load_from_elsewhere_are_off(client, path):
    assert is_problem(client.get(path), 404)


def test_other_methods_are_refused(client):
    for method, path in (("GET", "/v1/predictions"), ("DELETE", "/v1/model"), ("POST", "/")):
        assert is_problem(client.request(method, path), 405)
    assert client.options("/v1/predictions").status_code == 405


def test_nothing_of_files_is_logged_nor_told_when_the_server_fails(client, caplog, capfd, monkeypatch):
    def fail(*_):
        raise RuntimeError("a secret of lesion.jpg")

    monkeypatch.setattr("segfusion_jax.serving.web.answers.answer", fail)
    caplog.set_level(logging.DEBUG)
    response = client.post("/v1/predictions", files=[("images", ("lesion.jpg", encoded(picture())))])
    assert is_problem(response, 500) and "secret" not in response.text
    told = "".join((*caplog.messages, *capfd.readouterr()))
    assert "RuntimeError" in told and "secret" not in told and "lesion.jpg" not in told
    assert not any(record.exc_info for record in caplog.records)
