"""Images out of a request's body, multipart/form-data, which is held in memory and never written to a file."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from segfusion_jax.datasets.files import MemoryFile
from segfusion_jax.serving.web.limits import Limits
from segfusion_jax.serving.web.problems import Problem

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks  # which is not there when the program runs

FIELD = "images"
"""Name of the form's field, which may stand several times."""

_ACCEPTED = f"multipart/form-data with 1 or more files in the field '{FIELD}'."
_NAME = 255  # characters of a file's name that are kept
_LONGEST_BOUNDARY = 200


def boundary(content_type: str) -> bytes:
    """Returns what parts the body of a request, by its header Content-Type.

    Raises:
      Problem: it is no multipart/form-data, or has no boundary.
    """
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        raise Problem(415, f"The body is {content_type[:100] or 'of no stated type'!r}.", _ACCEPTED)
    found = options.get(b"boundary", b"")
    if not 0 < len(found) <= _LONGEST_BOUNDARY:
        raise Problem(422, "The header Content-Type names no boundary that can be used.", _ACCEPTED)
    return found


def length(header: str | None, limits: Limits) -> int:
    """Returns the bytes of a body, by its header Content-Length.

    Raises:
      Problem: the header is missing, no number, or too large.
    """
    if header is None:
        raise Problem(411, "The header Content-Length is missing.", "A body whose length is stated.")
    if not header.isascii() or not header.isdecimal() or len(header) > 18:
        raise Problem(422, "The header Content-Length is no number.", "A whole number of bytes.")
    if int(header) > limits.bytes:
        raise Problem(413, f"The body has {int(header)} bytes.", f"At most {limits.bytes} bytes a request.")
    return int(header)


async def read(chunks: AsyncIterator[bytes], parting: bytes, limits: Limits) -> list[MemoryFile]:
    """Returns the files of a body.

    Args:
      chunks: the body.
      parting: its boundary.
      limits: of which `bytes` and `images` count.

    Raises:
      Problem: the body is damaged, cut off or too large, has no file, too many, or one in another field.
    """
    parts, size = _Parts(limits), 0
    try:
        parser = MultipartParser(parting, parts.callbacks())
        async for chunk in chunks:
            size += len(chunk)
            if size > limits.bytes:
                raise Problem(413, f"The body has more than {limits.bytes} bytes.", "Less in one request.")
            parser.write(chunk)
        parser.finalize()
    except (FormParserError, ValueError) as error:
        raise Problem(422, f"The body is no multipart/form-data: {error}.", _ACCEPTED) from error
    if not parts.ended:
        raise Problem(422, "The body was cut off: its last boundary is missing.", _ACCEPTED)
    if not parts.uploads:
        raise Problem(422, "There is no file in the body.", _ACCEPTED)
    return parts.uploads


class _Parts:
    """What a parser finds, part by part."""

    def __init__(self, limits: Limits):
        self.uploads: list[MemoryFile] = []
        self.ended = False
        self._limits = limits
        self._begin()

    def callbacks(self) -> "MultipartCallbacks":
        """Returns what a parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._field.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header,
            "on_headers_finished": self._named,
            "on_part_data": lambda data, start, end: self._content.extend(data[start:end]),
            "on_part_end": self._part,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._field, self._value, self._content = bytearray(), bytearray(), bytearray()
        self._disposition, self._name = b"", ""

    def _header(self) -> None:
        if bytes(self._field).lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._field, self._value = bytearray(), bytearray()

    def _named(self) -> None:
        _, options = parse_options_header(self._disposition)
        field = options.get(b"name", b"").decode("utf-8", "replace")
        if field != FIELD:
            raise Problem(422, f"The body has a field {field[:100]!r}.", _ACCEPTED)
        if b"filename" not in options:
            raise Problem(422, f"The field '{FIELD}' holds a text, not a file.", _ACCEPTED)
        self._name = options[b"filename"].decode("utf-8", "replace")[:_NAME] or f"image {len(self.uploads) + 1}"
        if len(self.uploads) == self._limits.images:
            raise Problem(413, f"There are more than {self._limits.images} images.", "Fewer in one request.")

    def _part(self) -> None:
        self.uploads.append(MemoryFile(self._name, bytes(self._content)))
        self._content = bytearray()

    def _end(self) -> None:
        self.ended = True
