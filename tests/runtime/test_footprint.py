"""What is read out of compiled programs: by hand-written ones, and by programs whose needs are known."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

from segfusion_jax.runtime import footprint
from segfusion_jax.runtime.footprint import Collective, find_collectives
from tests.training import toy

PROGRAM = """
HloModule jit_step, is_scheduled=true, entry_computation_layout={(f32[8]{0})->f32[8]{0}}

%sum (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %add = f32[] add(%x, %y)
}

ENTRY %main.1 (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  LINE
  ROOT %after = f32[8]{0} fusion(%all-reduce.1), kind=kLoop, calls=%sum, metadata={op_name="x = f32[9] all-reduce(y"}
}
"""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("%all-reduce.1 = f32[2,3]{1,0} all-reduce(%p), channel_id=1, to_apply=%sum", [("all-reduce", 24)]),
        ("all-reduce.1 = f32[] all-reduce(p), to_apply=sum", [("all-reduce", 4)]),
        (
            "%all-reduce.1 = (f32[2]{0}, bf16[5]{0}, s8[], pred[3], u4[3], /*index=5*/f64[2,2]{1,0}) "
            "all-reduce(%a, %b, %c, %d, %e, /*index=5*/%f), to_apply=%sum",
            [("all-reduce", 8 + 10 + 1 + 3 + 2 + 32)],
        ),
        (
            "%s = bf16[100]{0:T(256)(2,1)S(1)} all-reduce-start(%p), to_apply=%sum\n"
            "%all-reduce.1 = bf16[100]{0:T(256)(2,1)S(1)} all-reduce-done(%s)",
            [("all-reduce", 200)],
        ),
        (
            "%s = ((f32[4]{0}, f16[2]{0}), (f32[16]{0}, f16[8]{0})) all-gather-start(%a, %b), dimensions={0}\n"
            "%all-reduce.1 = (f32[16]{0}, f16[8]{0}) all-gather-done(%s)",
            [("all-gather", 64 + 16)],
        ),
        (
            "%s = (f32[7]{0}, f32[7]{0}, u32[], u32[]) collective-permute-start(%p), source_target_pairs={{0,1}}\n"
            "%all-reduce.1 = f32[7]{0} collective-permute-done(%s)",
            [("collective-permute", 28)],
        ),
        ("%all-reduce.1 = f8e4m3fn[2,8]{1,0} reduce-scatter(%p), to_apply=%sum", [("reduce-scatter", 16)]),
        (
            "%r = f32[1]{0} all-reduce(%p), to_apply=%sum\n%all-reduce.1 = c64[3]{0} all-to-all(%p)",
            [("all-reduce", 4), ("all-to-all", 24)],
        ),
        ("%all-reduce.1 = f32[8]{0} negate(%p)", []),
        ("%all-reduce.1 = f32[8]{0} all-reduce(%p), replica_groups={{0},{1}}, to_apply=%sum", []),
        ("%all-reduce.1 = f32[8]{0} all-reduce(%p), replica_groups=[2,1]<=[2], to_apply=%sum", []),
        ("%all-reduce.1 = f32[8]{0} all-reduce(%p), replica_groups={{0,1}}, to_apply=%sum", [("all-reduce", 32)]),
        ("%all-reduce.1 = f32[8]{0} all-reduce(%p), replica_groups=[1,2]<=[2], to_apply=%sum", [("all-reduce", 32)]),
        ("%all-reduce.1 = f32[8]{0} all-reduce(%p), replica_groups={}, to_apply=%sum", [("all-reduce", 32)]),
    ],
)
def test_collectives_by_hand(line, expected):
    assert find_collectives(PROGRAM.replace("LINE", line)) == [Collective(*one) for one in expected]


def test_a_collective_in_loops_counts_as_often_as_they_run():
    program = """
%inner (a: f32[2]) -> f32[2] {
  ROOT %all-reduce = f32[2]{0} all-reduce(%a), to_apply=%sum
}

%called (a: f32[2]) -> f32[2] {
  ROOT %w = f32[2] while(%a), condition=%c, body=%inner, backend_config={"known_trip_count":{"n":"3"}}
}

%outer (a: f32[2]) -> f32[2] {
  %all-gather = f32[8]{0} all-gather(%a), dimensions={0}
  ROOT %x = f32[2] call(%a), to_apply=%called
}

%endless (a: f32[2]) -> f32[2] {
  ROOT %all-reduce = f32[5]{0} all-reduce(%a), to_apply=%sum
}

ENTRY %main (a: f32[2]) -> f32[2] {
  %one = f32[2] while(%a), condition=%c, body=%outer, backend_config={"known_trip_count":{"n":"5"}}
  %two = f32[2] while(%one), condition=%c, body=%endless
  ROOT %last = f32[7] all-reduce(%two), to_apply=%sum
}
"""
    assert find_collectives(program) == [
        Collective("all-reduce", 8, 15),
        Collective("all-gather", 32, 5),
        Collective("all-reduce", 20, 1),
        Collective("all-reduce", 28, 1),
    ]


def compiled(function, *shapes, count: int = 4) -> footprint.Footprint:
    """Returns the footprint of `function` on each device's share of float32 arrays; the first argument is donated."""
    mapped = jax.shard_map(function, mesh=toy.devices(count).mesh, in_specs=P(toy.AXIS), out_specs=P(), check_vma=False)
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return footprint.measure(jax.jit(mapped, donate_argnums=0).lower(*arrays))


def test_collectives_that_xla_compiled():
    def step(x):
        def body(_, y):
            return lax.psum(jnp.sin(y), toy.AXIS)

        return lax.fori_loop(0, 6, body, x), lax.ppermute(x[:2], toy.AXIS, [(0, 1), (1, 0), (2, 3), (3, 2)])

    found = compiled(step, (4 * 10, 3)).collectives
    assert sorted(found) == [Collective("all-reduce", 120, 6), Collective("collective-permute", 24, 1)]
    assert compiled(lambda x: lax.psum(jnp.sin(x), toy.AXIS), (10, 3), count=1).collectives == []


def test_a_matrix_product_needs_what_it_needs():
    needs = compiled(lambda a, b: (a + 1, a @ b), (40, 30), (30, 20), count=1)
    assert needs.arguments == 4 * (40 * 30 + 30 * 20) and needs.aliased == 4 * 40 * 30
    assert 0 <= needs.outputs - 4 * (40 * 30 + 40 * 20) <= 64  # a tuple of two pointers, aligned
    assert needs.flops == pytest.approx(2 * 40 * 30 * 20 + 40 * 30)
    assert needs.bytes_accessed >= needs.arguments + 4 * 40 * 20
    assert needs.memory == needs.arguments + needs.outputs - needs.aliased + needs.temporary
    assert footprint.tree_bytes({"a": jnp.zeros((2, 3), jnp.bfloat16), "b": (jnp.zeros((), jnp.int32),)}) == 16
