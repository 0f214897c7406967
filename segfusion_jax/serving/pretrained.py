"""Where a released model is: in a folder, at an address, or in a repository of the hub; fetched if it is not here."""

import hashlib
import pathlib
import re
import tempfile
from collections.abc import Callable, Mapping

from segfusion_jax.runtime import caches, downloads, typed
from segfusion_jax.runtime.locks import locked
from segfusion_jax.serving import manifest, model_folder
from segfusion_jax.serving.manifest import MANIFEST

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

Fetch = Callable[[str, str, pathlib.Path], pathlib.Path]
"""Fetches a file by its name and its SHA-256, "" where that is not known, into a folder; returns its path."""


def find(name: str | pathlib.Path, *, sha256: str = "", revision: str = "main") -> pathlib.Path:
    """Returns a folder that holds the model called `name`, as `SegFusion.from_pretrained` has its arguments.

    Its files are checked when it is loaded.

    Raises:
      FileNotFoundError, ValueError, OSError: as `SegFusion.from_pretrained`.
    """
    text = str(name)
    if pathlib.Path(text).expanduser().is_dir():
        return model_folder.find(text)
    if text.startswith(("http://", "https://")):
        return _fetched(text, _from_web(text.rstrip("/")), sha256)
    if _REPOSITORY.fullmatch(text):
        return _fetched(text, _from_hub(text, revision), sha256)
    raise FileNotFoundError(
        f"{text!r} is no folder: give that of a released model, its address (https://...), or a repository of the "
        "Hugging Face hub, OWNER/NAME"
    )


def check_digest(folder: model_folder.ModelFolder, sha256: str) -> None:
    """Checks that a model is the one that is meant.

    Raises:
      ValueError: it is another.
    """
    if sha256 and folder.digest != sha256.lower():
        raise ValueError(f"{folder.path} is the model {folder.digest}, not {sha256}: take it anew, or name that one")


def _fetched(name: str, fetch: Fetch, sha256: str) -> pathlib.Path:
    """Returns the folder in the cache that holds a model, by the SHA-256 of its manifest; what is there is kept."""
    cache = caches.folder() / "models"
    kept = cache / sha256.lower()
    if sha256 and (kept / MANIFEST).exists():
        files = _listed((kept / MANIFEST).read_bytes(), str(kept / MANIFEST))
        if not _damaged(kept, files):
            return kept
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        content = fetch(MANIFEST, "", pathlib.Path(scratch)).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if sha256 and digest != sha256.lower():
        raise ValueError(f"{name}: SHA-256 of its {MANIFEST} is {digest}, not {sha256}: it is another model")
    files = _listed(content, f"{name}: {MANIFEST}")
    folder = cache / digest
    folder.mkdir(exist_ok=True)
    with locked(cache / f"{digest}.lock", what=f"fetches {name}"):
        for file in _damaged(folder, files):
            (folder / file).unlink(missing_ok=True)
        for file, expected in files.items():
            fetch(file, expected, folder)
        (folder / MANIFEST).write_bytes(content)  # last, so that a folder with it had all
    return folder


def _damaged(folder: pathlib.Path, files: Mapping[str, str]) -> list[str]:
    """Returns the names of the files of a model in the cache that are missing, or have another SHA-256 than theirs."""
    remotes = {file: downloads.Remote("https://cache", filename=file, sha256=sha256) for file, sha256 in files.items()}
    return [
        file
        for file, remote in remotes.items()
        if not (folder / file).is_file() or downloads.fault_of(remote, folder / file)
    ]


def _listed(content: bytes, where: str) -> dict[str, str]:
    return manifest.listed_files(typed.Fields(typed.parse(content, where), where))


def _from_web(address: str) -> Fetch:
    def fetch(file: str, sha256: str, folder: pathlib.Path) -> pathlib.Path:
        most = model_folder.BYTES if sha256 else manifest.BYTES
        return downloads.fetch(downloads.Remote(f"{address}/{file}", sha256=sha256, most=most), folder)

    return fetch


def _from_hub(repository: str, revision: str) -> Fetch:
    try:
        import huggingface_hub  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise OSError(f"{repository}: fetching from the hub needs pip install 'segfusion_jax[hub]'") from None

    def fetch(file: str, sha256: str, folder: pathlib.Path) -> pathlib.Path:
        path = pathlib.Path(huggingface_hub.hf_hub_download(repository, file, revision=revision, local_dir=folder))
        if fault := downloads.fault_of(downloads.Remote("https://hub", filename=file, sha256=sha256), path):
            path.unlink()
            raise ValueError(f"{repository}, {file}: {fault}; it was not kept")
        return path

    return fetch
