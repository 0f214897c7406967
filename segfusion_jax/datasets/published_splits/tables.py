"""The published tables, which lie beside this module: their names and where they are."""

import pathlib

PREFIX = "published:"
"""Before the name of a table in `splits.table`; several names are joined by +."""

VERSION = "v1"
NAMES = tuple(f"{collection}-{VERSION}" for collection in ("ham10000", "isic2019", "isic2020"))
FOLDER = pathlib.Path(__file__).parent


def path(name: str, named: str) -> pathlib.Path:
    """Returns where a table is.

    Args:
      name: one of NAMES.
      named: the value of `splits.table` that names it, for the error.

    Raises:
      FileNotFoundError: there is no such table.
    """
    if name not in NAMES:
        raise FileNotFoundError(f"splits.table = {named!r}: no such table; published are {', '.join(NAMES)}")
    return FOLDER / f"{name}.csv.gz"
