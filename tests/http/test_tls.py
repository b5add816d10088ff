"""Certificates: refused unless trusted, and then nothing was sent."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from promptmill.errors import NeverSent
from promptmill.http import HttpClient
from promptmill.testing.badserver import BadServer, Close, Reset, Send, http_reply


async def refused(client: HttpClient, url: str) -> NeverSent:
    with pytest.raises(NeverSent) as caught:
        await client.post(url, headers={}, body=b"{}", timeout=5)
    assert caught.value.code == "tls"
    return caught.value


async def test_unknown_authority(client: HttpClient, server_tls: ssl.SSLContext) -> None:
    async with BadServer(tls=server_tls) as server:
        failure = await refused(client, server.url)
    assert server.requests == []
    assert "certificate" in failure.message


async def test_own_authority(opened, server_tls: ssl.SSLContext, ca_file: Path) -> None:
    client = await opened(ca_file=ca_file)
    async with BadServer([http_reply(b"[1]"), http_reply(b"[2]")], tls=server_tls) as server:
        for number in (1, 2):
            assert (await client.post(server.url, headers={}, body=b"{}", timeout=5)).json() == [number]
    assert server.connections == 1


async def test_own_authority_from_the_environment(
    opened, server_tls: ssl.SSLContext, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
    client = await opened()
    async with BadServer(tls=server_tls) as server:
        assert (await client.post(server.url, headers={}, body=b"{}", timeout=5)).status == 200


async def test_another_host_name(opened, authority: trustme.CA, ca_file: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("elsewhere.example").configure_cert(context)
    client = await opened(ca_file=ca_file)
    async with BadServer(tls=context) as server:
        failure = await refused(client, server.url)
    assert "127.0.0.1" in failure.message


async def test_verification_off(opened, server_tls: ssl.SSLContext) -> None:
    client = await opened(verify_tls=False)
    async with BadServer(tls=server_tls) as server:
        assert (await client.post(server.url, headers={}, body=b"{}", timeout=5)).status == 200


async def test_a_server_without_tls(client: HttpClient) -> None:
    async with BadServer(greeting=[Send(http_reply(status=400)), Close()]) as server:
        await refused(client, server.url.replace("http:", "https:"))
    assert server.requests == []


@pytest.mark.parametrize("end", [Close(), Reset()])
async def test_broken_off_in_the_handshake(client: HttpClient, end: Close | Reset) -> None:
    async with BadServer(greeting=[end]) as server:
        with pytest.raises(NeverSent):
            await client.post(server.url.replace("http:", "https:"), headers={}, body=b"{}", timeout=5)
