"""Parts that somebody else wrote, found by "package.module:name"."""

import functools
import hashlib
import importlib
import inspect
import pathlib
import sys
from typing import Any


@functools.cache
def load(name: str, field: str) -> Any:
    """Imports and returns a part. This runs its module's code, so only what a user has named may come here.

    Args:
      name: "package.module:name".
      field: the field of the config that names it, for messages.

    Raises:
      ValueError: the module cannot be imported, or has nothing of that name.
    """
    module, _, part = name.partition(":")
    try:
        found = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        remedy = "install it, or name the folder that holds it in PYTHONPATH"
        raise ValueError(
            f"{field} = {name!r}: {module} cannot be imported ({type(error).__name__}: {error}); {remedy}"
        ) from error
    if not hasattr(found, part):
        public = ", ".join(sorted(one for one in vars(found) if not one.startswith("_"))) or "nothing"
        raise ValueError(f"{field} = {name!r}: {module} has no {part!r}; it has {public}")
    return getattr(found, part)


def digest(name: str) -> str:
    """Returns the SHA-256 of the source file of a part that was loaded; of what it imports nothing is known.

    Raises:
      ValueError: there is no source file.
    """
    module = sys.modules[name.partition(":")[0]]
    try:
        return hashlib.sha256(pathlib.Path(inspect.getfile(module)).read_bytes()).hexdigest()
    except (OSError, TypeError) as error:
        raise ValueError(f"{name!r}: its module has no source file by which a run could be told: {error}") from None
