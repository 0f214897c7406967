"""Published weights: which files have which name, and how they get into a cache folder."""

import contextlib
import fcntl
import hashlib
import http.client
import os
import pathlib
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus
from typing import NamedTuple

from absl import logging

from segfusion_jax.models.preprocessing import IMAGENET, Preprocessing

_TIMM = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights"
_TORCHVISION = "https://download.pytorch.org/models"

_ATTEMPTS = 4
_PAUSE = 1.0
"""Seconds before the second attempt; doubles with each further one."""
_TIMEOUT = 30
"""Seconds without a byte after which a connection counts as cut."""
_CHUNK = 1 << 18
_LOG_SECONDS = 5


class Published(NamedTuple):
    """A released file of weights trained on ImageNet-1k, and the images that its network expects."""

    url: str
    sha256: str  # all 64 hex digits, or the leading ones that the publisher put into the file's name
    backbone: str  # "efficientnet_b0" ... "efficientnet_b7", "mobilenet_v3_small", "mobilenet_v3_large"
    family: str  # "tensorflow": 'SAME' padding, epsilon 1e-3; "timm": symmetric padding, epsilon 1e-5; "torchvision"
    preprocessing: Preprocessing = IMAGENET._replace(image_size=(224, 224))

    @property
    def filename(self) -> str:
        """Last part of the URL."""
        return self.url.rpartition("/")[2]


PUBLISHED: dict[str, Published] = {
    "efficientnet_b0.tf_aa": Published(
        f"{_TIMM}/tf_efficientnet_b0_aa-827b6e33.pth", "827b6e33", "efficientnet_b0", "tensorflow"
    ),
    "efficientnet_b0.tf_noisy_student": Published(
        f"{_TIMM}/tf_efficientnet_b0_ns-c0e6a31c.pth", "c0e6a31c", "efficientnet_b0", "tensorflow"
    ),
    "efficientnet_b0.timm_ra": Published(
        f"{_TIMM}/efficientnet_b0_ra-3dd342df.pth",
        "3dd342dfa1fee25ae65e7bbdf8998cad6e45d6e77e69d580f0bd14d3eeb0b3f3",
        "efficientnet_b0",
        "timm",
    ),
    "efficientnet_b0.torchvision": Published(
        f"{_TORCHVISION}/efficientnet_b0_rwightman-7f5810bc.pth",
        "7f5810bc96def8f7552d5b7e68d53c4786f81167d28291b21c0d90e1fca14934",
        "efficientnet_b0",
        "torchvision",
    ),
    "mobilenet_v3_small.torchvision": Published(
        f"{_TORCHVISION}/mobilenet_v3_small-047dcff4.pth",
        "047dcff4addef86ea5bc2eff13c9614dc11f47ab1160d0a71a25e7db994f4e1f",
        "mobilenet_v3_small",
        "torchvision",
    ),
    "mobilenet_v3_large.torchvision": Published(
        f"{_TORCHVISION}/mobilenet_v3_large-5c1a4163.pth",
        "5c1a416349c4cf298f2a6a5e2600ed0ee55e604713578f5e74e6bc8bcaef7997",
        "mobilenet_v3_large",
        "torchvision",
    ),
}


def fetch(name: str, cache: pathlib.Path) -> pathlib.Path:
    """Path in `cache` of a published file, which is downloaded if it is not there.

    A file that is there is not checked again. Processes that ask at once download once.

    Args:
      name: a key of `PUBLISHED`.
      cache: folder, made if it is missing.

    Raises:
      ValueError: the name is unknown, or what came has another SHA-256.
      OSError: the download failed; says where to get the file by hand and where to put it.
    """
    if name not in PUBLISHED:
        raise ValueError(f"no published weights are called {name!r}; accepted are {', '.join(sorted(PUBLISHED))}")
    published = PUBLISHED[name]
    path = cache / published.filename
    if path.exists():
        return path
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_name(f"{path.name}.lock")):
            if not path.exists():
                _download(published, path)
    except (OSError, http.client.HTTPException) as error:
        raise OSError(
            f"{name} could not be downloaded: {error}. Get {published.url} by hand and put it, as "
            f"{published.filename}, into a folder of SEGFUSION_DATA or into {cache}"
        ) from error
    return path


@contextlib.contextmanager
def _locked(path: pathlib.Path) -> Iterator[None]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logging.info("waiting for another process, which downloads %s", path.stem)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _download(published: Published, path: pathlib.Path) -> None:
    """Downloads to a `.part` file beside `path`, which stays if the connection does not; renames what is right."""
    part = path.with_name(f"{path.name}.part")
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _receive(published.url, part)
            break
        except (ConnectionError, TimeoutError, ssl.SSLError, http.client.HTTPException) as error:
            if attempt == _ATTEMPTS:
                raise
            logging.warning("%s: %s; trying again", published.filename, error)
            time.sleep(_PAUSE * 2 ** (attempt - 1))
    with part.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if not sha256.startswith(published.sha256):
        part.unlink()
        raise ValueError(f"{published.url} has SHA-256 {sha256}, expected {published.sha256}; it was not kept")
    part.replace(path)


def _receive(url: str, part: pathlib.Path) -> None:
    """Appends to `part` what it lacks, or writes it anew if the server does not go on where it ends.

    Raises:
      ConnectionError: fewer bytes came than were announced.
    """
    response, start = _open(url, part.stat().st_size if part.exists() else 0)
    with response, part.open("ab" if start else "wb") as file:
        length = response.headers["Content-Length"]
        total = start + int(length) if length else None
        of_total = f" of {total / 1e6:.1f}" if total else ""
        began = time.monotonic()
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            size = file.tell()
            rate = (size - start) / max(time.monotonic() - began, 1e-3)
            progress = (part.stem, size / 1e6, of_total, rate / 1e6)
            logging.log_every_n_seconds(logging.INFO, "%s: %.1f%s MB, %.1f MB/s", _LOG_SECONDS, *progress)
        file.flush()
        os.fsync(file.fileno())
        size = file.tell()
    if total is not None and size < total:
        raise ConnectionError(f"the connection was cut after {size} of {total} bytes, which {part} keeps")
    logging.info("%s: %.1f MB in %.0f s", part.stem, size / 1e6, time.monotonic() - began)


def _open(url: str, start: int) -> tuple[http.client.HTTPResponse, int]:
    """The answer to a request for the bytes from `start` on, and where it really starts: there or at 0."""
    headers = {"User-Agent": "segfusion_jax"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if start and error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return _open(url, 0)
        raise
    if not start or response.status != HTTPStatus.PARTIAL_CONTENT:
        return response, 0
    if response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        return response, start
    response.close()
    return _open(url, 0)
