"""Who may ask, and what every response carries: it stands before everything else."""

import hmac
import logging
import time
from collections.abc import Collection, Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from segfusion_jax.serving.web.metrics import Metrics
from segfusion_jax.serving.web.problems import Problem

_log = logging.getLogger(__name__)

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""What a machine calls itself."""

PROBES = ("/healthz", "/readyz")
"""Paths that anybody may ask for: they tell nothing, and orchestrators call them by the machine's address."""

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Lets requests through to `app` that name this server, come from its own page or from no page, and have the token.

    Whatever `app` raises is answered by 500, and of it only the type is logged: messages may hold names of files.

    Args:
      app: what answers them.
      hosts: names by which this server may be asked for, beside those of the loopback interface.
      token: what must be in the header Authorization, as "Bearer TOKEN"; "" = nothing.
      open_paths: paths that need no token.
      paths: paths of the server, by which requests are counted.
      metrics: is told of each request.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Sequence[str],
        token: str,
        open_paths: Collection[str],
        paths: Collection[str],
        metrics: Metrics,
    ):
        self._app, self._token, self._metrics = app, token, metrics
        self._hosts = {name.lower().strip("[]") for name in (*LOOPBACK, *hosts)}
        self._open_paths, self._paths = open_paths, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or passes on what is none."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        began, status = time.monotonic(), 0

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        try:
            self._check(scope["path"], Headers(scope=scope))
            await self._app(scope, receive, sent)
        except Problem as problem:
            await problem.response()(scope, receive, sent)
        except Exception as error:
            _log.error("a request failed: %s", type(error).__name__)
            if not status:  # nothing was sent yet
                await Problem(500, "The server failed at this request.").response()(scope, receive, sent)
        path = scope["path"] if scope["path"] in self._paths else "other"
        self._metrics.request(path, status, time.monotonic() - began)

    def _check(self, path: str, headers: Headers) -> None:
        if path in PROBES:
            return
        host = headers.get("host", "")
        if _name(host) not in self._hosts:
            raise Problem(
                421, "The header Host does not name this server.", f"One of {', '.join(sorted(self._hosts))}."
            )
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
            raise Problem(
                403, "The request comes from another page.", "Requests of this server's own page, or of none."
            )
        if self._token and path not in self._open_paths and not self._is_authorised(headers.get("authorization", "")):
            raise Problem(401, "The token is missing or wrong.", "A header 'Authorization: Bearer TOKEN'.")

    def _is_authorised(self, header: str) -> bool:
        return hmac.compare_digest(header.encode("utf-8", "replace"), f"Bearer {self._token}".encode())


def _name(host: str) -> str:
    """Returns the name in a header Host, without its port; "" where it is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
