"""`segfusion train` from a checkout: `python main.py --config=configs/ham10000.py --config.data.root=PATH`.

With --study=NAME it is `segfusion study NAME`, with --dry_run `segfusion plan`.
"""

import sys

from segfusion_jax.commands.main import main


def command_line(words: list[str]) -> list[str]:
    """Returns the words of `segfusion`'s command line that say the same."""
    for number, word in enumerate(words):
        option, _, value = word.partition("=")
        others = words[:number] + words[number + 1 :]
        if option == "--study":
            return ["study", *filter(None, [value]), *others]
        if word in ("--dry_run", "--dry-run"):
            return ["plan", *others]
    return ["train", *words]


if __name__ == "__main__":
    sys.exit(main(command_line(sys.argv[1:])))
