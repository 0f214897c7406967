"""What a request is refused for, as problem+json (RFC 9457): which file, what was wrong, what is accepted."""

import http
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import JSONResponse, Response

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """A request that is answered by an error.

    Args:
      status: HTTP status.
      detail: what was wrong, a sentence.
      accepted: what is accepted instead.
      files: of each file that was wrong its name ("file") and what was wrong with it ("detail").
      retry_after: seconds after which the same request may succeed; None = it will not.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        accepted: str = "",
        *,
        files: Sequence[Mapping[str, str]] = (),
        retry_after: int | None = None,
    ):
        super().__init__(detail)
        self.status, self.detail, self.accepted = status, detail, accepted
        self.files, self.retry_after = list(files), retry_after

    def response(self) -> Response:
        """Returns it as a response."""
        body: dict[str, Any] = {
            "type": "about:blank",
            "title": http.HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.accepted:
            body["accepted"] = self.accepted
        if self.files:
            body["files"] = self.files
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if self.status in (408, 411, 413):
            headers["Connection"] = "close"  # as the rest of the body is not read
        return JSONResponse(body, self.status, headers, MEDIA_TYPE)


def busy(limit: int) -> Problem:
    """Returns what is said where as many images as may be are under way."""
    detail = f"{limit} images are under way, which is as many as this server takes on at once."
    return Problem(429, detail, "Ask again after the seconds of Retry-After.", retry_after=2)


def late(seconds: float) -> Problem:
    """Returns what is said where an answer took too long."""
    detail = f"There was no answer within {seconds:g} s: the server has too much to do."
    return Problem(503, detail, "Ask again after the seconds of Retry-After.", retry_after=5)
