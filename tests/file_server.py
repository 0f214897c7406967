"""A web server of our own, for tests, that cuts, refuses, redirects, ignores ranges or counts what it sends."""

import contextlib
import http.server
import socket
import struct
import threading
import time
from collections.abc import Iterator


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`; the other attributes say how, and record what was asked."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.files: dict[str, bytes] = {}  # by path, query included
        self.redirects: dict[str, str] = {}
        self.requests: list[str | None] = []  # the Range of each GET
        self.asked: list[str] = []  # method and path of each request
        self.agents: list[str] = []
        self.sent: list[int] = []  # bytes of each answer's body
        self.cuts: list[int] = []  # of the next answers, how many bytes are sent before the connection is cut
        self.status: int | None = None  # instead of the content
        self.statuses: list[int] = []  # the same for the next answers
        self.headers: dict[str, str] = {}  # of every answer, beside the others
        self.ranges = True
        self.content_range: str | None = None  # instead of the right one
        self.length = True  # whether it is announced
        self.head = True  # whether HEAD is allowed
        self.nonsense = False  # it does not speak HTTP
        self.reset = False  # a cut connection is reset, not closed
        self.pause = 0.0


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self):
        if not self.server.head:
            return self.send_error(501)
        self.answer()

    def do_GET(self):
        asked = self.headers["Range"]
        self.server.requests.append(asked)
        self.server.agents.append(self.headers["User-Agent"])
        time.sleep(self.server.pause)
        self.answer(asked)

    def answer(self, asked: str | None = None):
        self.server.asked.append(f"{self.command} {self.path}")
        if self.server.nonsense:
            self.wfile.write(b"nonsense\r\n\r\n")
            return None
        if self.path in self.server.redirects:
            return self.begin(302, {"Location": self.server.redirects[self.path], "Content-Length": "0"})
        content = self.server.files.get(self.path)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.server.ranges else 0
        refused = self.server.status or (self.server.statuses.pop(0) if self.server.statuses else None)
        if refused or content is None or start >= max(len(content), 1):
            self.server.sent.append(0)
            return self.begin(refused or (404 if content is None else 416), self.server.headers)
        headers = dict(self.server.headers)
        if self.server.length:
            headers["Content-Length"] = str(len(content) - start)
        if asked and self.server.ranges:
            right = f"bytes {start}-{len(content) - 1}/{len(content)}"
            headers["Content-Range"] = self.server.content_range or right
        self.begin(206 if asked and self.server.ranges else 200, headers)
        if self.command == "GET":
            self.send_body(content[start:])

    def begin(self, status: int, headers: dict[str, str]):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def send_body(self, body: bytes):
        cut = self.server.cuts.pop(0) if self.server.cuts else None
        self.server.sent.append(len(body[:cut]))
        try:
            self.wfile.write(body[:cut])
        except ConnectionError:
            pass  # the client may hang up
        if cut is not None and self.server.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, format, *args):
        pass


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """A server that answers while the context lasts. The environment must not name a proxy for 127.0.0.1."""
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield made
        finally:
            made.shutdown()
            thread.join()
