"""Replies, and the errors the API answers with.

Shapes and codes: the OpenAPI description's ``ErrorResponse``, and the error table of the official guide.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from promptmill import jsontext

Headers = list[tuple[bytes, bytes]]

JSON_TYPE: Final = (b"content-type", b"application/json")


class Reply(msgspec.Struct, frozen=True):
    """A reply: status, headers (lower-case names, without the length) and body, or the file to send as the body.

    ``span`` is the part of the file to send: where it starts, and how many bytes. None: all of it.
    """

    status: int
    body: bytes
    headers: Headers = []
    file: Path | None = None
    span: tuple[int, int] | None = None


def json_reply(value: object, status: int = 200, headers: Headers | None = None) -> Reply:
    """A reply with ``value`` as its JSON body."""
    return Reply(status, jsontext.encode(value), [JSON_TYPE, *(headers or ())])


class ApiError(Exception):
    """The request is answered with an error of the API."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: Headers | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
        self.headers = headers

    def reply(self) -> Reply:
        return json_reply(self.body, self.status, self.headers)


class StatusText(msgspec.Struct, frozen=True):
    """What an error of some status says by default."""

    kind: str
    code: str | None
    message: str


_DEFAULTS: Final = {
    400: StatusText("invalid_request_error", None, "The request was invalid."),
    401: StatusText("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    403: StatusText(
        "invalid_request_error", "unsupported_country_region_territory", "Country, region, or territory not supported"
    ),
    404: StatusText(
        "invalid_request_error", "model_not_found", "The model does not exist or you have no access to it."
    ),
    408: StatusText("timeout", None, "The request timed out."),
    409: StatusText("invalid_request_error", "conflict", "The resource is being changed by another request."),
    413: StatusText("invalid_request_error", None, "The request is too large."),
    422: StatusText("invalid_request_error", None, "The request cannot be processed."),
    429: StatusText("requests", "rate_limit_exceeded", "Rate limit reached. Please try again later."),
    500: StatusText("server_error", "server_error", "The server had an error while processing your request. Sorry!"),
    502: StatusText("server_error", None, "Bad gateway."),
    503: StatusText("server_error", "server_is_overloaded", "The server is currently overloaded. Try again later."),
}


def default_text(status: int) -> StatusText:
    """The usual words of an error with this status."""
    if status in _DEFAULTS:
        return _DEFAULTS[status]
    return _DEFAULTS[500] if status >= 500 else _DEFAULTS[400]
