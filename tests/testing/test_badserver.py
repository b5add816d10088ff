"""The misbehaving server does what its script says, seen through a bare socket."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import time

import anyio
import pytest
import trustme

from promptmill.testing.badserver import (
    BadServer,
    Close,
    Hang,
    Pause,
    Reset,
    Send,
    chunked_reply,
    gzip_bomb,
    http_reply,
)

REQUEST = b"POST /a?b=c HTTP/1.1\r\nHost: x\r\nX-Name: value\r\nContent-Length: 2\r\n\r\nhi"


async def talk(server: BadServer, *, wait: bool = True, tls: ssl.SSLContext | None = None) -> bytes:
    """Send the request, end our side of the connection, and return all that comes back."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", server.port, ssl=tls, server_hostname="127.0.0.1" if tls else None
    )
    try:
        writer.write(REQUEST)
        if writer.can_write_eof():
            writer.write_eof()
        if not wait:
            return b""
        return await reader.read() if tls is None else await reader.readuntil(b"{}")
    finally:
        writer.close()


async def test_requests_are_recorded() -> None:
    async with BadServer() as server:
        assert (await talk(server)).endswith(b"\r\n\r\n{}")
    (received,) = server.requests
    assert (received.method, received.target, received.body, received.connection) == ("POST", "/a?b=c", b"hi", 0)
    assert received.headers == {"host": "x", "x-name": "value", "content-length": "2"}


async def test_the_script_runs_over_all_connections_and_its_end_repeats() -> None:
    async with BadServer([b"one", b"two"]) as server:
        assert [await talk(server) for _ in range(3)] == [b"one", b"two", b"two"]
    assert [received.connection for received in server.requests] == [0, 1, 2]
    assert server.connections == 3


async def test_a_function_for_a_script() -> None:
    async with BadServer(lambda received: received.body) as server:
        assert await talk(server) == b"hi"


async def test_a_connection_stays_open_for_the_next_request() -> None:
    async with BadServer([b"12", b"34"]) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for expected in (b"12", b"34"):
            writer.write(REQUEST)
            assert await reader.readexactly(2) == expected
        writer.close()
        await server.wait_for(lambda server: server.hung_up == 1)
    assert server.connections == 1


async def test_close_and_reset() -> None:
    async with BadServer([[Send(b"a"), Close()], [Reset()]]) as server:
        assert await talk(server) == b"a"
        with pytest.raises(ConnectionResetError):
            await talk(server)
    assert server.hung_up == 0


async def test_hanging_until_the_client_leaves() -> None:
    async with BadServer([[Hang()]]) as server:
        await talk(server, wait=False)
        await server.wait_for(lambda server: server.hung_up == 1)


async def test_dripping_and_pausing() -> None:
    async with BadServer([[Pause(0.02), Send(b"abcdef", every=0.01, size=2)]]) as server:
        begun = time.monotonic()
        assert await talk(server) == b"abcdef"
        assert time.monotonic() - begun >= 0.05


async def test_greeting_before_any_request() -> None:
    async with BadServer([b"one"], greeting=b"220 hello") as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert await reader.readexactly(9) == b"220 hello"
        assert server.requests == []
        writer.write(REQUEST)
        assert await reader.readexactly(3) == b"one"
        writer.close()


async def test_tls() -> None:
    authority = trustme.CA()
    ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(ours)
    async with BadServer(tls=ours) as server:
        assert server.url == f"https://127.0.0.1:{server.port}"
        with pytest.raises(ssl.SSLCertVerificationError):
            await talk(server, tls=theirs)
        authority.configure_trust(theirs)
        assert (await talk(server, tls=theirs)).endswith(b"{}")
    assert len(server.requests) == 1


async def test_waiting_in_vain() -> None:
    async with BadServer() as server:
        with pytest.raises(TimeoutError):
            await server.wait_for(lambda server: server.hung_up > 0, timeout=0.01)


async def test_leaving_ends_what_is_going_on() -> None:
    before = asyncio.all_tasks()
    async with BadServer([[Hang()]]) as server, anyio.create_task_group() as tasks:
        tasks.start_soon(talk, server)
        await server.wait_for(lambda server: len(server.requests) == 1)
        tasks.cancel_scope.cancel()
    assert asyncio.all_tasks() == before


def test_replies() -> None:
    assert http_reply(b"abc", status=404, headers=[("A", "b")]) == (
        b"HTTP/1.1 404 Because\r\nA: b\r\ncontent-length: 3\r\n\r\nabc"
    )
    assert b"content-length: 9\r\n\r\nabc" in http_reply(b"abc", length=9)
    assert chunked_reply([b"ab", b"c"]).endswith(b"\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")
    assert chunked_reply([b"ab"], complete=False).endswith(b"\r\n\r\n2\r\nab\r\n")


@pytest.mark.parametrize("size", [0, 1, 3 * 1024 * 1024 + 7])
def test_gzip_bomb(size: int) -> None:
    bomb = gzip_bomb(size)
    assert gzip.decompress(bomb) == bytes(size)
    assert len(bomb) < 100 + size / 900
