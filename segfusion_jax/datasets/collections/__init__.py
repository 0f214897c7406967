"""The collections as their publishers lay them out: `READERS` by name, one module each.

A source has `TITLE`, `ADDRESS` (where it is published), `LICENCE` (of its images and labels), and
`read(root: Folder, data: config.Data) -> (records, problems)`, which opens tables but no image; what is published in
files also has `TABLES`, a pattern of the names of its tables, by which `unread` tells what nobody reads.
"""

from typing import Any

from segfusion_jax.config import is_plugin
from segfusion_jax.datasets.collections import (
    ham10000,
    image_folder,
    isic2017,
    isic2018,
    isic2019,
    isic2020,
    isic2024,
    ph2,
    synthetic,
)
from segfusion_jax.runtime import plugins

_MODULES = (synthetic, ham10000, isic2017, isic2018, isic2019, isic2020, isic2024, ph2, image_folder)


def find_reader(kind: str) -> Any:
    """Returns the reader of this name in `READERS`, or somebody's own, by "package.module:name"."""
    return plugins.load(kind, "data.collections.NAME.reader") if is_plugin(kind) else READERS[kind]


READERS = {module.__name__.rpartition(".")[2]: module for module in _MODULES}
