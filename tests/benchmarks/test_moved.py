"""Bytes counted in the text of compiled programs: one written by hand, and ones that this machine's compiler made."""

import pathlib
import sys

import jax
import jax.numpy as jnp
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "benchmarks"))

from moved import Moved, moved  # noqa: E402

TEXT = """HloModule jit_step, is_scheduled=true

%fused (p: bf16[8,4]) -> bf16[8,4] {
  %p = bf16[8,4]{1,0} parameter(0)
  ROOT %n = bf16[8,4]{1,0} negate(%p)
}

%body (c: (s32[], bf16[8,4])) -> (s32[], bf16[8,4]) {
  %c = (s32[], bf16[8,4]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%c), index=0
  %x = bf16[8,4]{1,0} get-tuple-element(%c), index=1
  %loop_fusion.1 = bf16[8,4]{1,0} fusion(%x), kind=kLoop, calls=%fused
  ROOT %t = (s32[], bf16[8,4]{1,0}) tuple(%i, %loop_fusion.1)
}

%stop (c.1: (s32[], bf16[8,4])) -> pred[] {
  %c.1 = (s32[], bf16[8,4]{1,0}) parameter(0)
  ROOT %no = pred[] constant(false)
}

ENTRY %main (a: bf16[8,4], b: f32[4]) -> bf16[8,4] {
  %a = bf16[8,4]{1,0} parameter(0)
  %b = f32[4]{0} parameter(1)
  %cudnn-conv.2 = (bf16[8,4]{1,0}, u8[16]{0}) custom-call(%a, %b), custom_call_target="__cudnn$convForward"
  %y = bf16[8,4]{1,0} get-tuple-element(%cudnn-conv.2), index=0
  %zero = s32[] constant(0)
  %start = (s32[], bf16[8,4]{1,0}) tuple(%zero, %y)
  %w = (s32[], bf16[8,4]{1,0}) while(%start), condition=%stop, body=%body, backend_config={"known_trip_count":{"n":"3"}}
  ROOT %out = bf16[8,4]{1,0} get-tuple-element(%w), index=1
}
"""


def test_a_program_written_by_hand():
    # in and out; the loop's fusion three times; nothing for what only names parts
    assert sorted(moved(TEXT)) == [
        Moved("cudnn-conv.2", "__cudnn$convForward", 64 + 16 + 64 + 16, 1),
        Moved("loop_fusion.1", "loop_fusion", 64 + 64, 3),
    ]


@pytest.mark.parametrize(("function", "passes"), [(lambda x: jnp.exp(x) + 1, 2), (lambda x: (x + 1).sum(1), 1)])
def test_what_is_fused_moves_its_input_and_its_output(function, passes):
    x = jnp.ones((256, 512))
    text = jax.jit(function).lower(x).compile().as_text()
    total = sum(one.num_bytes * one.times for one in moved(text))
    assert passes * x.nbytes <= total < passes * x.nbytes + 0.01 * x.nbytes
