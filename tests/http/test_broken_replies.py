"""Servers that break off, lie or talk nonsense: never an accepted half of a reply, never a second send."""

from __future__ import annotations

import asyncio

import pytest

from promptmill.errors import Transient
from promptmill.http import HttpClient
from promptmill.testing.badserver import (
    Answer,
    BadServer,
    Close,
    Hang,
    Pause,
    Reset,
    Send,
    chunked_reply,
    http_reply,
)

SAMPLE = http_reply(b'{"text": "a short but complete answer"}')
SAMPLE_IN_CHUNKS = chunked_reply([b'{"text": "a short', b' but complete answer"}'])
METHODS = ["POST", "GET", "PUT", "DELETE"]


async def failed(client: HttpClient, url: str, *, method: str = "POST", timeout: float = 5.0) -> Transient:
    with pytest.raises(Transient) as caught:
        await client.request(method, url + "/v1?key=hush", headers={}, body=b'{"a": 1}', timeout=timeout)
    assert type(caught.value) is Transient
    assert caught.value.__cause__ is not None
    assert repr(url) in caught.value.message
    assert "hush" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("answer", [[Hang()], [Send(SAMPLE[:20]), Hang()]], ids=["nothing", "half a head"])
async def test_timeout_before_the_headers(client: HttpClient, answer: Answer) -> None:
    async with BadServer([answer]) as server:
        assert (await failed(client, server.url, timeout=0.15)).code == "timeout"
        await server.wait_for(lambda server: server.hung_up == 1)


async def test_timeout_in_the_body(client: HttpClient) -> None:
    async with BadServer([[Send(SAMPLE[:-5]), Hang()]]) as server:
        assert (await failed(client, server.url, timeout=0.15)).code == "timeout"
        await server.wait_for(lambda server: server.hung_up == 1)


async def test_dripping_does_not_outlast_the_timeout(client: HttpClient) -> None:
    async with BadServer([[Send(SAMPLE, every=0.02)]]) as server:
        assert (await failed(client, server.url, timeout=0.2)).code == "timeout"


async def test_dripping_within_the_timeout_is_fine(client: HttpClient) -> None:
    async with BadServer([[Send(SAMPLE, every=0.001, size=7)]]) as server:
        assert (await client.post(server.url, headers={}, body=b"{}", timeout=5)).body.endswith(b'answer"}')


@pytest.mark.parametrize("end", [Close(), Reset()])
@pytest.mark.parametrize("method", METHODS)
async def test_closed_instead_of_answering(client: HttpClient, method: str, end: Close | Reset) -> None:
    async with BadServer([[end], http_reply()]) as server:
        assert (await failed(client, server.url, method=method)).code == "connection_lost"
        assert len(server.requests) == 1


@pytest.mark.parametrize("end", [Close(), Reset()])
@pytest.mark.parametrize("method", METHODS)
async def test_closed_instead_of_answering_on_a_reused_connection(
    client: HttpClient, method: str, end: Close | Reset
) -> None:
    async with BadServer([http_reply(), [end], http_reply()]) as server:
        assert (await client.post(server.url, headers={}, body=b"{}", timeout=5)).status == 200
        assert (await failed(client, server.url, method=method)).code == "connection_lost"
        # The server has read both, each once: nothing was sent a second time.
        assert [(received.method, received.connection) for received in server.requests] == [("POST", 0), (method, 0)]


async def test_idle_connection_closed_by_the_server(client: HttpClient) -> None:
    async with BadServer([[Send(http_reply()), Close()], http_reply(b"[2]")]) as server:
        await client.post(server.url, headers={}, body=b"{}", timeout=5)
        # Give the news of the end time to arrive, as it has between requests.
        await server.wait_for(lambda server: len(server.requests) == 1)
        async with BadServer([[Pause(0.05), Send(http_reply())]]) as other:
            await client.post(other.url, headers={}, body=b"{}", timeout=5)
        assert (await client.post(server.url, headers={}, body=b"{}", timeout=5)).json() == [2]
        assert [received.connection for received in server.requests] == [0, 1]


@pytest.mark.parametrize("sample", [SAMPLE, SAMPLE_IN_CHUNKS], ids=["length", "chunked"])
@pytest.mark.parametrize("end", [Close(), Reset()])
async def test_cut_at_every_byte(client: HttpClient, sample: bytes, end: Close | Reset) -> None:
    script = [[Send(sample[:offset]), end] for offset in range(len(sample))]
    codes = set()
    async with BadServer(script) as server:
        for _ in script:
            codes.add((await failed(client, server.url)).code)
        assert len(server.requests) == len(script)
    assert codes <= {"connection_lost", "truncated_body", "bad_http"}
    # After a reset the system may throw away what had already arrived.
    assert isinstance(end, Reset) or "truncated_body" in codes


async def test_length_too_long(client: HttpClient) -> None:
    async with BadServer([[Send(http_reply(b"{}", length=3)), Close()]]) as server:
        assert (await failed(client, server.url)).code == "truncated_body"


@pytest.mark.parametrize("extra", [b'{"n": 2}', http_reply(b'{"n": 2}')], ids=["more body", "a second reply"])
async def test_more_than_one_reply_never_answers_the_next_request(
    client: HttpClient, backend: str, extra: bytes, request: pytest.FixtureRequest
) -> None:
    if backend == "httpx" and extra.startswith(b"HTTP"):
        reason = "httpx 0.28 keeps what arrives together with a reply and takes it for the next one"
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    async with BadServer([http_reply(b'{"n": 1}') + extra, http_reply(b'{"n": 3}')]) as server:
        answers = []
        for _ in range(4):
            try:
                answers.append((await client.post(server.url, headers={}, body=b"{}", timeout=5)).json()["n"])
            except Transient:
                answers.append(None)
    assert answers[0] in (1, None)
    assert set(answers[1:]) <= {3, None}
    assert answers[-1] == 3


@pytest.mark.parametrize(
    "noise",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01" + bytes(range(256)),
        b"<html>502 Bad Gateway</html>\r\n\r\n",
        b"HTTP/1.1 two hundred OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}!",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 3_000_000,
    ],
)
async def test_not_http(client: HttpClient, noise: bytes) -> None:
    async with BadServer([[Send(noise), Close()]]) as server:
        assert (await failed(client, server.url)).code in {"bad_http", "connection_lost"}


async def test_broken_chunks(client: HttpClient) -> None:
    broken = chunked_reply([b"{}"]).replace(b"2\r\n", b"zz\r\n")
    async with BadServer([[Send(broken), Close()]]) as server:
        assert (await failed(client, server.url)).code in {"bad_http", "truncated_body"}


async def test_silence_from_the_start(client: HttpClient) -> None:
    async with BadServer(greeting=[Hang()]) as server:
        assert (await failed(client, server.url, timeout=0.15)).code == "timeout"


async def test_noise_before_the_request(client: HttpClient) -> None:
    async with BadServer(greeting=[Send(b"220 mail.example.com ESMTP\r\n\r\n"), Hang()]) as server:
        assert (await failed(client, server.url)).code in {"bad_http", "connection_lost"}


async def test_a_reply_before_the_whole_request_is_a_reply(client: HttpClient) -> None:
    refusal = http_reply(b'{"error": "too large"}', status=413)
    async with BadServer(greeting=[Send(refusal), Pause(0.1), Close()]) as server:
        outcome: object
        try:
            outcome = (await client.post(server.url, headers={}, body=bytes(20_000_000), timeout=5)).status
        except Transient as failure:
            outcome = failure.code
        # The reset that follows unread data may overtake the reply: TCP promises no better.
        assert outcome in (413, "connection_lost")


async def test_interim_replies_are_passed_over(client: HttpClient) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    async with BadServer([early + SAMPLE]) as server:
        assert (await client.post(server.url, headers={}, body=b"{}", timeout=5)).status == 200


async def test_a_reply_that_nobody_asked_for_is_nobodys(client: HttpClient) -> None:
    """It comes while the connection is idle: what is asked next must not get it."""
    stray = [Send(http_reply(b'{"n": 1}')), Pause(0.05), Send(http_reply(b'{"n": 2}', status=408))]
    async with BadServer([stray, http_reply(b'{"n": 3}')]) as server:
        assert (await client.post(server.url, headers={}, body=b"{}", timeout=5)).json() == {"n": 1}
        await asyncio.sleep(0.15)
        assert (await client.post(server.url, headers={}, body=b"{}", timeout=5)).json() == {"n": 3}


async def test_a_reply_without_a_body_by_its_method(client: HttpClient) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n"
    async with BadServer([head, http_reply(b"[]")]) as server:
        reply = await client.request("HEAD", server.url, headers={}, timeout=5)
        assert (reply.status, reply.body) == (200, b"")
        assert (await client.post(server.url, headers={}, body=b"{}", timeout=5)).json() == []
    assert [(one.method, one.connection) for one in server.requests] == [("HEAD", 0), ("POST", 0)]
    assert "content-length" not in server.requests[0].headers
