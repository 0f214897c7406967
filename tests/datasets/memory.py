"""Files that lie nowhere but in memory."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class MemoryFile:
    """Bytes that lie in no file."""

    name: str
    content: bytes = dataclasses.field(repr=False)
    stamp: int = 0

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.content)

    def read(self) -> bytes:
        """Returns all bytes."""
        return self.content

    def __str__(self) -> str:
        return self.name
