"""When no connection is made, nothing was sent, and the failure says so and why."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from promptmill.errors import NeverSent
from promptmill.http import HttpClient
from promptmill.testing.badserver import BadServer, http_reply


@pytest.fixture
def refused_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@pytest.fixture
def full_port() -> Iterator[int]:
    """A port whose queue of connections is full: the next one is neither accepted nor refused."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(8):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(server.getsockname())
        yield server.getsockname()[1]


async def failed(client: HttpClient, url: str, timeout: float = 5.0) -> NeverSent:
    with pytest.raises(NeverSent) as caught:
        await client.post(url, headers={"authorization": "Bearer hush"}, body=b"{}", timeout=timeout)
    assert "hush" not in str(caught.value)
    return caught.value


async def test_refused(client: HttpClient, refused_port: int) -> None:
    failure = await failed(client, f"http://127.0.0.1:{refused_port}/v1?key=hush")
    assert failure.code == "connect_refused"
    assert f"'http://127.0.0.1:{refused_port}'" in failure.message
    assert "refused" in failure.message.lower()


async def test_unknown_name(client: HttpClient) -> None:
    failure = await failed(client, "http://nowhere.invalid/v1")
    assert failure.code == "dns"
    assert "'http://nowhere.invalid'" in failure.message


async def test_connect_timeout(opened, full_port: int) -> None:
    client = await opened(connect_timeout=0.1)
    failure = await failed(client, f"http://127.0.0.1:{full_port}/")
    assert failure.code == "connect_timeout"


async def test_the_whole_time_is_up_while_connecting(client: HttpClient, full_port: int) -> None:
    failure = await failed(client, f"http://127.0.0.1:{full_port}/", timeout=0.1)
    assert failure.code == "connect_timeout"


@pytest.mark.parametrize("timeout", [0.0, -1.0])
async def test_no_time_at_all(client: HttpClient, timeout: float) -> None:
    async with BadServer() as server:
        failure = await failed(client, server.url, timeout=timeout)
    assert failure.code == "connect_timeout"
    assert server.connections == 0


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
        "127.0.0.1/x",
        "http://",
        "http:///path",
        "http://[::1/",
        "http://host:port/",
        "",
        "http://" + "a" * 300 + ".invalid/",
        "http://a..b/",
    ],
)
async def test_bad_url(client: HttpClient, url: str) -> None:
    failure = await failed(client, url)
    # A host name that the resolver cannot even ask for is a bad URL to one backend and an unknown name to the other.
    assert failure.code in ({"bad_url", "dns"} if "a" * 300 in url or "a..b" in url else {"bad_url"})


async def test_no_files_left(client: HttpClient, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    class Exhausted(real):
        def __init__(self, *args: object, **kwargs: object) -> None:
            raise OSError(errno.EMFILE, "Too many open files")

    async with BadServer([http_reply()]) as server:
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", Exhausted)
            failure = await failed(client, server.url)
        assert failure.code == "too_many_open_files"
        reply = await client.post(server.url, headers={}, body=b"{}", timeout=5)
        assert reply.status == 200


async def test_failures_keep_their_cause(client: HttpClient, refused_port: int) -> None:
    failure = await failed(client, f"http://127.0.0.1:{refused_port}/")
    assert failure.__cause__ is not None


async def test_the_error_being_handled_is_not_taken_for_the_cause(client: HttpClient, refused_port: int) -> None:
    try:
        raise socket.gaierror(socket.EAI_NONAME, "an earlier failure")
    except OSError:
        failure = await failed(client, f"http://127.0.0.1:{refused_port}/")
    assert failure.code == "connect_refused"
