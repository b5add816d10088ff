"""Choosing the HTTP client underneath, importing only the one that is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from promptmill.http.client import HttpClient, HttpSettings

if TYPE_CHECKING:
    import httpx


def open_client(
    settings: HttpSettings, *, connections: int | None = None, client: httpx.AsyncClient | None = None
) -> HttpClient:
    """An HTTP client after ``settings``, to be entered with ``async with``; nothing is opened before that.

    Args:
        connections: how many calls will be in flight at once; used when the settings do not limit the connections.
        client: a client of the user's, used as it is (its transport, proxies, TLS and limits) and never closed by us.
            It implies the httpx backend.
    """
    limit = settings.connections or connections
    if client is not None or settings.backend == "httpx":
        from promptmill.http._httpx import HttpxClient

        return HttpxClient(settings, limit, client)
    from promptmill.http._aiohttp import AiohttpClient

    return AiohttpClient(settings, limit)
