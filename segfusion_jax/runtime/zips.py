"""Members of zip archives: what comes out of one is counted while it is unpacked, whatever the archive declares."""

import zipfile

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # of others, zipfile unpacks all before it returns the first byte
_CHUNK = 1 << 20


def read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, limit: int) -> bytes:
    """Returns all bytes of a member.

    Raises:
      ValueError: it is neither stored nor deflated, or has more than `limit` bytes; besides this, what `zipfile`
        raises for damage.
    """
    if member.compress_type not in _METHODS:
        raise ValueError(f"{member.filename}: compressed by method {member.compress_type}: must be stored or deflated")
    parts, left = [], limit
    if member.file_size <= limit:
        with archive.open(member) as file:
            while left >= 0 and (part := file.read(_CHUNK)):
                parts.append(part)
                left -= len(part)
    if member.file_size > limit or left < 0:
        raise ValueError(f"{member.filename}: more than {limit} bytes")
    return b"".join(parts)
