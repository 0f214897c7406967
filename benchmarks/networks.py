"""Side by side with PyTorch and Keras: EfficientNet-B0 and the paper's U-Net, training and prediction."""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

PEERS = pathlib.Path(__file__).parent / "peers"
CASES = {
    ("efficientnet_b0", "train"): (16, 224, 224),
    ("efficientnet_b0", "predict"): (16, 224, 224),
    ("unet", "train"): (8, 256, 384),
    ("unet", "predict"): (8, 256, 384),
}


class Peer:
    def __init__(self, python, script, network, mode, batch, size, *extra):
        command = [python, str(PEERS / script), "--network", network, "--mode", mode, "--batch", str(batch)]
        command += ["--size", *map(str, size), *extra]
        env = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(PEERS.parent.parent), os.environ.get("PYTHONPATH", "")]),
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        }
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        self.about = json.loads(self._process.stdout.readline())

    def time(self, steps):
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self):
        self._process.stdin.close()
        self._process.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--torch", default="")
    parser.add_argument("--torch_compile", action="store_true")
    parser.add_argument("--keras", default="")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    for (network, mode), (batch, *size) in CASES.items():
        if args.only and args.only not in f"{network}:{mode}":
            continue
        batch = args.batch or batch
        peers = {"ours": Peer(sys.executable, "our_networks.py", network, mode, batch, size)}
        if args.torch:
            peers["torch"] = Peer(args.torch, "torch_networks.py", network, mode, batch, size)
        if args.torch_compile:
            peers["torch compiled"] = Peer(args.torch, "torch_networks.py", network, mode, batch, size, "--compile")
        if args.keras:
            peers["keras"] = Peer(args.keras, "keras_networks.py", network, mode, batch, size)
        results = {name: [] for name in peers}
        for _ in range(args.rounds):
            for name, peer in peers.items():
                results[name].append(peer.time(args.steps))
        for name, peer in peers.items():
            seconds = [r["seconds"] / args.steps for r in results[name]]
            median = statistics.median(seconds)
            print(
                network,
                mode,
                batch,
                name,
                f"{batch / median:.1f} img/s",
                f"spread {min(seconds) / median:.2f}..{max(seconds) / median:.2f}",
                f"first {peer.about['first_step_seconds']:.1f}s",
                f"{results[name][-1]['host_bytes'] / 2**20:.0f} MiB",
                flush=True,
            )
            peer.close()


main()
