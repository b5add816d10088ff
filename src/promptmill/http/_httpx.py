"""The reference backend: httpx, sharded; or an ``httpx.AsyncClient`` of the user's."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import anyio
import anyio.to_thread
import httpx

from promptmill.errors import NeverSent
from promptmill.http._connecting import USER_AGENT, tls_context
from promptmill.http._downloading import Download
from promptmill.http._failures import origin
from promptmill.http._httpx_errors import FOREIGN, failure_of_call
from promptmill.http._inflating import ACCEPT_ENCODING, decoded, too_large, wire_limit
from promptmill.http._progress import Progress
from promptmill.http._shards import ShardedTransport
from promptmill.http._uploading import FileForm
from promptmill.http.client import HttpClient, HttpResponse, HttpSettings


class HttpxClient(HttpClient):
    """See :class:`HttpClient` for what it promises. Works under ``respx.mock``."""

    def __init__(self, settings: HttpSettings, connections: int | None, client: httpx.AsyncClient | None) -> None:
        self._settings = settings
        self._connections = connections
        self._limit = settings.max_response_bytes
        self._given = client

    async def aopen(self) -> None:
        if self._given is not None:
            self._client = self._given
            return
        context = await anyio.to_thread.run_sync(tls_context, self._settings)
        self._client = httpx.AsyncClient(
            transport=ShardedTransport(self._settings, self._connections, context),
            headers={"user-agent": USER_AGENT},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            # The transport sees to proxies and certificates; what is left of the environment is .netrc.
            trust_env=False,
        )

    async def aclose(self) -> None:
        if self._given is None:
            await self._client.aclose()

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
        phase = _Phase()
        answered = False
        response: httpx.Response | None = None
        try:
            with anyio.fail_after(timeout if timeout < math.inf else None):
                request = self._request(method, url, headers, body, timeout, phase)
                response = await self._client.send(request, stream=True, follow_redirects=False)
                answered = True
                return await self._read(response, url, into, time.perf_counter() - phase.sent_at)
        except FOREIGN as error:
            raise failure_of_call(error, url, answered=answered, connecting=phase.connecting) from error
        finally:
            if response is not None:
                with anyio.CancelScope(shield=True):
                    await response.aclose()

    def _request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | FileForm | None,
        timeout: float,
        phase: _Phase,
    ) -> httpx.Request:
        sent = httpx.Headers(dict(headers))
        sent.setdefault("accept-encoding", ACCEPT_ENCODING)
        limit = timeout if timeout < math.inf else None
        return self._client.build_request(
            method,
            url,
            headers=sent,
            content=body.pieces() if isinstance(body, FileForm) else body,
            timeout=httpx.Timeout(limit, connect=min(self._settings.connect_timeout, timeout)),
            extensions={"trace": phase},
        )

    async def _read(
        self, response: httpx.Response, url: str, into: Download | None, first_byte_s: float
    ) -> HttpResponse:
        headers = {
            name.decode("ascii", "replace").lower(): value.decode("utf-8", "replace")
            for name, value in response.headers.raw
        }
        if into is not None and await into.begin(response.status_code, headers):
            # A mocked reply is read before it gets here.
            pieces = _once(response.content) if response.is_stream_consumed else response.aiter_raw()
            progress = Progress(self._settings, url)
            while piece := await progress.read(anext(pieces, b"")):
                await into.take(piece)
            return HttpResponse(response.status_code, headers, b"", first_byte_s)
        if response.is_stream_consumed:
            # A mocked reply is read, and decompressed, before it gets here.
            body, encoding = response.content, ""
        else:
            encoding = headers.get("content-encoding", "").strip().lower()
            body = await self._raw(response, url, wire_limit(self._limit, encoding))
        body = await decoded(body, encoding, self._limit, response.status_code)
        return HttpResponse(response.status_code, headers, body, first_byte_s)

    async def _raw(self, response: httpx.Response, url: str, most: int) -> bytes:
        progress = Progress(self._settings, url)
        pieces = response.aiter_raw()
        parts = []
        size = 0
        while part := await progress.read(anext(pieces, b"")):
            parts.append(part)
            size += len(part)
            if size > most:
                raise too_large(self._limit, response.status_code)
        return b"".join(parts)


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


class _Phase:
    """Listens to httpcore and knows whether a connection is being made; only then is a timeout surely before sending.
    And when the request began to be sent; where nothing tells, it was at once.

    Source: httpcore's ``trace`` extension. Transports of other makes do not tell, and are not trusted to be connecting.
    """

    def __init__(self) -> None:
        self.connecting = False
        self.sent_at = time.perf_counter()

    async def __call__(self, event: str, _info: Mapping[str, Any]) -> None:
        if event.endswith(".started"):
            self.connecting = event.startswith("connection.")
            if event.endswith(".send_request_headers.started"):
                self.sent_at = time.perf_counter()
