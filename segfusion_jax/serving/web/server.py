"""The process that serves: a socket, and uvicorn behind it."""

import socket

import uvicorn
from starlette.types import ASGIApp

_DRAIN_SECONDS = 20  # in which requests under way are answered after a signal; below `interruption.GRACE_SECONDS`
_HEADERS = 32 << 10  # bytes of a request's headers
_CONNECTIONS = 1000  # at once


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket that listens; with port 0, at any that is free.

    Raises:
      OSError: the address is taken, or none of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise OSError(f"cannot listen at {host}, port {port}: {error.strerror or error}") from error


def address(listening: socket.socket) -> str:
    """Returns the address of a page that is served at a socket."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def serve(app: ASGIApp, listening: socket.socket) -> None:
    """Serves until a signal comes, and then what is under way. Nothing that is asked or answered is logged."""
    make_server(app).run(sockets=[listening])


def make_server(app: ASGIApp) -> uvicorn.Server:
    """Returns a server that is not started; its `should_exit` ends it as a signal does."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http="h11",
            ws="none",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=_HEADERS,
            limit_concurrency=_CONNECTIONS,
            timeout_graceful_shutdown=_DRAIN_SECONDS,
        )
    )
