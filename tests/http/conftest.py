"""Both backends, behind one fixture: the suite here says what the contract of HttpClient means."""

from __future__ import annotations

import asyncio
import gc
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme

from promptmill.http import HttpClient, HttpSettings, open_client

PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")

OpenClient = Callable[..., Awaitable[HttpClient]]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(autouse=True, scope="module")
def _no_leaks() -> Iterator[None]:
    """What the tests of a module leave open is reported there: the warning is an error."""
    yield
    gc.collect()


@pytest.fixture(params=["aiohttp", "httpx"])
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
async def opened(backend: str) -> AsyncIterator[OpenClient]:
    """Opens clients of the backend and closes them in the end; then no task of theirs may be left."""
    async with AsyncExitStack() as stack:

        async def open_one(*, connections: int | None = None, **settings: Any) -> HttpClient:
            wanted = HttpSettings.model_validate({"backend": backend, **settings})
            return await stack.enter_async_context(open_client(wanted, connections=connections))

        yield open_one
    await asyncio.sleep(0)
    left = [task for task in asyncio.all_tasks() if "aiohttp" in repr(task) or "httpcore" in repr(task)]
    assert left == []


@pytest.fixture
async def client(opened: OpenClient) -> HttpClient:
    return await opened()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    """The context of a server for 127.0.0.1 and localhost that ``authority`` vouches for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path
