"""What is particular to the reference backend: mocks, clients of the user's, and shards."""

from __future__ import annotations

import gzip

import anyio
import httpx
import pytest
import respx

from promptmill.errors import BadOutput, NeverSent, Transient
from promptmill.http import HttpClient, HttpSettings, open_client
from promptmill.http._connecting import tls_context
from promptmill.http._shards import SHARD, ShardedTransport
from promptmill.testing.badserver import BadServer, Pause, Send, http_reply

SETTINGS = HttpSettings(backend="httpx")
URL = "https://api.example/v1/chat"


async def post(client: HttpClient, url: str = URL) -> bytes:
    return (await client.post(url, headers={"x-a": "b"}, body=b"{}", timeout=5)).body


@pytest.mark.parametrize("using", ["httpcore", "httpx"])
async def test_under_respx(using: str) -> None:
    async with respx.mock(using=using) as mock, open_client(SETTINGS, connections=4) as client:
        route = mock.post(URL).mock(return_value=httpx.Response(200, json={"a": 1}, headers={"X-Request-Id": "r"}))
        reply = await client.post(URL, headers={"authorization": "Bearer k"}, body=b'{"q": 1}', timeout=5)
    assert (reply.status, reply.json(), reply.headers["x-request-id"]) == (200, {"a": 1}, "r")
    sent = route.calls.last.request
    assert (sent.content, sent.headers["authorization"]) == (b'{"q": 1}', "Bearer k")


@pytest.mark.parametrize("using", ["httpcore", "httpx"])
@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (httpx.ConnectError("x"), NeverSent, "connect_refused"),
        (httpx.ConnectTimeout("x"), NeverSent, "connect_timeout"),
        (httpx.PoolTimeout("x"), NeverSent, "connect_timeout"),
        (httpx.ReadTimeout("x"), Transient, "timeout"),
        (httpx.WriteTimeout("x"), Transient, "timeout"),
        (httpx.ReadError("x"), Transient, "connection_lost"),
        (httpx.WriteError("x"), Transient, "connection_lost"),
        (httpx.RemoteProtocolError("x"), Transient, "connection_lost"),
        (httpx.DecodingError("x"), BadOutput, "bad_encoding"),
    ],
)
async def test_mocked_errors(using: str, error: Exception, kind: type[Exception], code: str) -> None:
    async with respx.mock(using=using) as mock, open_client(SETTINGS) as client:
        mock.post(URL).mock(side_effect=error)
        with pytest.raises(kind) as caught:
            await post(client)
    assert type(caught.value) is kind
    assert getattr(caught.value, "code") == code  # noqa: B009


@pytest.mark.parametrize("using", ["httpcore", "httpx"])
async def test_mocked_replies_that_are_too_large(using: str) -> None:
    settings = HttpSettings(backend="httpx", max_response_bytes=100)
    packed = httpx.Response(200, content=gzip.compress(bytes(101)), headers={"content-encoding": "gzip"})
    for reply in (httpx.Response(200, content=bytes(101)), packed):
        async with respx.mock(using=using) as mock, open_client(settings) as client:
            mock.post(URL).mock(return_value=reply)
            with pytest.raises(BadOutput) as caught:
                await post(client)
            assert caught.value.code == "response_too_large"


async def test_a_client_of_the_users() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=request.headers["x-mine"].encode())

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), headers={"x-mine": "kept"}) as mine:
        # Whatever backend the settings name.
        async with open_client(HttpSettings(), client=mine) as client:
            assert await post(client) == b"kept"
        assert not mine.is_closed
        assert (await mine.post(URL)).content == b"kept"


async def test_a_client_of_the_users_that_follows_redirects() -> None:
    async with (
        BadServer([http_reply(b"", status=307, headers=[("location", "/elsewhere")])]) as server,
        httpx.AsyncClient(follow_redirects=True) as mine,
        open_client(HttpSettings(), client=mine) as client,
    ):
        assert (await client.post(server.url, headers={}, body=b"{}", timeout=5)).status == 307
    assert len(server.requests) == 1


async def test_a_client_of_the_users_that_would_wait_too_long() -> None:
    async with (
        BadServer([[Pause(5), Send(http_reply())]]) as server,
        httpx.AsyncClient(timeout=None) as mine,
        open_client(HttpSettings(), client=mine) as client,
    ):
        with pytest.raises(Transient) as caught:
            await client.post(server.url, headers={}, body=b"{}", timeout=0.1)
    assert caught.value.code == "timeout"


@pytest.mark.parametrize(
    ("connections", "calls", "sizes"),
    [(None, 40, [16, 16, 16]), (20, 40, [16, 4]), (5, 40, [5]), (None, 3, [16]), (32, 40, [16, 16])],
)
async def test_shards(connections: int | None, calls: int, sizes: list[int]) -> None:
    transport = ShardedTransport(SETTINGS, connections, tls_context(SETTINGS))
    async with (
        BadServer(lambda _: [Pause(0.05), Send(http_reply())]) as server,
        httpx.AsyncClient(transport=transport) as mine,
        open_client(SETTINGS, client=mine) as client,
    ):
        for _ in range(2):
            async with anyio.create_task_group() as tasks:
                for _ in range(calls):
                    tasks.start_soon(post, client, server.url)
        shards = transport._shards[None]
        assert [shard.size for shard in shards] == sizes
        assert max(sizes) <= SHARD
        assert [shard.active for shard in shards] == [0] * len(sizes)
        assert server.connections <= min(calls, connections or calls)
        assert len(server.requests) == 2 * calls


async def test_failures_free_their_place_in_the_shard() -> None:
    transport = ShardedTransport(SETTINGS, 1, tls_context(SETTINGS))
    async with httpx.AsyncClient(transport=transport) as mine, open_client(SETTINGS, client=mine) as client:
        for _ in range(3):
            with pytest.raises(NeverSent):
                await post(client, "http://nowhere.invalid/")
        assert transport._shards[None][0].active == 0
