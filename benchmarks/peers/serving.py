"""What a timed process says to the one that compares: a line of JSON for each line it is sent. No dependencies."""

import json
import resource
import sys
import time
from collections.abc import Callable


def serve(run: Callable[[int], None], about: dict) -> None:
    """Warms up, reports `about` and the time to the first step, then times as many steps as each line asks for.

    Args:
      run: makes the given number of steps and returns when the last one is done.
      about: what else to report.
    """
    start = time.perf_counter()
    run(1)
    first = time.perf_counter() - start
    run(2)
    print(json.dumps(about | {"first_step_seconds": first}), flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        run(int(line))
        seconds = time.perf_counter() - start
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps({"seconds": seconds, "host_bytes": peak}), flush=True)
