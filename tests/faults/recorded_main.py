"""main.py, which writes down the batches that its train steps get: a line "step hash" each, to the file $BATCHES."""

import hashlib
import os
import pathlib
import runpy
import sys

from segfusion_jax.runtime.devices import Devices

_compile = Devices.compile_train_step


def compile_train_step(self, step):
    compiled, file = _compile(self, step), os.open(os.environ["BATCHES"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def recorded(state, batch):
        hashed = hashlib.sha256(b"".join(batch[name].tobytes() for name in sorted(batch))).hexdigest()
        os.write(file, f"{int(state.step)} {hashed}\n".encode())
        return compiled(state, batch)

    return recorded


Devices.compile_train_step = compile_train_step
root = pathlib.Path(__file__).parents[2]
sys.argv[0] = str(root / "main.py")
runpy.run_path(sys.argv[0], run_name="__main__")
