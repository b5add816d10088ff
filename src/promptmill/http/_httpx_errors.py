"""The border where the exceptions of httpx, and of httpcore below it, become ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import httpcore
import httpx

from promptmill.errors import BadOutput, NeverSent, ProviderError, Transient
from promptmill.http._failures import bad_proxy, bad_url, cause_of, detail, origin, quoted, unreached

FOREIGN: Final = (
    httpx.HTTPError,
    httpx.InvalidURL,
    httpx.StreamError,
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
    OSError,
    ValueError,
)
"""Everything a request may raise but cancellation. httpx lets httpcore's own through while it closes a reply; OSError
includes what TLS may raise in mid-stream, ValueError what it dislikes in a header."""

CODES: Final[Mapping[type[Exception], str]] = {
    httpx.ConnectTimeout: "unreached_in_time",
    httpx.ConnectError: "unreached",
    httpx.PoolTimeout: "no_connection",
    httpx.TimeoutException: "timeout",
    httpx.ProxyError: "proxy",
    httpx.UnsupportedProtocol: "bad_url",
    httpx.InvalidURL: "bad_url",
    httpx.RemoteProtocolError: "connection_lost",
    httpx.LocalProtocolError: "bad_http",
    httpx.ProtocolError: "bad_http",
    httpx.TooManyRedirects: "bad_http",
    httpx.DecodingError: "bad_encoding",
    httpx.TransportError: "connection_lost",
    httpx.StreamError: "connection_lost",
    httpx.HTTPError: "connection_lost",
    httpcore.ConnectTimeout: "unreached_in_time",
    httpcore.ConnectError: "unreached",
    httpcore.PoolTimeout: "no_connection",
    httpcore.TimeoutException: "timeout",
    httpcore.ProxyError: "proxy",
    httpcore.UnsupportedProtocol: "bad_url",
    httpcore.RemoteProtocolError: "connection_lost",
    httpcore.ProtocolError: "bad_http",
    httpcore.NetworkError: "connection_lost",
    TimeoutError: "timeout",
    OSError: "connection_lost",
    ValueError: "bad_http",
}
"""The nearest class in an exception's ancestry counts."""

_MESSAGES: Final[Mapping[str, str]] = {
    "timeout": "{} did not answer in time",
    "connection_lost": "the connection to {} was lost",
    "truncated_body": "the reply of {} ended too soon",
    "bad_http": "{} does not talk HTTP as it should",
}


def code_of(error: Exception) -> str | None:
    """What ``error`` is called in our words, from its class alone."""
    return next((CODES[kind] for kind in type(error).__mro__ if kind in CODES), None)


def failure_of_call(error: Exception, url: str, *, answered: bool, connecting: bool) -> ProviderError:
    """The failure for an error of one call.

    ``answered`` says that a status line has come, ``connecting`` that the transport was still making its connection.
    """
    code = code_of(error) or "connection_lost"
    if code == "unreached":
        return unreached(error, url)
    if code == "unreached_in_time" or (code == "timeout" and connecting and not answered):
        return unreached(error, url, "connect_timeout")
    if code == "no_connection":
        return NeverSent(f"no connection to {origin(url)!r} became free in time", code="connect_timeout")
    if code == "proxy":
        return bad_proxy(url, quoted(str(error)))
    if code == "bad_url":
        return bad_url(url, "it is not a valid http:// or https:// URL")
    if code == "bad_encoding":
        return BadOutput("the reply cannot be decompressed", code=code)
    if isinstance(error, httpx.RemoteProtocolError | httpcore.RemoteProtocolError):
        code = "truncated_body" if answered else _before_the_answer(error)
    return Transient(f"{_MESSAGES[code].format(repr(origin(url)))} ({detail(error)})", code=code)


def _before_the_answer(error: Exception) -> str:
    """A parser's complaint has an exception of the parser below it; a connection that merely ends has none."""
    below = cause_of(error) if isinstance(error, httpx.HTTPError) else error
    return "bad_http" if below is not None and cause_of(below) is not None else "connection_lost"
