"""How much a server takes on: of a request, and of all that are under way."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator

_AT_ONCE = 4  # requests of the largest size that are held in memory together


@dataclasses.dataclass(frozen=True)
class Limits:
    """What is accepted; more is refused by a status that says so.

    Attributes:
      bytes: bytes of a request's body (413).
      pixels: pixels of an image, as its header declares them (413).
      images: images in a request (413).
      queue: images that are under way together, of all requests; one more is refused (429).
      seconds: from a request's arrival to its answer; 408 where its body takes longer, else 503.
    """

    bytes: int = 64 << 20
    pixels: int = 32_000_000
    images: int = 16
    queue: int = 64
    seconds: float = 60.0

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if not getattr(self, field.name) > 0:
                raise ValueError(f"{field.name} = {getattr(self, field.name)}: must be above 0")


class Budget:
    """Memory that requests share: each takes what it needs, and waits until there is so much."""

    def __init__(self, largest: int):
        self._left = _AT_ONCE * largest
        self._changed = asyncio.Condition()

    @contextlib.asynccontextmanager
    async def taken(self, amount: int) -> AsyncIterator[None]:
        """Holds `amount`, at most the `largest` of the budget, while the block runs."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._left >= amount)
            self._left -= amount
        try:
            yield
        finally:
            self._left += amount
            async with self._changed:
                self._changed.notify_all()
