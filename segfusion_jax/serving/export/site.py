"""A folder of static files that is the page of `segfusion serve` without a server: the model runs in the visitor's
browser, by ONNX Runtime for the web, whose files come from its package at npm.
"""

import importlib.resources
import json
import pathlib
import tarfile
from collections.abc import Sequence

from segfusion_jax.bridge.traced_clean import FALLBACKS
from segfusion_jax.runtime import downloads
from segfusion_jax.runtime.atomic import write_bytes, write_text
from segfusion_jax.serving.export.artefacts import describe, symbolic_shape
from segfusion_jax.serving.export.chain import make_chain
from segfusion_jax.serving.export.onnx_file import save_onnx
from segfusion_jax.serving.facts import Facts
from segfusion_jax.serving.segfusion import SegFusion

RUNTIME = downloads.Remote(
    "https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-1.30.0.tgz",
    sha512="ab4cbe26baedba45d2cec05610c71c55fa97db92d19a8b171c5f8269126683ca"
    "590a5cdc57bb2f35ce2b298de32f4d956fb42644c0ecd528a0a91e025c07ca61",
    size=33_106_585,
)
"""The package, MIT licence, with the checksum that npm states."""
RUNTIME_FILES = (
    "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
    "ort.webgpu.min.mjs",
    "ort-wasm-simd-threaded.asyncify.mjs",
    "ort-wasm-simd-threaded.asyncify.wasm",
)
"""What the page takes of it: the first three for WebAssembly alone, the others where there is WebGPU."""
LIMITS = {"bytes": 64_000_000, "pixels": 16_000_000}
"""What a browser is asked to look at: of a file, and of an image, beside which the networks need memory too."""

_PAGE = ("index.html", "page.css", "page.js", "cards.js", "numbers.js")
_BROWSER = ("predictor.js", "worker.js", "answers.js")
_OUTPUTS = ("mask", "fallback", "probabilities", "novelty", "evidence", "frame", "bridged")  # that the page reads
_LARGEST = 64_000_000  # bytes of a file of the package


def save(model: SegFusion, folder: pathlib.Path, runtime: pathlib.Path) -> list[pathlib.Path]:
    """Writes the page, the model and the runtime, to be laid on any host of static files.

    Args:
      model: loaded from a folder, with `compute_dtype="float32"`.
      folder: made if it is not there; files in it are replaced.
      runtime: folder where the package of the runtime lies, or into which it is downloaded.

    Returns:
      The files.

    Raises:
      ValueError: the package is another one, or the model computes in another dtype.
      OSError: the package cannot be downloaded.
      ModuleNotFoundError: the package `onnx` is not installed: the extra [export].
    """
    if model.config.compute_dtype not in ("float32", "auto"):
        raise ValueError(f"compute_dtype = {model.config.compute_dtype!r}: must be 'float32' to be exported")
    contents = unpacked(runtime)
    assert model.folder is not None
    whole = make_chain(model, explain=True)
    metadata = describe(model, None, model.folder.metadata.data)
    onnx = folder / "segfusion.onnx"
    folder.mkdir(parents=True, exist_ok=True)

    def chain(images):
        said = whole(images)
        return {name: said[name] for name in _OUTPUTS}

    save_onnx(chain, symbolic_shape(None), onnx, {"segfusion": json.dumps(metadata, indent=2)})
    page = importlib.resources.files("segfusion_jax.serving") / "page"
    contents |= {name: (page / name).read_bytes() for name in _PAGE}
    contents |= {name: (page / "browser" / name).read_bytes() for name in _BROWSER}
    for name, content in contents.items():
        write_bytes(folder / name, content)
    facts = {
        "bytes": onnx.stat().st_size,
        "limits": LIMITS,
        "fallbacks": list(FALLBACKS),
        "mask_threshold": model.config.bridge.threshold,
    }
    write_text(folder / "model.json", json.dumps(Facts.of(model).told() | facts, indent=2) + "\n")
    return [onnx, folder / "model.json", *(folder / name for name in contents)]


def unpacked(folder: pathlib.Path, names: Sequence[str] = RUNTIME_FILES) -> dict[str, bytes]:
    """Returns the runtime's files by their places in the site; downloads the package into `folder` if it is not there.

    Raises:
      ValueError: the package is not the one of `RUNTIME`.
      OSError: it cannot be downloaded.
    """
    path = downloads.fetch(RUNTIME, folder)
    if fault := downloads.fault_of(RUNTIME, path):
        raise ValueError(f"{path} {fault}: remove it, or put the one there that 'npm pack onnxruntime-web@1.30.0' gets")
    with tarfile.open(path, "r:gz") as archive:
        members = {member.name: member for member in archive if member.isfile()}
        return {f"runtime/{name}": _content(archive, members[f"package/dist/{name}"]) for name in names}


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None and member.size <= _LARGEST  # of the one package that has the checksum
    return file.read()
