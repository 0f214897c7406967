"""The program `segfusion`: from the words of a command line to a command."""

import importlib
import sys
from collections.abc import Sequence

from segfusion_jax.commands import parser


def main(words: Sequence[str] | None = None) -> int:
    """Runs the command that `words`, else those of this process, name; returns the exit status of `program.run`."""
    arguments = parser.parse(sys.argv[1:] if words is None else words)
    from segfusion_jax.commands import program  # jax takes seconds, which --help and mistakes need not wait for

    command = importlib.import_module(f"segfusion_jax.commands.{arguments.command}")
    return program.run(command.run, arguments)


if __name__ == "__main__":
    sys.exit(main())
