"""How long the first train step takes: with nothing compiled, and with the persistent cache of compiled programs.

    python benchmarks/compilation.py

Each network is started in a process of its own, first with an empty cache, then again with what that left. The time is
that of the first step, which traces and compiles, less that of a later one. The native kernels are compiled before: the
first line.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from side_by_side import Peer, median, table

CASES = {"efficientnet_b0": (16, 224, 224), "unet": (8, 256, 384)}
COMPILE_KERNELS = "from segfusion_jax.ops import native; native.available()"


def main() -> None:
    """Prints one table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(f"native kernels: {_native_seconds(pathlib.Path(folder)):.1f} s, once a machine\n")
        rows = []
        for network, (batch, height, width) in CASES.items():
            os.environ["JAX_COMPILATION_CACHE_DIR"] = str(pathlib.Path(folder) / network)
            case = ["--network", network, "--mode", "train", "--batch", batch, "--size", height, width]
            rows.append([network, *(f"{_compile_seconds(case):.1f} s" for _ in range(2))])
    print(table(["network", "nothing compiled", "from the cache"], rows))


def _native_seconds(folder: pathlib.Path) -> float:
    environment = os.environ | {"XDG_CACHE_HOME": str(folder)}
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", COMPILE_KERNELS], env=environment, check=True)
        seconds.append(time.perf_counter() - start)
    return seconds[0] - seconds[1]


def _compile_seconds(case: list) -> float:
    peer = Peer(sys.executable, "our_networks.py", *case)
    peer.wait()
    step = median([peer.ask(1)["seconds"] for _ in range(5)])
    peer.close()
    return peer.about["first_step_seconds"] - step


if __name__ == "__main__":
    main()
