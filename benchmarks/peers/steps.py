"""Times steps of a network: first the compilation, then as many as asked for, again and again."""

import argparse
import resource
import time
from collections.abc import Callable

from serving import serve


def arguments() -> argparse.Namespace:
    """Reads which network, in which mode and at which size: what every peer is told."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--network", choices=("efficientnet_b0", "unet"), required=True)
    parser.add_argument("--mode", choices=("train", "predict"), required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--size", type=int, nargs=2, required=True, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--compile", action="store_true", help="torch.compile")
    parser.add_argument("--plain", action="store_true", help="ours without our kernels")
    return parser.parse_args()


def serve_steps(run: Callable[[int], None], about: dict, device_bytes: Callable[[], int | None]) -> None:
    """Answers a number of steps with the seconds they took and the most memory there was, on the host and the device.

    Args:
      run: makes that many steps and returns when the last one is done.
      about: what to say first, with the seconds of the first step.
      device_bytes: most memory on the accelerator so far; None without one.
    """
    start = time.perf_counter()
    run(1)
    first = time.perf_counter() - start
    run(2)

    def answer(line: str) -> dict:
        start = time.perf_counter()
        run(int(line))
        seconds = time.perf_counter() - start
        host = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {"seconds": seconds, "host_bytes": host, "device_bytes": device_bytes()}

    serve(answer, about | {"first_step_seconds": first})
