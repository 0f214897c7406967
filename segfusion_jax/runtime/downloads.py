"""Files from the web: fetched once, gone on with where they were cut off, checked before they get their name."""

import dataclasses
import errno
import hashlib
import http.client
import logging
import os
import pathlib
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable
from http import HTTPStatus
from typing import TypeVar

from segfusion_jax.runtime.locks import locked
from segfusion_jax.runtime.progress import Progress, duration

_log = logging.getLogger(__name__)

_Result = TypeVar("_Result")

_ATTEMPTS = 4
"""How often in a row a file may come no further; see `_PROGRESS`."""
_PROGRESS = 1 << 24
"""Bytes that an attempt must bring for the count of attempts to start anew."""
_PAUSE = 1.0
"""Seconds before the second attempt; doubles with each further one."""
_LONGEST_PAUSE = 60
"""Seconds that a server may ask to wait; more is an error."""
_TIMEOUT = 30
"""Seconds without a byte after which a connection counts as cut."""
_CHUNK = 1 << 18
_LOG_SECONDS = 5
_BUSY = (
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)


@dataclasses.dataclass(frozen=True)
class Remote:
    """A file on the web, and what is known of it.

    Attributes:
      url: http or https.
      filename: what it is called here; "" stands for the last part of the URL.
      sha256: hex digits, all 64 or the leading ones; "" = unknown.
      sha512: hex digits; "" = unknown.
      md5: hex digits; "" = unknown.
      size: bytes; 0 = unknown.
      most: bytes that are received at most, whatever is announced; 0 = any number.

    Raises:
      ValueError: the URL is neither http nor https, or has no last part and no filename stands for it.
    """

    url: str
    filename: str = ""
    sha256: str = ""
    sha512: str = ""
    md5: str = ""
    size: int = 0
    most: int = 0

    def __post_init__(self):
        if not _on_the_web(self.url):
            raise ValueError(f"{self.url!r}: must start with http:// or https://")
        if not self.filename:
            object.__setattr__(self, "filename", urllib.parse.urlsplit(self.url).path.rpartition("/")[2])
        if not self.filename:
            raise ValueError(f"{self.url!r}: names no file")


def fetch(remote: Remote, folder: pathlib.Path) -> pathlib.Path:
    """Returns the path in `folder` of a file, which is downloaded if it is not there.

    A file that is there is not checked again. Processes that ask at once download once. What came before a failure
    stays in a `.part` file, and the next call goes on from there. A zip of which no checksum is known is checked by
    the CRC-32 of each of its members.

    Args:
      remote: the file that is wanted.
      folder: where the file goes; made if it is missing.

    Raises:
      ValueError: what came has another size or checksum, or is a broken zip; it is not kept.
      OSError: the download failed, after several attempts if another could help.
    """
    path = folder / remote.filename
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with locked(path.with_name(f"{path.name}.lock"), what=f"downloads {path.name}"):
            if not path.exists():
                _download(remote, path)
    except http.client.HTTPException as error:
        raise OSError(f"{remote.url}: {error!r}") from error
    return path


def announced_size(remote: Remote) -> int:
    """Returns the size in bytes that a file's server announces, without fetching it; 0 where it announces none.

    Raises:
      OSError: there is no such file, or no answer.
    """
    try:
        with _retried(lambda: _request(remote.url, method="HEAD"), what=remote.filename) as response:
            return int(response.headers["Content-Length"] or 0)
    except urllib.error.HTTPError as error:
        if error.code in (HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED):
            return 0
        raise
    except http.client.HTTPException as error:
        raise OSError(f"{remote.url}: {error!r}") from error


def kept_size(remote: Remote, folder: pathlib.Path) -> int:
    """Returns how many bytes are kept of a download that did not come to its end."""
    return _size(_part(folder / remote.filename))


def _download(remote: Remote, path: pathlib.Path) -> None:
    """Downloads to a `.part` file beside `path`, which stays if the connection does not; renames what is right."""
    part = _part(path)
    try:
        _retried(lambda: _receive(remote, part), what=remote.filename, arrived=lambda: _size(part))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        kept = f"{error.strerror}; the {_size(part) / 1e6:.1f} MB that came are kept, make room and start again"
        raise OSError(error.errno, kept, str(part)) from error
    if fault := fault_of(remote, part):
        part.unlink()
        raise ValueError(f"{remote.url} {fault}; it was not kept")
    part.replace(path)


def _retried(work: Callable[[], _Result], *, what: str, arrived: Callable[[], int] = lambda: 0) -> _Result:
    """Returns the result of `work`, tried again while that may help; `arrived` counts the bytes that it brought."""
    failures, before = 0, arrived()
    while True:
        try:
            return work()
        except (OSError, http.client.HTTPException) as error:
            if arrived() - before >= _PROGRESS:
                failures, before = 0, arrived()
            pause = _pause(error, failures)
            failures += 1
            if pause is None or failures == _ATTEMPTS:
                raise
            _log.warning("%s: %s; trying again in %.0f s", what, error, pause)
            time.sleep(pause)


def _pause(error: Exception, failures: int) -> float | None:
    """Returns the seconds until another attempt, after so many failures before this one; None where none would help."""
    if isinstance(error, urllib.error.HTTPError):
        if error.code not in _BUSY:
            return None
        asked = error.headers.get("Retry-After", "")
        if asked.isdecimal():
            return float(asked) if int(asked) <= _LONGEST_PAUSE else None
    else:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        refused = isinstance(reason, ConnectionRefusedError | ssl.SSLCertVerificationError)
        cut = isinstance(reason, ConnectionError | TimeoutError | ssl.SSLError | http.client.HTTPException)
        if refused or not cut:
            return None
    return _PAUSE * 2**failures


def _receive(remote: Remote, part: pathlib.Path) -> None:
    """Appends to `part` what it lacks, or writes it anew if the server does not go on where it ends.

    Raises:
      ConnectionError: fewer bytes came than were announced.
      ValueError: more came than `remote.most`; none are kept.
    """
    if remote.size and _size(part) == remote.size:
        return  # stopped while it was checked
    response, start = _open(remote.url, _size(part))
    with response, part.open("ab" if start else "wb") as file:
        length = response.headers["Content-Length"]
        total = start + int(length) if length else remote.size
        began = time.monotonic()
        name, done = remote.filename, start / 1e6
        progress = Progress(name, total=total / 1e6, done=done, unit="MB", digits=1, seconds=_LOG_SECONDS)
        progress.show(done)
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            if remote.most and max(total, file.tell()) > remote.most:
                part.unlink()
                raise ValueError(f"{remote.url} has more than {remote.most} bytes, which is all that is received")
            if progress.is_due():
                progress.show(file.tell() / 1e6)
        file.flush()
        os.fsync(file.fileno())
        size = file.tell()
    if size < total:
        raise ConnectionError(f"the connection was cut after {size} of {total} bytes, which {part} keeps")
    _log.info("%s: %.1f MB in %s", remote.filename, size / 1e6, duration(time.monotonic() - began))


def _open(url: str, start: int) -> tuple[http.client.HTTPResponse, int]:
    """Returns the answer to a request for the bytes from `start` on, and where it really starts: there or at 0."""
    try:
        response = _request(url, {"Range": f"bytes={start}-"} if start else {})
    except urllib.error.HTTPError as error:
        error.close()
        if start and error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return _open(url, 0)
        raise
    kind = response.headers.get_content_type()
    if response.status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT) or kind == "text/html":
        response.close()  # a firewall's riddle, or the login page of a hotel's network
        raise OSError(f"{url} answered with HTTP status {response.status} and {kind}, not with a file")
    if not start or response.status == HTTPStatus.OK:
        return response, 0
    if response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        return response, start
    response.close()
    return _open(url, 0)


def _request(url: str, headers: dict[str, str] | None = None, method: str = "GET") -> http.client.HTTPResponse:
    # Harvard's Dataverse refuses the user agents that Python's libraries send by themselves.
    request = urllib.request.Request(url, headers={"User-Agent": "segfusion_jax"} | (headers or {}), method=method)
    return urllib.request.build_opener(_WebRedirects).open(request, timeout=_TIMEOUT)


class _WebRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirection to FTP, which the parent class allows; the parent refuses files."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if not _on_the_web(newurl):
            raise urllib.error.HTTPError(newurl, code, "redirection that is not followed", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _on_the_web(url: str) -> bool:
    return urllib.parse.urlsplit(url).scheme in ("http", "https")


def _part(path: pathlib.Path) -> pathlib.Path:
    return path.with_name(f"{path.name}.part")


def _size(path: pathlib.Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def fault_of(remote: Remote, path: pathlib.Path) -> str:
    """Returns what is wrong with a downloaded file, as far as size and checksums are known; "" if nothing is."""
    if remote.size and _size(path) != remote.size:
        return f"has {_size(path)} bytes, expected {remote.size}"
    known = {"SHA-256": remote.sha256, "SHA-512": remote.sha512, "MD5": remote.md5}
    for name, expected in known.items():
        if expected:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, name.replace("-", "").lower()).hexdigest()
            if not found.startswith(expected.lower()):
                return f"has {name} {found}, expected {expected}"
    if remote.filename.endswith(".zip") and not any(known.values()):
        return _zip_fault(path)
    return ""


def _zip_fault(path: pathlib.Path) -> str:
    _log.info("%s: checking every member", path.stem)
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.testzip()
    except Exception as error:  # wrong bytes end in errors of many types, of zlib, of the codecs, of the system
        return f"is a broken zip ({error!r})"
    return f"is a broken zip (member {member})" if member else ""
