"""What a server counts, as text that Prometheus reads. It holds no name and nothing of any image."""

import collections
import threading
from collections.abc import Iterator

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)  # upper ends of the histogram's bins


class Metrics:
    """Counts of requests, images and batches; may be told by any thread."""

    def __init__(self):
        self._lock = threading.Lock()
        self._requests: collections.Counter[tuple[str, int]] = collections.Counter()
        self._seconds: collections.Counter[float] = collections.Counter()
        self._total_seconds = 0.0
        self._images = self._batches = 0
        self.under_way = 0
        """Images under way."""

    def request(self, path: str, status: int, seconds: float) -> None:
        """Counts a request by its path, one of the server's own, and what it was answered."""
        with self._lock:
            self._requests[path, status] += 1
            if path == "/v1/predictions" and status == 200:
                self._seconds[next((end for end in _SECONDS if seconds <= end), float("inf"))] += 1
                self._total_seconds += seconds

    def batch(self, size: int) -> None:
        """Counts a batch of images on the device."""
        with self._lock:
            self._batches += 1
            self._images += size

    def text(self) -> str:
        """Returns all counts in Prometheus' text format."""
        with self._lock:
            return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        yield from _head("segfusion_requests_total", "counter", "Requests by path and status.")
        for (path, status), count in sorted(self._requests.items()):
            yield f'segfusion_requests_total{{path="{path}",status="{status}"}} {count}'
        yield from _head("segfusion_images_total", "counter", "Images that the device was given.")
        yield f"segfusion_images_total {self._images}"
        yield from _head("segfusion_batches_total", "counter", "Batches that the device was given.")
        yield f"segfusion_batches_total {self._batches}"
        yield from _head("segfusion_images_under_way", "gauge", "Images of requests that are not answered yet.")
        yield f"segfusion_images_under_way {self.under_way}"
        name, count = "segfusion_prediction_seconds", 0
        yield from _head(name, "histogram", "Seconds from a request for predictions to its answer.")
        for end in (*_SECONDS, float("inf")):
            count += self._seconds[end]
            yield f'{name}_bucket{{le="{"+Inf" if end == float("inf") else end}"}} {count}'
        yield f"{name}_sum {self._total_seconds:.6f}"
        yield f"{name}_count {count}"


def _head(name: str, kind: str, told: str) -> Iterator[str]:
    yield f"# HELP {name} {told}"
    yield f"# TYPE {name} {kind}"
