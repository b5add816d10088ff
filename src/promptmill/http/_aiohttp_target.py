"""What many requests have in common: where they go, and the head they are sent with, made once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from functools import cached_property
from typing import Any, Final

import aiohttp
from aiohttp.client_reqrep import ConnectionKey
from yarl import URL

from promptmill.http._connecting import USER_AGENT, proxy_for
from promptmill.http._failures import bad_url, quoted
from promptmill.http._inflating import ACCEPT_ENCODING
from promptmill.http.client import HttpSettings

_PROXIES: Final = ("http", "https")
_OURS: Final = {"accept-encoding": ACCEPT_ENCODING, "user-agent": USER_AGENT}
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
"""What may not be in a header. Source: RFC 9110, section 5.5."""


class Target:
    """Where requests with one method, URL and set of headers go. ``proxy`` is the URL of the proxy, if there is one.

    Raises:
        NeverSent: it cannot be used (``bad_url``, ``proxy``).
    """

    def __init__(self, method: str, url: str, headers: Iterable[tuple[str, str]], settings: HttpSettings) -> None:
        self.url = url
        try:
            self.proxy = proxy_for(url, settings, _PROXIES)
            self.destination = _destination(method, URL(url), dict(headers), self.proxy)
            self._head: bytes | None = None
            self._check()
        except ValueError as error:
            raise bad_url(url, quoted(str(error))) from error
        self.has_no_reply_body = self.destination.method == "HEAD"
        self._sends_length_of_nothing = self.destination.method not in self.destination.GET_METHODS

    def head(self, length: int | None) -> bytes:
        """The bytes before a body of ``length`` bytes, or before none at all. Ask when there is a connection."""
        head = self._head
        if head is None:
            # Not before: aiohttp adds the credentials for a proxy when it connects.
            head = self._head = self._written()
        if length is None:
            return head + (b"content-length: 0\r\n\r\n" if self._sends_length_of_nothing else b"\r\n")
        return b"%bcontent-length: %d\r\n\r\n" % (head, length)

    def _written(self) -> bytes:
        sent = self.destination
        path = str(sent.url) if sent.proxy and not sent.is_ssl() else sent.url.raw_path_qs
        fields = "".join(f"{name}: {value}\r\n" for name, value in sent.headers.items())
        return f"{sent.method} {path} HTTP/1.1\r\n{fields}".encode()

    def _check(self) -> None:
        for name, value in self.destination.headers.items():
            if _CONTROL.search(name) or _CONTROL.search(value):
                raise ValueError(f"there is a control character in the header {_CONTROL.sub('?', name)!r}")
            f"{name}{value}".encode()  # lone surrogates cannot be sent, and are a ValueError


class Destination(aiohttp.ClientRequest):
    """Tells aiohttp's pool where to connect. It stands for many requests, and none is sent with it."""

    DEFAULT_HEADERS: dict[Any, str] = {}  # noqa: RUF012 - aiohttp declares it so

    @cached_property
    def connection_key(self) -> ConnectionKey:
        return super().connection_key


def _destination(method: str, url: URL, headers: dict[str, str], proxy: str | None) -> Destination:
    if url.scheme not in ("http", "https") or not url.raw_host:
        raise ValueError("it is not a valid http:// or https:// URL")
    given = {name.lower() for name in headers}
    sent = {name: value for name, value in _OURS.items() if name not in given}
    sent |= headers
    if url.raw_user or url.raw_password:
        if "authorization" in given:
            raise ValueError("there are credentials in it, and a header 'authorization' beside it")
        sent["authorization"] = aiohttp.encode_basic_auth(url.user or "", url.password or "")
        url = url.with_user(None)
    loop = asyncio.get_running_loop()
    made = Destination(method, url, headers=sent, loop=loop, proxy=None if proxy is None else URL(proxy))
    # Each request has a length of its own.
    made.headers.popall("content-length", None)
    return made
