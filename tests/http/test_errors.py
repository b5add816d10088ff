"""No exception of the libraries underneath gets past the border, whatever they add in the next release."""

from __future__ import annotations

import errno
import inspect
import socket
import ssl
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import aiohttp
import httpcore
import httpx
import pytest
from aiohttp import client_exceptions

from promptmill.errors import BadOutput, NeverSent, ProviderError, Transient
from promptmill.http import _aiohttp_errors, _httpx_errors
from promptmill.http._failures import detail, origin, unreached

URL = "http://user:hush@host.example:8000/v1?key=hush"


def exceptions_of(*modules: ModuleType) -> Iterator[type[Exception]]:
    for module in modules:
        for _, value in inspect.getmembers(module, inspect.isclass):
            if issubclass(value, Exception) and value.__module__.partition(".")[0] in ("aiohttp", "httpx", "httpcore"):
                yield value


def made(kind: type[Exception]) -> Any:
    """An instance without its constructor: those want objects that take a whole request to make."""
    error = kind.__new__(kind)
    if isinstance(error, aiohttp.ClientResponseError):
        error.status, error.message = 502, "odd"
    return error


AIOHTTP = sorted(set(exceptions_of(client_exceptions, aiohttp)), key=repr)
NOT_OF_REQUESTS = {
    "aiohttp.client_exceptions.WSMessageTypeError": "websockets only",
    "aiohttp.http_websocket.WebSocketError": "websockets only",
    "aiohttp._websocket.models.WebSocketError": "websockets only",
    "aiohttp.payload.LookupError": "our bodies are bytes",
    "aiohttp.multipart.BadContentDispositionHeader": "a warning",
    "aiohttp.multipart.BadContentDispositionParam": "a warning",
}
HTTPX = sorted(set(exceptions_of(httpx, httpcore)), key=repr)
NOT_OF_HTTPX = {
    "httpx.CookieConflict": "raised when a jar is read, which nobody does",
    "httpcore.ConnectionNotAvailable": "caught by the pool",
}


def name(kind: type[Exception]) -> str:
    return f"{kind.__module__}.{kind.__name__}"


@pytest.mark.parametrize("kind", [kind for kind in AIOHTTP if name(kind) not in NOT_OF_REQUESTS], ids=name)
def test_every_exception_of_aiohttp_is_mapped(kind: type[Exception]) -> None:
    assert issubclass(kind, _aiohttp_errors.FOREIGN)
    assert _aiohttp_errors.code_of(made(kind)) is not None
    before = _aiohttp_errors.failure_before(made(kind), URL, None)
    after = _aiohttp_errors.failure_after(made(kind), URL)
    assert type(before) is NeverSent
    assert type(after) is Transient
    assert after.code in ("timeout", "connection_lost", "truncated_body", "bad_http")
    assert "hush" not in f"{before}{after}"


@pytest.mark.parametrize("kind", [kind for kind in HTTPX if name(kind) not in NOT_OF_HTTPX], ids=name)
@pytest.mark.parametrize("answered", [False, True])
def test_every_exception_of_httpx_is_mapped(kind: type[Exception], answered: bool) -> None:
    assert issubclass(kind, _httpx_errors.FOREIGN)
    assert _httpx_errors.code_of(made(kind)) is not None
    failure = _httpx_errors.failure_of_call(made(kind), URL, answered=answered, connecting=False)
    assert type(failure) in (NeverSent, Transient, BadOutput)
    assert "hush" not in str(failure)
    never_sent = ("Connect", "PoolTimeout", "ProxyError", "UnsupportedProtocol", "InvalidURL")
    assert isinstance(failure, NeverSent) == kind.__name__.startswith(never_sent)


def test_there_are_exceptions_to_look_at() -> None:
    assert len(AIOHTTP) > 25
    assert len(HTTPX) > 25


def refusal(error: Exception) -> Exception:
    wrapped = httpx.ConnectError("no")
    wrapped.__cause__ = httpcore.ConnectError(error)
    return wrapped


def from_many(*errors: Exception) -> OSError:
    """As anyio reports that no address of several could be reached."""
    error = OSError("All connection attempts failed")
    error.__cause__ = ExceptionGroup("multiple connection attempts failed", list(errors))
    return error


@pytest.mark.parametrize(
    ("cause", "code", "text"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "no"), "connect_refused", "Connection refused"),
        (OSError(errno.ENETUNREACH, "no"), "connect_refused", "unreachable"),
        (OSError(errno.EMFILE, "no"), "too_many_open_files", "Too many open files"),
        (OSError(errno.ENFILE, "no"), "too_many_open_files", "Too many open files"),
        (TimeoutError(errno.ETIMEDOUT, "no"), "connect_timeout", "timed out"),
        (TimeoutError(), "connect_timeout", "the time was up"),
        (socket.gaierror(socket.EAI_NONAME, "name not known"), "dns", "name not known"),
        (socket.gaierror(socket.EAI_NONAME), "dns", "cannot be resolved"),
        (ssl.SSLCertVerificationError(1, "odd"), "tls", "certificate"),
        (ssl.SSLError(1, "odd"), "tls", "SSLError"),
        (OSError("nothing to say"), "connect_refused", "ConnectError"),
        (from_many(ConnectionRefusedError(errno.ECONNREFUSED, "no")), "connect_refused", "Connection refused"),
    ],
)
def test_why_there_is_no_connection(cause: Exception, code: str, text: str) -> None:
    failure = unreached(refusal(cause), URL)
    assert failure.code == code
    assert failure.message.startswith("cannot connect to 'http://host.example:8000': ")
    assert text in failure.message


def test_causes_that_go_in_circles() -> None:
    one, other = RuntimeError("a"), RuntimeError("b")
    one.__cause__, other.__cause__ = other, one
    assert detail(one) == "RuntimeError"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://key:hush@host/v1?key=hush#hush", "https://host"),
        ("http://host:80/", "http://host:80"),
        ("http://[::1/", "(not a URL)"),
        ("http://host:port/", "(not a URL)"),
        ("", "://"),
    ],
)
def test_only_the_origin_of_a_url_is_shown(url: str, shown: str) -> None:
    assert origin(url) == shown


def test_a_refusing_proxy_is_told_from_a_refusing_server() -> None:
    failure: ProviderError = _aiohttp_errors.failure_before(
        made(aiohttp.ClientHttpProxyError), URL, "http://me:hush@proxy"
    )
    assert (failure.code, "502" in failure.message, "hush" in failure.message) == ("proxy", True, False)
