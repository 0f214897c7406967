"""Files that others may have laid there: opened only where they are regular files, and read up to a limit.

What a FIFO, a device or a socket holds never comes, never ends, or is for somebody else; and a link leads to any of
them. So a path is opened without waiting, and what was opened is looked at, not the path.
"""

import errno
import io
import os
import pathlib
import stat

_KINDS = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def opened(path: pathlib.Path) -> io.BufferedReader:
    """Opens a regular file for reading.

    Raises:
      OSError: it cannot be opened, or is a folder.
      ValueError: it is a FIFO, a device or a socket.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "something else")
    raise ValueError(f"{path} is {kind}, no regular file, and was not read")


def read(path: pathlib.Path, limit: int) -> bytes:
    """Returns all bytes of a regular file.

    Raises:
      OSError: as `opened`.
      ValueError: as `opened`, or the file has more than `limit` bytes.
    """
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(size + 1) if size <= limit else b""
    if max(size, len(content)) > limit:
        raise ValueError(f"{path}: {max(size, len(content))} bytes; at most {limit} are read")
    return content
