"""Workers that a script starts, in which nobody has parsed the flags that Grain reads."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import threading
from segfusion_jax.config import Augmentation, Input
from segfusion_jax.input.loader import TrainStream
from tests.training import toy

if __name__ == "__main__":
    found = []
    stream = TrainStream(toy.examples(8), Augmentation(), batch_size=4, seed=1)

    def read(workers):
        found.append([batch["image"].sum() for batch in stream.batches(0, 2, Input(num_workers=workers))])

    read(0)
    thread = threading.Thread(target=read, args=(1,))
    thread.start(); thread.join()
    assert found[0] == found[1], found
"""


def test_a_script_and_a_thread_of_it_read_by_workers(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    path = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py"], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
