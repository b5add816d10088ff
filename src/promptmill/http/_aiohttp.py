"""The default backend: aiohttp's pool of connections, its way to a server and its parser."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import aiohttp
import anyio.to_thread
from aiohttp.connector import Connection

from promptmill._timeouts import TimedTask, Timeouts
from promptmill.errors import NeverSent
from promptmill.http._aiohttp_errors import FOREIGN, failure_after, failure_before
from promptmill.http._aiohttp_exchange import Body, Exchange, has_stray_reply
from promptmill.http._aiohttp_target import Target
from promptmill.http._connecting import KEEP_IDLE_CONNECTION, socket_options, tls_context
from promptmill.http._downloading import Download
from promptmill.http._failures import origin
from promptmill.http._inflating import decoded, too_large, wire_limit
from promptmill.http._progress import Progress
from promptmill.http.client import HttpClient, HttpResponse, HttpSettings

_TARGETS_KEPT: Final = 256
_ROUNDED_FROM: Final = 5.0
"""Seconds; longer timeouts are those of whole seconds, shorter ones of hundredths. Whoever called us has a clock as
well, and two cancellations in one turn of the event loop are hard to tell apart."""


class AiohttpClient(HttpClient):
    """One pool of connections. See :class:`HttpClient` for what it promises."""

    def __init__(self, settings: HttpSettings, connections: int | None) -> None:
        self._settings = settings
        self._connections = connections
        self._limit = settings.max_response_bytes
        self._target = lru_cache(_TARGETS_KEPT)(self._prepare)
        self._timeouts: dict[float, Timeouts] = {}
        # The time of a whole call is kept by one timer for all of them, not by one of aiohttp's for each.
        self._connecting = aiohttp.ClientTimeout(total=None, sock_connect=settings.connect_timeout)

    async def aopen(self) -> None:
        options = socket_options()
        self._connector = aiohttp.TCPConnector(
            limit=self._connections or 0,
            keepalive_timeout=KEEP_IDLE_CONNECTION,
            ssl=await anyio.to_thread.run_sync(tls_context, self._settings),
            # The system's resolver, also where aiodns happens to be installed: it knows VPNs and /etc/hosts.
            resolver=aiohttp.ThreadedResolver(),
            socket_factory=lambda address: _socket(address, options),
        )

    async def aclose(self) -> None:
        for timeouts in self._timeouts.values():
            timeouts.close()
        self._timeouts.clear()
        await self._connector.close()

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: Body = None,
        timeout: float,
        into: Download | None = None,
    ) -> HttpResponse:
        if timeout <= 0:
            raise NeverSent(f"no time is left to ask {origin(url)!r}", code="connect_timeout")
        target = self._target(method, url, tuple(headers.items()))
        timeouts = self._timeouts_of(timeout)
        timed = TimedTask()
        timeouts.begin(timed)
        is_over = False
        is_connected = False
        try:
            connection = await self._connect(target)
            is_connected = True
            return await self._asked(connection, target, body, into)
        except asyncio.CancelledError as error:
            is_over = True
            if timed.ended():
                if is_connected:
                    raise failure_after(TimeoutError(), target.url) from error
                raise failure_before(TimeoutError(), target.url, target.proxy) from error
            raise
        finally:
            timeouts.end(timed)
            if timed.is_late and not is_over:
                timed.ended()

    async def _connect(self, target: Target) -> Connection:
        try:
            while True:
                connection = await self._connector.connect(target.destination, traces=[], timeout=self._connecting)
                if not has_stray_reply(connection):
                    return connection
                connection.close()
        except FOREIGN as error:
            raise failure_before(error, target.url, target.proxy) from error

    async def _asked(self, connection: Connection, target: Target, body: Body, into: Download | None) -> HttpResponse:
        exchange = Exchange(connection)
        try:
            await exchange.begin(target, body)
            reply = await self._read(exchange, target.url, into)
        except BaseException as error:
            await exchange.abort()
            if isinstance(error, FOREIGN):
                raise failure_after(error, target.url) from error
            raise
        await exchange.end()
        return reply

    async def _read(self, exchange: Exchange, url: str, into: Download | None) -> HttpResponse:
        status, first_byte_s = exchange.message.code, exchange.first_byte_s
        headers = {name.lower(): value for name, value in exchange.message.headers.items()}
        if not "".join(headers.values()).isascii():
            headers = {name: _clean(value) for name, value in headers.items()}
        content = exchange.content
        if into is not None and await into.begin(status, headers):
            progress = Progress(self._settings, url)
            while piece := await progress.read(content.readany()):
                await into.take(piece)
            return HttpResponse(status, headers, b"", first_byte_s)
        encoding = headers.get("content-encoding", "").strip().lower()
        most = wire_limit(self._limit, encoding)
        # Nearly all replies are there at once: for these nothing is watched, and no timer is set.
        body = await content.readany()
        if not content.at_eof():
            body = await self._rest(content, url, body, most)
        if len(body) > most:
            raise too_large(self._limit, status)
        body = await decoded(body, encoding, self._limit, status)
        return HttpResponse(status, headers, body, first_byte_s)

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

    def _prepare(self, method: str, url: str, headers: tuple[tuple[str, str], ...]) -> Target:
        return Target(method, url, headers, self._settings)


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
