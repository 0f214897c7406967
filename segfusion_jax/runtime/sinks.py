"""Text that others chose (names of files, ids, classes), made fit for where it goes: one function for each sink."""

import re
from collections.abc import Mapping

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(nan|inf)")
_FORMULA = ("=", "+", "-", "@", "'")
# what moves a cursor, ends a line somewhere, or turns the direction of writing; and what is in no Unicode
_CONTROLS = "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_OF_CELLS = re.compile(rf"[\\{_CONTROLS}]")
_OF_TERMINALS = re.compile(f"[{_CONTROLS}]")
_ESCAPED = re.compile(r"\\(?:\\|x([0-9a-f]{2})|u([0-9a-f]{4}))")


def cell(value: object) -> object:
    r"""Returns what stands for a value in a CSV file: one line in any reader, and no formula in any spreadsheet.

    A text that begins like a formula and is no number gets an apostrophe before it. Line separators and other control
    characters become \x0a or \u2028, a backslash two. `plain` undoes all of it.

    >>> [cell(text) for text in ("=1+1", "-0.5", "a\nb", 7)]
    ["'=1+1", '-0.5', 'a\\x0ab', 7]
    """
    if not isinstance(value, str):
        return value
    escaped = _OF_CELLS.sub(_escape, value)
    return f"'{escaped}" if escaped.startswith(_FORMULA) and not _NUMBER.fullmatch(escaped) else escaped


def plain(text: str) -> str:
    """Returns the text for which `cell` wrote this.

    >>> plain(cell("=a\\r\\\\x"))
    '=a\\r\\\\x'
    """
    return _ESCAPED.sub(_character, text[1:] if text.startswith("'") else text)


def plain_row(row: Mapping[str, str]) -> dict[str, str]:
    """Returns a row of a table that was written by `cell`, names of columns too; what is no text stays."""
    return {plain(name): plain(text) if isinstance(text, str) else text for name, text in row.items()}


def terminal(text: str) -> str:
    r"""Returns a text that a terminal shows and does not obey; lines after its first are indented, as none begins anew.

    >>> terminal("a\x1b[2J\r\nerror: none")
    'a\\x1b[2J\\x0d\n  error: none'
    """
    lines = text.split("\n")
    return "\n".join([_shown(lines[0]), *(f"  {_shown(line)}" for line in lines[1:])])


def page(text: str) -> str:
    """Returns a text of several lines, ours, for a terminal: as `terminal`, without indents."""
    return "\n".join(map(_shown, text.split("\n")))


def _shown(line: str) -> str:
    return _OF_TERMINALS.sub(lambda match: match[0] if match[0] == "\t" else _escape(match), line)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    if character == "\\":
        return "\\\\"
    return f"\\x{ord(character):02x}" if ord(character) < 256 else f"\\u{ord(character):04x}"


def _character(match: re.Match[str]) -> str:
    digits = match[1] or match[2]
    return chr(int(digits, 16)) if digits else "\\"
