"""The default backend: a thin adapter over ``aiohttp.ClientSession``."""

from __future__ import annotations

import asyncio
import io
import math
import socket
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import aiohttp
import anyio.to_thread
import msgspec
from aiohttp.connector import Connection
from yarl import URL

from promptmill._timeouts import TimedTask, Timeouts
from promptmill.errors import NeverSent
from promptmill.http._aiohttp_errors import FOREIGN, failure_after, failure_before
from promptmill.http._connecting import KEEP_IDLE_CONNECTION, USER_AGENT, proxy_for, socket_options, tls_context
from promptmill.http._downloading import Download
from promptmill.http._failures import bad_url, origin, quoted
from promptmill.http._inflating import ACCEPT_ENCODING, decoded, too_large, wire_limit
from promptmill.http._progress import Progress
from promptmill.http._uploading import FileForm
from promptmill.http.client import HttpClient, HttpResponse, HttpSettings

_TARGETS_KEPT: Final = 256
_ROUNDED_FROM: Final = 5.0
"""Seconds; longer timeouts are those of whole seconds, shorter ones of hundredths. Whoever called us has a clock as
well, and two cancellations in one turn of the event loop are hard to tell apart."""
_PROXIES: Final = ("http", "https")
_LONGEST_HEADER: Final = 64 * 1024
_MOST_HEADERS: Final = 256
_LARGE_BODY: Final = 1024 * 1024
"""aiohttp warns about longer bodies given as bytes, and writes a file in pieces."""


class AiohttpClient(HttpClient):
    """One session and one pool of connections. See :class:`HttpClient` for what it promises."""

    def __init__(self, settings: HttpSettings, connections: int | None) -> None:
        self._settings = settings
        self._connections = connections
        self._limit = settings.max_response_bytes
        self._target = lru_cache(_TARGETS_KEPT)(self._prepare)
        self._timeouts: dict[float, Timeouts] = {}

    async def aopen(self) -> None:
        options = socket_options()
        connector = aiohttp.TCPConnector(
            limit=self._connections or 0,
            keepalive_timeout=KEEP_IDLE_CONNECTION,
            ssl=await anyio.to_thread.run_sync(tls_context, self._settings),
            # The system's resolver, also where aiodns happens to be installed: it knows VPNs and /etc/hosts.
            resolver=aiohttp.ThreadedResolver(),
            socket_factory=lambda address: _socket(address, options),
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"accept-encoding": ACCEPT_ENCODING, "user-agent": USER_AGENT},
            auto_decompress=False,
            # Proxies are looked up here, once per URL: aiohttp would use two threads for each request, and read .netrc.
            trust_env=False,
            max_line_size=_LONGEST_HEADER,
            max_field_size=_LONGEST_HEADER,
            max_headers=_MOST_HEADERS,
            request_class=_Request,
            # The time of a whole call is kept by one timer for all of them, not by one of aiohttp's for each.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._settings.connect_timeout),
        )

    async def aclose(self) -> None:
        for timeouts in self._timeouts.values():
            timeouts.close()
        self._timeouts.clear()
        await self._session.close()

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | FileForm | None = None,
        timeout: float,
        into: Download | None = None,
    ) -> HttpResponse:
        if timeout <= 0:
            raise NeverSent(f"no time is left to ask {origin(url)!r}", code="connect_timeout")
        target = self._target(url)
        attempt = _Attempt(url, target.proxy)
        timeouts = self._timeouts_of(timeout)
        timed = TimedTask()
        timeouts.begin(timed)
        is_over = False
        try:
            return await self._asked(method, target, headers, body, attempt, into)
        except asyncio.CancelledError as error:
            is_over = True
            if timed.ended():
                raise attempt.failure(TimeoutError()) from error
            raise
        finally:
            timeouts.end(timed)
            if timed.is_late and not is_over:
                timed.ended()

    async def _asked(
        self,
        method: str,
        target: _Target,
        headers: Mapping[str, str],
        body: bytes | FileForm | None,
        attempt: _Attempt,
        into: Download | None,
    ) -> HttpResponse:
        try:
            response = await self._session.request(
                method,
                target.url,
                data=_data(body),
                headers=headers,
                allow_redirects=False,
                proxy=target.proxy_url,
                # Naming headers to skip makes aiohttp copy them all, so only where it would add one.
                skip_auto_headers=None if "content-type" in headers else ("content-type",),
                middlewares=(attempt,),
            )
        except FOREIGN as error:
            # What comes by here is what aiohttp finds wrong before it begins.
            raise attempt.failure(error) from error
        first_byte_s = attempt.seconds()
        try:
            return await self._read(response, attempt.url, into, first_byte_s)
        except FOREIGN as error:
            raise failure_after(error, attempt.url) from error
        finally:
            # After the whole body this does nothing: the connection is back in the pool by then.
            response.close()

    async def _read(
        self, response: aiohttp.ClientResponse, url: str, into: Download | None, first_byte_s: float | None
    ) -> HttpResponse:
        headers = {name.lower(): value for name, value in response.headers.items()}
        if not "".join(headers.values()).isascii():
            headers = {name: _clean(value) for name, value in headers.items()}
        content = response.content
        if into is not None and await into.begin(response.status, headers):
            progress = Progress(self._settings, url)
            while piece := await progress.read(content.readany()):
                await into.take(piece)
            return HttpResponse(response.status, headers, b"", first_byte_s)
        encoding = headers.get("content-encoding", "").strip().lower()
        most = wire_limit(self._limit, encoding)
        # Nearly all replies are there at once: for these nothing is watched, and no timer is set.
        body = await content.readany()
        if not content.at_eof():
            body = await self._rest(content, url, body, most)
        if len(body) > most:
            raise too_large(self._limit, response.status)
        body = await decoded(body, encoding, self._limit, response.status)
        return HttpResponse(response.status, headers, body, first_byte_s)

    async def _rest(self, content: aiohttp.StreamReader, url: str, begun: bytes, most: int) -> bytes:
        """The body that ``begun`` begins, or more than ``most`` bytes of it."""
        progress = Progress(self._settings, url)
        progress.take(begun)
        parts = [begun]
        size = len(begun)
        while not content.at_eof() and size <= most:
            part = await progress.read(content.readany())
            parts.append(part)
            size += len(part)
        return b"".join(parts)

    def _timeouts_of(self, seconds: float) -> Timeouts:
        if seconds < math.inf:
            seconds = math.ceil(seconds) if seconds >= _ROUNDED_FROM else math.ceil(seconds * 100) / 100
        timeouts = self._timeouts.get(seconds)
        if timeouts is None:
            timeouts = self._timeouts[seconds] = Timeouts(seconds)
        return timeouts

    def _prepare(self, url: str) -> _Target:
        try:
            proxy = proxy_for(url, self._settings, _PROXIES)
            return _Target(URL(url), proxy, None if proxy is None else URL(proxy))
        except ValueError as error:
            raise bad_url(url, quoted(str(error))) from error


class _Target(msgspec.Struct, frozen=True):
    """A URL of the caller's, made ready once for all its requests."""

    url: Any
    proxy: str | None
    proxy_url: Any


class _Request(aiohttp.ClientRequest):
    """Remembers whether it got a connection, and when. Before that, no byte of it can have left.

    It has the headers it was given: aiohttp would add ``accept``.
    """

    DEFAULT_HEADERS: dict[Any, str] = {}  # noqa: RUF012 - aiohttp declares it so
    sent_at: float | None = None

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        self.sent_at = time.perf_counter()
        return await super().send(conn)


class _Attempt:
    """aiohttp's middleware around one request.

    Translating here, and not around the session's call, also keeps aiohttp from sending a GET, PUT or DELETE a second
    time when the connection breaks: it never sees the exceptions upon which it would.
    """

    __slots__ = ("_proxy", "_request", "url")

    def __init__(self, url: str, proxy: str | None) -> None:
        self.url = url
        self._proxy = proxy
        self._request: aiohttp.ClientRequest | None = None

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        self._request = request
        try:
            return await handler(request)
        except FOREIGN as error:
            raise self.failure(error) from error

    def seconds(self) -> float | None:
        """Since the request got a connection."""
        sent_at = self._request.sent_at if isinstance(self._request, _Request) else None
        return None if sent_at is None else time.perf_counter() - sent_at

    def failure(self, error: Exception) -> Exception:
        if isinstance(self._request, _Request) and self._request.sent_at is not None:
            return failure_after(error, self.url)
        return failure_before(error, self.url, self._proxy)


def _data(body: bytes | FileForm | None) -> Any:
    if isinstance(body, FileForm):
        return body.pieces()
    return io.BytesIO(body) if body is not None and len(body) > _LARGE_BODY else body


def _socket(address: Any, options: list[tuple[int, int, int]]) -> socket.socket:
    family, kind, protocol = address[:3]
    made = socket.socket(family, kind, protocol)
    try:
        for option in options:
            made.setsockopt(*option)
    except OSError:
        made.close()
        raise
    return made


def _clean(value: str) -> str:
    """A header value without the surrogates that stand for bytes which are not UTF-8."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
