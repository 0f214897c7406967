"""The manifest of a released model: the SHA-256 of each of its files, by plain names."""

import re

from segfusion_jax.runtime import typed

MANIFEST = "manifest.json"
"""Name of the file in a model folder that has the SHA-256 of all others."""
BYTES = 1 << 24
"""A manifest, or another of a model's files in JSON, has at most so many."""
METADATA = "metadata.json"
"""Name of the file that says what the weights are."""
REMEDY = (
    "take the model anew from where it came from; or, if you trust the files as they are, write their SHA-256 by "
    "python -c \"from segfusion_jax.serving import model_folder; model_folder.write_manifest('FOLDER')\""
)
"""What helps where files are not as a manifest says."""
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_DIGEST = re.compile("[0-9a-f]{64}")
_FILES = 256


def listed_files(manifest: typed.Fields) -> dict[str, str]:
    """Returns the SHA-256 of each file by its name, as a manifest states it.

    Raises:
      ValueError: it lists too many or no metadata, what is no plain name, or what is no digest.
    """
    listed = manifest.section("files")
    if not 0 < len(listed.values) <= _FILES:
        raise ValueError(f"{manifest.where}: files has {len(listed.values)} entries: must be 1 to {_FILES}")
    files = {plain(name, manifest.where): listed.text(name, 64) for name in listed.values}
    if METADATA not in files:
        raise ValueError(f"{manifest.where} does not name {METADATA}: {REMEDY}")
    strange = [name for name, digest in files.items() if not _DIGEST.fullmatch(digest)]
    if strange:
        raise ValueError(f"{manifest.where}: what it has of {', '.join(strange)} is no SHA-256: {REMEDY}")
    return files


def plain(name: str, path: object) -> str:
    """Returns the name of a file, which must be a plain one; `path` says who has it.

    Raises:
      ValueError: it could lead elsewhere.
    """
    if not _PLAIN.fullmatch(name):
        raise ValueError(
            f"{path}: {name[:100]!r} is no plain file name: must be 1 to 100 of letters, digits, '_', '-' and '.', "
            "not '-' or '.' first"
        )
    return name
