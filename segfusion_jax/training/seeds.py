"""Seeds by purpose: the same purpose always gets the same one, whatever else is random."""

import hashlib


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Returns a number in [0, 2^31) that depends on all of the arguments."""
    digest = hashlib.sha256(repr((seed, *purpose)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
