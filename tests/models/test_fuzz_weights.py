"""Damaged weight files: each is read or refused as no readable weight file, and runs nothing.

A few of each kind in the suite; `pytest -n 0 -m fuzz tests/models/test_fuzz_weights.py` damages 2,200. Of HDF5 there
are fewer, since each is read in a process of its own, which the library may crash.
"""

import warnings

import numpy as np
import pytest

from segfusion_jax.models import weight_files
from tests.datasets.test_fuzz import damaged
from tests.datasets.test_fuzz import ended_when_hanging as ended_when_hanging
from tests.models import test_torch_pickle as torch_files
from tests.models.test_torch_checkpoints import OPTIONS
from tests.models.weight_file_kinds import KERNEL, KINDS


def save_checkpoint(path):
    weights = {"kernel": torch_files.tensor(size=12, shape=(3, 4), strides=(4, 1))}
    value = {"epoch": 3, "model_state_dict": weights, "args": OPTIONS[0], "metric": OPTIONS[2]}
    path.write_bytes(torch_files.zipped(value, {"0": KERNEL.tobytes()}))


SAVED = KINDS | {"checkpoint": save_checkpoint}


def end_well(path, kind: str, seeds: range) -> None:
    SAVED[kind](path)
    whole = path.read_bytes()
    for seed in seeds:
        path.write_bytes(damaged(whole, np.random.default_rng(seed)))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # numbers that become infinite
                arrays = weight_files.read(path)
        except ValueError as error:
            assert str(path) in str(error)
        else:
            assert arrays and all(array.dtype.kind in "fiub" for array in arrays.values())


@pytest.mark.parametrize("kind", SAVED)
def test_some_damaged_files(tmp_path, kind):
    end_well(tmp_path / "w", kind, range(3 if "keras" in kind else 40))


@pytest.mark.fuzz
@pytest.mark.parametrize("kind", SAVED)
def test_many_damaged_files(tmp_path, kind):
    end_well(tmp_path / "w", kind, range(40, 100 if "keras" in kind else 330))
