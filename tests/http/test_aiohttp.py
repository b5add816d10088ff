"""What is particular to the default backend."""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path

import pytest

from promptmill.errors import NeverSent, Transient
from promptmill.http import HttpSettings, _aiohttp, open_client
from promptmill.http._connecting import KEEP_IDLE_CONNECTION, socket_options
from promptmill.testing.badserver import BadServer, http_reply


async def test_the_password_file_of_the_user_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "netrc"
    file.write_text("machine 127.0.0.1 login me password hush\n")
    monkeypatch.setenv("NETRC", str(file))
    for backend in ("aiohttp", "httpx"):
        async with (
            BadServer([http_reply()]) as server,
            open_client(HttpSettings.model_validate({"backend": backend})) as client,
        ):
            await client.post(server.url, headers={}, body=b"{}", timeout=5)
        assert "authorization" not in server.requests[0].headers


async def test_the_default_headers_of_the_library_are_not_sent() -> None:
    async with BadServer([http_reply()]) as server, open_client(HttpSettings()) as client:
        await client.post(server.url, headers={"x-own": "1"}, body=b"{}", timeout=5)
    sent = {"host", "x-own", "content-length", "accept-encoding", "user-agent"}
    assert set(server.requests[0].headers) == sent


async def test_sockets_notice_a_vanished_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[socket.socket] = []
    real = socket.socket.setsockopt

    def note(self: socket.socket, *args: int) -> None:
        made.append(self)
        real(self, *args)

    async with BadServer([http_reply()]) as server, open_client(HttpSettings()) as client:
        with monkeypatch.context() as patch:
            patch.setattr(socket.socket, "setsockopt", note)
            await client.post(server.url, headers={}, body=b"{}", timeout=5)
        ours = next(one for one in made if one.getpeername()[1] == server.port)
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if sys.platform == "linux":
            assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
            assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30


def test_a_vanished_peer_is_noticed_within_a_minute() -> None:
    options = {(level, name): value for level, name, value in socket_options()}
    assert options[socket.SOL_SOCKET, socket.SO_KEEPALIVE] == 1
    if sys.platform == "linux":
        idle, every, count = (
            options[socket.IPPROTO_TCP, name]
            for name in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
        assert idle + every * count <= 60


def test_idle_connections_go_before_common_servers_close_theirs() -> None:
    assert KEEP_IDLE_CONNECTION < 5


async def test_many_different_urls_are_not_all_remembered() -> None:
    async with BadServer([http_reply()]) as server, open_client(HttpSettings()) as client:
        for number in range(300):
            await client.request("GET", f"{server.url}/files/{number}", headers={}, timeout=5)
        assert client._target.cache_info().currsize <= 256
    assert server.connections == 1


async def test_a_request_that_is_given_up_is_not_sent_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server reads only afterwards; it must find the request cut off, or it would answer it and charge for it."""
    body = bytes(1_000_000)
    # Small buffers on both sides, or the system would take all of it off our hands.
    small = [(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)]
    monkeypatch.setattr(_aiohttp, "socket_options", lambda: small)
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        async with open_client(HttpSettings()) as client:
            with pytest.raises(Transient, match="did not answer in time"):
                await client.post(url, headers={}, body=body, timeout=0.3)
        connection = listening.accept()[0]
        with connection:
            connection.settimeout(5)
            received = await asyncio.to_thread(_everything, connection)
    assert 0 < received < len(body)


def _everything(connection: socket.socket) -> int:
    """How many bytes come until the other side is gone."""
    received = 0
    try:
        while piece := connection.recv(65536):
            received += len(piece)
    except ConnectionResetError:
        pass
    return received


async def test_credentials_in_a_url_become_a_header() -> None:
    async with BadServer([http_reply()]) as server, open_client(HttpSettings()) as client:
        url = server.url.replace("//", "//me:hush@")
        await client.post(url + "/v1", headers={}, body=b"{}", timeout=5)
        with pytest.raises(NeverSent, match="credentials") as caught:
            await client.post(url, headers={"Authorization": "Bearer k"}, body=b"{}", timeout=5)
    (received,) = server.requests
    assert received.headers["authorization"] == "Basic bWU6aHVzaA=="
    assert (received.target, received.headers["host"]) == ("/v1", f"127.0.0.1:{server.port}")
    assert (caught.value.code, "hush" in str(caught.value)) == ("bad_url", False)
