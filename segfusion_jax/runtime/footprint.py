"""What a compiled program needs of one device, as XLA tells it: memory, arithmetic, exchange with other devices."""

import collections
import dataclasses
import math
import re
import time
from typing import Any, NamedTuple

import jax

_KINDS = (
    *("all-reduce", "all-gather", "all-to-all", "ragged-all-to-all"),
    *("collective-broadcast", "collective-permute", "reduce-scatter"),
)
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) .*\{$")
_CALL = re.compile(r"\b(body|condition|calls|to_apply)=%?([\w.-]+)")
_TRIPS = re.compile(r'"?known_trip_count"?:\{"?n"?:"?(\d+)')
_COLLECTIVE = re.compile(rf"^\s*(?:ROOT )?%?\S+ = (\(.*?\)|\S+) ({'|'.join(_KINDS)})(?:-done)?\(")
_ALONE = re.compile(r"\breplica_groups=(?:\{\{\d+\}(?:,\{\d+\})*\}|\[\d+,1\]<=)")
_ARRAY = re.compile(r"\b([a-z]+)(\d*)\w*\[([\d,<=]*)\]")
_CUSTOM_CALL = re.compile(r'custom_call_target="([^"]*)"')


class Collective(NamedTuple):
    """An instruction by which devices exchange arrays.

    Attributes:
      kind: "all-reduce", "all-gather", "reduce-scatter", "collective-permute", ...
      num_bytes: bytes of the arrays that one device gets from it.
      times: how often one run of the program executes it.
    """

    kind: str
    num_bytes: int
    times: int = 1


@dataclasses.dataclass(frozen=True)
class Footprint:
    """What one run of a program needs of one device.

    Attributes:
      arguments: bytes of its inputs.
      outputs: bytes of its results.
      aliased: bytes of results that are written over inputs.
      temporary: bytes of scratch, for activations above all.
      flops: floating-point operations; None where the backend does not count. The body of a loop counts once, a custom
        call only if XLA knows it.
      bytes_accessed: bytes read and written, counted like `flops`.
      custom_calls: how many calls there are of each function that XLA did not generate.
      collectives: exchanges between devices, in the order of the program.
      compile_seconds: seconds that compiling took; next to nothing if the program was found in the compile cache.
    """

    arguments: int
    outputs: int
    aliased: int
    temporary: int
    flops: float | None
    bytes_accessed: float | None
    custom_calls: dict[str, int]
    collectives: list[Collective]
    compile_seconds: float

    @property
    def memory(self) -> int:
        """Bytes that the program takes in all while it runs."""
        return self.arguments + self.outputs - self.aliased + self.temporary


def measure(lowered: jax.stages.Lowered) -> Footprint:
    """Compiles a program and asks what it needs.

    Raises:
      ValueError: the backend does not tell.
    """
    start = time.monotonic()
    compiled = lowered.compile()
    seconds = time.monotonic() - start
    memory, cost, hlo_text = compiled.memory_analysis(), compiled.cost_analysis() or {}, compiled.as_text() or ""
    if memory is None:
        raise ValueError(f"the backend {jax.default_backend()!r} does not tell what memory a program needs")
    return Footprint(
        arguments=memory.argument_size_in_bytes,
        outputs=memory.output_size_in_bytes,
        aliased=memory.alias_size_in_bytes,
        temporary=memory.temp_size_in_bytes,
        flops=cost.get("flops"),
        bytes_accessed=cost.get("bytes accessed"),
        custom_calls=dict(collections.Counter(_CUSTOM_CALL.findall(hlo_text))),
        collectives=find_collectives(hlo_text),
        compile_seconds=seconds,
    )


def find_collectives(hlo_text: str) -> list[Collective]:
    """Returns the collectives of a compiled program.

    Args:
      hlo_text: text of the optimised program, as `jax.stages.Compiled.as_text` gives it.

    Returns:
      One an instruction; of an asynchronous pair the end, whose result is that of the collective. One in a loop whose
      length XLA does not know counts once, one in which every device is alone not at all.
    """
    computation, found = "", []
    for line in hlo_text.splitlines():
        if header := _COMPUTATION.match(line):
            computation = header[1]
        elif (match := _COLLECTIVE.match(line)) and not _ALONE.search(line):
            found.append((computation, match[2], shape_bytes(match[1])))
    times = executions(hlo_text) if found else {}
    return [Collective(kind, num_bytes, times[computation]) for computation, kind, num_bytes in found]


def tree_bytes(tree: Any) -> int:
    """Returns the bytes of all arrays, or shapes, of a tree."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def shape_bytes(shape: str) -> int:
    """Returns the bytes of an array `f32[2,3]{1,0}` or of a tuple of arrays; a part of a byte counts as one."""
    total = 0
    for letters, bits, dimensions in _ARRAY.findall(shape):
        size = math.prod(int(dimension.lstrip("<=")) for dimension in dimensions.split(",") if dimension)
        width = 8 if letters == "pred" else int(bits or 0)  # a token has none
        total += -(-size * width // 8)
    return total


def executions(hlo_text: str) -> dict[str, int]:
    """Returns how often each computation runs, by its name."""
    callers: dict[str, list[tuple[str, int]]] = {}
    computation = ""
    for line in hlo_text.splitlines():
        if header := _COMPUTATION.match(line):
            computation = header[1]
            callers.setdefault(computation, [])
        for role, called in _CALL.findall(line):
            trips = _TRIPS.search(line) if role == "body" else None
            callers.setdefault(called, []).append((computation, int(trips[1]) if trips else 1))
    times: dict[str, int] = {}

    def count(name: str) -> int:
        if name not in times:
            times[name] = sum(trips * count(caller) for caller, trips in callers.get(name, [])) or 1
        return times[name]

    return {name: count(name) for name in callers}
