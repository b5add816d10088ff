"""Proxies, against a small one of our own: absolute URLs for http, CONNECT for https."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import pytest

from promptmill.errors import NeverSent, Transient
from promptmill.http import HttpClient
from promptmill.testing.badserver import BadServer, Hang, Send, http_reply


class Proxy:
    """Forwards to where it is told; ``heads`` are the first lines and headers it was sent."""

    def __init__(self) -> None:
        self.heads: list[list[str]] = []

    async def serve(self, client: anyio.abc.SocketStream) -> None:
        async with client:
            try:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += await client.receive()
                lines = head.partition(b"\r\n\r\n")[0].decode().split("\r\n")
                self.heads.append(lines)
                method, target, _ = lines[0].split(" ")
                where = target if method == "CONNECT" else target.split("/")[2]
                host, _, port = where.partition(":")
                async with await anyio.connect_tcp(host, int(port)) as server:
                    if method == "CONNECT":
                        await client.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    else:
                        path = "/" + target.split("/", 3)[3]
                        await server.send(head.replace(target.encode(), path.encode(), 1))
                    async with anyio.create_task_group() as both:
                        both.start_soon(pump, client, server, both.cancel_scope)
                        both.start_soon(pump, server, client, both.cancel_scope)
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return


async def pump(source: anyio.abc.SocketStream, sink: anyio.abc.SocketStream, scope: anyio.CancelScope) -> None:
    try:
        while True:
            await sink.send(await source.receive())
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        scope.cancel()


@asynccontextmanager
async def running(proxy: Proxy) -> AsyncIterator[str]:
    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, proxy.serve)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        try:
            yield f"127.0.0.1:{port}"
        finally:
            tasks.cancel_scope.cancel()


async def ask(client: HttpClient, url: str) -> int:
    return (await client.post(url + "/v1/x", headers={"authorization": "Bearer k"}, body=b"{}", timeout=5)).status


async def test_http_by_setting(opened) -> None:
    proxy = Proxy()
    async with running(proxy) as address, BadServer() as server:
        client = await opened(proxy=f"http://{address}")
        assert await ask(client, server.url) == 200
    assert proxy.heads[0][0] == f"POST {server.url}/v1/x HTTP/1.1"
    assert server.requests[0].target == "/v1/x"


async def test_https_by_setting(opened, server_tls: ssl.SSLContext, ca_file: Path) -> None:
    proxy = Proxy()
    async with running(proxy) as address, BadServer(tls=server_tls) as server:
        client = await opened(proxy=f"http://{address}", ca_file=ca_file)
        assert await ask(client, server.url) == 200
        assert await ask(client, server.url) == 200
    (head,) = proxy.heads
    assert head[0] == f"CONNECT 127.0.0.1:{server.port} HTTP/1.1"
    assert not any("Bearer" in line for line in head)
    assert len(server.requests) == 2


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
async def test_by_environment(opened, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    proxy = Proxy()
    async with running(proxy) as address, BadServer() as server:
        # Without a scheme, as some write it.
        monkeypatch.setenv(variable, address)
        assert await ask(await opened(), server.url) == 200
    assert len(proxy.heads) == 1


async def test_https_by_environment(
    opened, monkeypatch: pytest.MonkeyPatch, server_tls: ssl.SSLContext, ca_file: Path
) -> None:
    proxy = Proxy()
    async with running(proxy) as address, BadServer(tls=server_tls) as server:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{address}")
        assert await ask(await opened(ca_file=ca_file), server.url) == 200
    assert proxy.heads[0][0].startswith("CONNECT ")


@pytest.mark.parametrize("exempt", ["127.0.0.1", "localhost,127.0.0.1", "127.0.0.1:{port}", "*"])
async def test_no_proxy(opened, monkeypatch: pytest.MonkeyPatch, exempt: str) -> None:
    proxy = Proxy()
    async with running(proxy) as address, BadServer() as server:
        monkeypatch.setenv("HTTP_PROXY", f"http://{address}")
        monkeypatch.setenv("NO_PROXY", exempt.format(port=server.port))
        assert await ask(await opened(), server.url) == 200
    assert proxy.heads == []


async def test_no_proxy_for_others(opened, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Proxy()
    async with running(proxy) as address, BadServer() as server:
        monkeypatch.setenv("HTTP_PROXY", f"http://{address}")
        monkeypatch.setenv("NO_PROXY", "example.com,127.0.0.1:1")
        assert await ask(await opened(), server.url) == 200
    assert len(proxy.heads) == 1


async def test_credentials_of_the_proxy(opened, server_tls: ssl.SSLContext, ca_file: Path) -> None:
    expected = "proxy-authorization: basic " + base64.b64encode(b"me:hush").decode().lower()
    proxy = Proxy()
    async with running(proxy) as address:
        client = await opened(proxy=f"http://me:hush@{address}", ca_file=ca_file)
        for tls in (None, server_tls):
            async with BadServer(tls=tls) as server:
                assert await ask(client, server.url) == 200
                assert server.requests[0].headers["authorization"] == "Bearer k"
                if tls is not None:
                    assert "proxy-authorization" not in server.requests[0].headers
    assert [sum(line.lower() == expected for line in head) for head in proxy.heads] == [1, 1]


async def failed(client: HttpClient, url: str) -> NeverSent:
    with pytest.raises(NeverSent) as caught:
        await ask(client, url)
    assert "hush" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("status", [403, 407, 502])
async def test_a_proxy_that_refuses(opened, status: int) -> None:
    async with BadServer([http_reply(b"no", status=status)]) as proxy:
        client = await opened(proxy=proxy.url.replace("//", "//me:hush@"))
        failure = await failed(client, "https://example.invalid")
    assert failure.code == "proxy"
    assert str(status) in failure.message


async def test_a_proxy_that_is_not_there(opened) -> None:
    async with BadServer() as gone:
        url = gone.url
    client = await opened(proxy=url)
    for target in ("http://example.invalid", "https://example.invalid"):
        assert (await failed(client, target)).code in ("proxy", "connect_refused")


async def test_a_proxy_that_does_not_talk_http(opened) -> None:
    async with BadServer(greeting=[Send(b"220 mail.example.com ESMTP\r\n\r\n"), Hang()]) as proxy:
        client = await opened(proxy=proxy.url)
        with pytest.raises((NeverSent, Transient)) as caught:
            await ask(client, "https://example.invalid")
    assert caught.value.code in ("proxy", "bad_http", "connection_lost")


async def test_a_proxy_with_an_unknown_name(opened) -> None:
    failure = await failed(await opened(proxy="http://nowhere.invalid:3128"), "http://127.0.0.1:1")
    assert failure.code == "dns"


@pytest.mark.parametrize("proxy", ["gopher://me:hush@127.0.0.1:1", "http://", "http://[::1", "http://127.0.0.1:port"])
async def test_a_proxy_that_cannot_be(opened, proxy: str) -> None:
    client = await opened(proxy=proxy)
    async with BadServer() as server:
        assert (await failed(client, server.url)).code == "proxy"
    assert server.requests == []


async def test_a_proxy_that_never_answers_has_sent_nothing(opened, backend: str) -> None:
    async with BadServer([[Hang()]]) as proxy:
        client = await opened(proxy=proxy.url)
        with pytest.raises(Exception) as caught:
            await client.post("https://example.invalid/", headers={}, body=b"{}", timeout=0.2)
        # httpx does not tell us that it was still talking to the proxy, so there the outcome counts as unknown.
        expected = {"aiohttp": ("NeverSent", "connect_timeout"), "httpx": ("Transient", "timeout")}
        assert (type(caught.value).__name__, caught.value.code) == expected[backend]
        await asyncio.sleep(0)
