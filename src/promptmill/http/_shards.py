"""httpx's own transport, in shards: its pool costs time for every connection it holds, so none holds many.

Source of the size: measured with 256 connections to a server that answers after 200 ms, one pool takes 88 ms of CPU
for each request and shards of 16 connections one; smaller shards gain little.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from typing import Final

import httpx

from promptmill.http._connecting import KEEP_IDLE_CONNECTION, proxy_for, socket_options
from promptmill.http._failures import bad_proxy, quoted
from promptmill.http.client import HttpSettings

SHARD: Final = 16
"""Most connections in one pool."""

_PROXIES: Final = ("http", "https", "socks5", "socks5h")


class ShardedTransport(httpx.AsyncBaseTransport):
    """Spreads requests over pools of at most :data:`SHARD` connections, made as they are needed.

    ``connections`` limits all of them together (for each proxy in use); None means no limit.
    """

    def __init__(self, settings: HttpSettings, connections: int | None, context: ssl.SSLContext) -> None:
        self._settings = settings
        self._connections = connections
        self._context = context
        self._options = socket_options()
        self._shards: dict[str | None, list[_Shard]] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        shard = self._shard(proxy_for(str(request.url), self._settings, _PROXIES))
        shard.active += 1
        try:
            response = await shard.transport.handle_async_request(request)
        except BaseException:
            shard.active -= 1
            raise
        if not isinstance(response.stream, httpx.AsyncByteStream):
            raise TypeError(f"an asynchronous reply was expected, not {type(response.stream).__name__}")
        response.stream = _Counted(response.stream, shard)
        return response

    async def aclose(self) -> None:
        for shards in self._shards.values():
            for shard in shards:
                await shard.transport.aclose()

    def _shard(self, proxy: str | None) -> _Shard:
        """The first shard with room, which keeps the others idle; a new one; or the one with the shortest queue."""
        shards = self._shards.setdefault(proxy, [])
        for shard in shards:
            if shard.active < shard.size:
                return shard
        room = SHARD if self._connections is None else min(SHARD, self._connections - SHARD * len(shards))
        if room > 0:
            shards.append(_Shard(self._transport(room, proxy), room))
            return shards[-1]
        return min(shards, key=lambda shard: shard.active / shard.size)

    def _transport(self, size: int, proxy: str | None) -> httpx.AsyncHTTPTransport:
        try:
            return httpx.AsyncHTTPTransport(
                verify=self._context,
                limits=httpx.Limits(
                    max_connections=size, max_keepalive_connections=size, keepalive_expiry=KEEP_IDLE_CONNECTION
                ),
                proxy=proxy,
                socket_options=self._options,
            )
        except (ValueError, httpx.InvalidURL, ImportError) as error:
            # The last is SOCKS without the package for it.
            raise bad_proxy(proxy or "", quoted(str(error))) from error


class _Shard:
    def __init__(self, transport: httpx.AsyncHTTPTransport, size: int) -> None:
        self.transport = transport
        self.size = size
        self.active = 0


class _Counted(httpx.AsyncByteStream):
    """A reply's stream that frees its place in the shard when it is closed."""

    def __init__(self, stream: httpx.AsyncByteStream, shard: _Shard) -> None:
        self._stream = stream
        self._shard: _Shard | None = shard

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            yield part

    async def aclose(self) -> None:
        shard, self._shard = self._shard, None
        if shard is not None:
            shard.active -= 1
        await self._stream.aclose()
