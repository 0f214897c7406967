"""`segfusion serve` under load, beside what a user would build: FastAPI around ONNX Runtime and the exported file.

    python benchmarks/serve_load.py MODEL FOLDER [--seconds=60] [--clients 1 4 16 64]

FOLDER holds images. Each client sends one image, waits for the answer and sends the next, over one connection; the two
servers take turns. Prints images a second, the median, 95th and 99th percentile of the seconds to an answer, how many
requests were refused (the client then waits as long as it is told), and the server's memory before and after.
Needs the extras [serve] and [export], and onnxruntime.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import http.client
import itertools
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence

from side_by_side import PEERS, table

BOUNDARY = "boundary-of-the-load-test"
START_SECONDS = 900  # in which a server must be ready: programs are compiled


@dataclasses.dataclass
class Load:
    """What clients saw of a server.

    Attributes:
      seconds: of each answer.
      refused: requests that were answered by 429 or 503.
      rate: answers a second.
    """

    seconds: list[float] = dataclasses.field(default_factory=list)
    refused: int = 0
    rate: float = 0.0

    def told(self) -> list[str]:
        """Returns cells of a table."""
        if len(self.seconds) < 2:
            return [f"{self.rate:.1f}", "–", "–", "–", str(self.refused)]
        cuts = statistics.quantiles(self.seconds, n=100, method="inclusive")
        return [f"{self.rate:.1f}", *(f"{cuts[place]:.3f}" for place in (49, 94, 98)), str(self.refused)]


class Server:
    """A server in a process of its own."""

    def __init__(self, command: Sequence[str], port: int):
        self.port = port
        self._process = subprocess.Popen([*command], stdout=subprocess.DEVNULL)

    def wait(self) -> None:
        """Waits until it can predict."""
        end = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError):
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
                connection.request("GET", "/readyz")
                if connection.getresponse().status == 200:
                    return
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{self._process.args} is not ready: run it by hand to see why")
            time.sleep(0.5)

    def memory(self) -> float:
        """Returns MB that it holds."""
        status = pathlib.Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) / 1000

    def close(self) -> None:
        """Ends it."""
        self._process.terminate()
        self._process.wait()


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 64])
    arguments = parser.parse_args()
    bodies = [_body(path) for path in sorted(arguments.folder.glob("*.jpg"))[:100]]
    rows = []
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        servers = dict(_servers(arguments.model, pathlib.Path(folder)))
        for server in servers.values():
            stack.callback(server.close)
        for server in servers.values():
            server.wait()
            _loaded(server.port, bodies, clients=8, seconds=min(5, arguments.seconds))
        for clients, (name, server) in itertools.product(arguments.clients, servers.items()):
            before = server.memory()
            load = _loaded(server.port, bodies, clients=clients, seconds=arguments.seconds)
            rows.append([name, str(clients), *load.told(), f"{before:.0f}", f"{server.memory():.0f}"])
            print(*rows[-1], file=sys.stderr, flush=True)
    header = [
        "server",
        "clients",
        "images a second",
        "median, s",
        "95 %, s",
        "99 %, s",
        "refused",
        "MB before",
        "after",
    ]
    print(table(header, rows))


def _servers(model: str, folder: pathlib.Path) -> Iterator[tuple[str, Server]]:
    program = [sys.executable, "-m", "segfusion_jax.commands.main"]
    subprocess.run([*program, "export", "--model", model, "--output", folder, "--format", "onnx"], check=True)
    ports = _free_port(), _free_port()
    yield "segfusion serve", Server([*program, "serve", "--model", model, "--port", str(ports[0])], ports[0])
    peer = [sys.executable, str(PEERS / "onnx_server.py"), str(folder / "segfusion.onnx"), str(ports[1])]
    yield "FastAPI and ONNX Runtime", Server(peer, ports[1])


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def _body(path: pathlib.Path) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="{path.name}"\r\n\r\n'
    return head.encode() + path.read_bytes() + f"\r\n--{BOUNDARY}--\r\n".encode()


def _loaded(port: int, bodies: Sequence[bytes], *, clients: int, seconds: float) -> Load:
    """Asks a server by several clients at once for some seconds; answers that come later count, as does their time."""
    began = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(clients) as executor:
        started = [
            executor.submit(_client, port, bodies[number % len(bodies) :] + bodies[: number % len(bodies)], seconds)
            for number in range(clients)
        ]
        loads = [one.result() for one in started]
    answered = list(itertools.chain.from_iterable(load.seconds for load in loads))
    rate = len(answered) / (time.perf_counter() - began)
    return Load(answered, sum(load.refused for load in loads), rate)


def _client(port: int, bodies: Sequence[bytes], seconds: float) -> Load:
    load, end = Load(), time.perf_counter() + seconds
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    for body in itertools.cycle(bodies):
        if (began := time.perf_counter()) > end:
            break
        connection.request("POST", "/v1/predictions", body, headers)
        response = connection.getresponse()
        content = response.read()
        if response.status == 200:
            load.seconds.append(time.perf_counter() - began)
        elif response.status in (429, 503):
            load.refused += 1
            time.sleep(float(response.headers["Retry-After"] or 1))
        else:
            raise RuntimeError(f"status {response.status}: {content[:300]!r}")
    connection.close()
    return load


if __name__ == "__main__":
    main()
