"""Ids that are not to be read off a list, and yet can be looked for in it: salted digests in place of names."""

import hashlib
import re
from collections.abc import Iterable

_SALTED = re.compile(r"sha256:([0-9a-f]{16}):[0-9a-f]{32}")


def salted(image_id: str, salt: str) -> str:
    """Returns what stands for an id: who knows the id finds it again, who does not learns nothing but by guessing.

    Args:
      image_id: the id.
      salt: 16 hexadecimal digits, another one for each list, so that equal ids of two lists cannot be told.

    >>> salted("patient_7/left arm", "0123456789abcdef")
    'sha256:0123456789abcdef:a56bb84bf1843092f725327f40d556b8'
    """
    return f"sha256:{salt}:{hashlib.sha256(f'{salt} {image_id}'.encode()).hexdigest()[:32]}"


def matches(ids: Iterable[str], listed: Iterable[str]) -> dict[str, str]:
    """Returns, of those ids that are in a list, what stands there for each: the id as it is, or salted."""
    known = set(listed)
    salts = {match[1] for match in map(_SALTED.fullmatch, known) if match}
    found = {}
    for image_id in ids:
        standing = known.intersection([image_id, *(salted(image_id, salt) for salt in salts)])
        if standing:
            found[image_id] = min(standing)
    return found
