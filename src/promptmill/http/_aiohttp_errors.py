"""The border where aiohttp's exceptions become ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import EofStream

from promptmill.errors import ProviderError, Transient
from promptmill.http._failures import bad_proxy, bad_url, detail, origin, quoted, unreached

FOREIGN: Final = (aiohttp.ClientError, HttpProcessingError, EofStream, OSError, ValueError)
"""Everything a request may raise but cancellation. OSError includes the timeouts, ValueError what it dislikes in a URL
or header, and UnicodeError from host names."""

CODES: Final[Mapping[type[Exception], str]] = {
    aiohttp.ServerTimeoutError: "timeout",
    aiohttp.ClientPayloadError: "truncated_body",
    aiohttp.ClientResponseError: "bad_http",
    aiohttp.ClientConnectionError: "connection_lost",
    aiohttp.ClientError: "connection_lost",
    aiohttp.InvalidURL: "bad_url",
    aiohttp.NonHttpUrlClientError: "bad_url",
    aiohttp.ClientHttpProxyError: "proxy",
    aiohttp.ClientProxyConnectionError: "proxy",
    HttpProcessingError: "bad_http",
    EofStream: "connection_lost",
    TimeoutError: "timeout",
    OSError: "connection_lost",
    ValueError: "bad_http",
}
"""Once a connection was at hand. The nearest class in an exception's ancestry counts."""

_TELLING: Final = (aiohttp.ClientResponseError, HttpProcessingError)
"""Those with a message about the reply."""

_MESSAGES: Final[Mapping[str, str]] = {
    "timeout": "{} did not answer in time",
    "connection_lost": "the connection to {} was lost",
    "truncated_body": "the reply of {} ended too soon",
    "bad_http": "{} does not talk HTTP as it should",
}


def code_of(error: Exception) -> str | None:
    """What ``error`` is called in our words, from its class alone."""
    return next((CODES[kind] for kind in type(error).__mro__ if kind in CODES), None)


def failure_before(error: Exception, url: str, proxy: str | None) -> ProviderError:
    """The failure for an error raised before a connection was at hand: certainly never sent."""
    if isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
        return bad_url(url, "it is not a valid http:// or https:// URL")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return bad_proxy(proxy or url, f"it answered with status {error.status}")
    if proxy is not None and isinstance(error, aiohttp.ClientProxyConnectionError | aiohttp.ClientConnectorDNSError):
        # With a proxy, its name is the only one looked up.
        return unreached(error, proxy, "proxy")
    if proxy is not None and isinstance(error, aiohttp.ClientResponseError):
        return bad_proxy(proxy, quoted(error.message))
    if isinstance(error, ValueError) and not isinstance(error, OSError):
        return bad_url(url, quoted(str(error)))
    return unreached(error, url)


def failure_after(error: Exception, url: str) -> ProviderError:
    """The failure for an error raised with a connection at hand: the request may have been read."""
    code = code_of(error) or "connection_lost"
    # What belongs before the connection cannot come after it; should it ever, the outcome is unknown all the same.
    message = _MESSAGES.get(code, _MESSAGES["connection_lost"]).format(repr(origin(url)))
    reason = quoted(error.message) if isinstance(error, _TELLING) else detail(error)
    return Transient(f"{message} ({reason})", code=code if code in _MESSAGES else "connection_lost")
