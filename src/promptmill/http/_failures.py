"""From what went wrong underneath to our classes of failure: what both backends share."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from promptmill.errors import NeverSent

_NO_FILES_LEFT: Final = frozenset({errno.EMFILE, errno.ENFILE})
_LONGEST_DETAIL: Final = 200
_DEEPEST: Final = 16


def origin(url: str) -> str:
    """Scheme, host and port of a URL, for messages: the rest of it may hold a secret."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname or ''}{port}"
    except ValueError:
        return "(not a URL)"


def unreached(error: BaseException, url: str, otherwise: str = "connect_refused") -> NeverSent:
    """The failure for a connection that was never made: ``error`` or one of its causes says why, else ``otherwise``."""
    return NeverSent(f"cannot connect to {origin(url)!r}: {detail(error)}", code=_code(_root(error)) or otherwise)


def bad_url(url: str, reason: str) -> NeverSent:
    """The failure for a URL that cannot be used."""
    return NeverSent(f"the URL of {origin(url)!r} cannot be used: {reason}", code="bad_url")


def bad_proxy(proxy: str, reason: str) -> NeverSent:
    """The failure for a proxy that cannot be used."""
    return NeverSent(f"the proxy {origin(proxy)!r} cannot be used: {reason}", code="proxy")


def detail(error: BaseException) -> str:
    """What the deepest cause says, without the URL that HTTP clients like to put into their messages."""
    root = _root(error)
    if isinstance(root, ssl.SSLCertVerificationError):
        return getattr(root, "verify_message", None) or "the certificate is refused"
    if isinstance(root, ssl.SSLError):
        # Set by OpenSSL only: one made in Python, as in tests, has neither.
        return getattr(root, "reason", None) or type(root).__name__
    if isinstance(root, socket.gaierror):
        return root.strerror or "the name cannot be resolved"
    if isinstance(root, OSError) and root.errno is not None:
        return os.strerror(root.errno)
    if isinstance(root, TimeoutError):
        return "the time was up"
    return type(root).__name__


def quoted(text: str) -> str:
    """Foreign text for a message: short, and with its control characters escaped."""
    return repr(text[:_LONGEST_DETAIL])


def _code(root: BaseException) -> str | None:
    if isinstance(root, socket.gaierror):
        return "dns"
    if isinstance(root, ssl.SSLError):
        return "tls"
    if isinstance(root, OSError) and root.errno in _NO_FILES_LEFT:
        return "too_many_open_files"
    if isinstance(root, TimeoutError):
        return "connect_timeout"
    return None


def _root(error: BaseException) -> BaseException:
    """The most telling of an error and its causes: the last one that is an OSError with something to say."""
    told = [one for one in _causes(error) if isinstance(one, OSError) and not _is_vague(one)]
    return told[-1] if told else error


def _is_vague(error: OSError) -> bool:
    return error.errno is None and not isinstance(error, TimeoutError | ssl.SSLError | socket.gaierror)


def cause_of(error: BaseException) -> BaseException | None:
    """What explicitly caused ``error``; for a group, its first member.

    Never ``__context__``: that would lead to whatever the caller was handling when it asked. But also what an exception
    was made with, since httpcore wraps the cause that way and then hides it.
    """
    if isinstance(error, BaseExceptionGroup):
        return error.exceptions[0]
    return error.__cause__ or next((part for part in error.args if isinstance(part, BaseException)), None)


def _causes(error: BaseException) -> Iterator[BaseException]:
    one: BaseException | None = error
    for _ in range(_DEEPEST):
        if one is None:
            return
        yield one
        one = cause_of(one)
