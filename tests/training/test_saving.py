"""When a training is saved on several processes; what is saved is tested with `fit`."""

import types

import numpy as np
import pytest

from segfusion_jax.training.saving import Saving


class Processes:
    """Two processes, of which the other one wishes at the calls `wishes`, counted from 0."""

    num_processes, is_lead = 2, False

    def __init__(self, *wishes: int):
        self.wishes, self.calls = wishes, 0

    def any_process(self, flag: bool) -> np.bool_:
        self.calls += 1
        return np.bool_(flag or self.calls - 1 in self.wishes)


def made(devices, *, on_device=False, seconds=1e9) -> Saving:
    task = types.SimpleNamespace(stream=types.SimpleNamespace(on_device=on_device))
    return Saving(task, devices, types.SimpleNamespace(), seconds)


@pytest.mark.parametrize(("on_device", "delay"), [(False, 4), (True, 1)])
def test_processes_hear_of_each_others_wishes_some_calls_later(on_device, delay):
    ours = made(Processes(2), on_device=on_device)
    assert [ours.is_due(False) for _ in range(8)] == [call == 2 + delay for call in range(8)]


def test_a_wish_of_our_own_takes_as_long():
    ours = made(Processes())
    assert [ours.is_due(call == 0) for call in range(6)] == [call == 4 for call in range(6)]


@pytest.mark.parametrize("is_lead", [True, False])
def test_the_lead_finds_the_time(is_lead):
    devices = Processes()
    devices.is_lead, devices.num_processes = is_lead, 1
    assert made(devices, seconds=0.0).is_due(False) is is_lead
