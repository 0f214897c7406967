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


STOPPED = """
import contextlib
from segfusion_jax.config import Augmentation, Input
from segfusion_jax.input.loader import TrainStream
from tests.input import fakes

def train():
    stream = TrainStream(fakes.examples(4, image_size=(256, 256)), Augmentation(), batch_size=8, seed=1)
    with contextlib.closing(stream.batches(0, 100, Input(num_workers=1))) as batches:
        for step, batch in enumerate(batches):
            if step == 2:
                raise KeyboardInterrupt

if __name__ == "__main__":
    train()
"""


def test_a_script_that_is_stopped_leaves_nothing_in_shared_memory(tmp_path):
    done = run(tmp_path, STOPPED)
    assert done.returncode and done.stderr.strip().endswith("KeyboardInterrupt")


def test_a_script_and_a_thread_of_it_read_by_workers(tmp_path):
    done = run(tmp_path, SCRIPT)
    assert done.returncode == 0, done.stderr


def run(folder, script):
    (folder / "script.py").write_text(script)
    path = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))))
    return subprocess.run(
        [sys.executable, folder / "script.py"], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )
