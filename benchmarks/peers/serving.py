"""What a timed process and the one that compares say to each other: lines of JSON. Needs the standard library only."""

import json
import sys
from collections.abc import Callable


def serve(answer: Callable[[str], dict], about: dict) -> None:
    """Prints `about` once the process is ready, then the answer to each line that it is sent."""
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(line.strip())), flush=True)
