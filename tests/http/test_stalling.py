"""Replies that begin and then stop or drip: given up long before the timeout of the call, and nobody else waits."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from promptmill.errors import Transient
from promptmill.http import HttpClient, HttpResponse, _aiohttp
from promptmill.http._downloading import MOST_BREAKS
from promptmill.testing.badserver import (
    Answer,
    BadServer,
    Close,
    Hang,
    Pause,
    Received,
    Send,
    chunked_reply,
    http_reply,
)

Opened = Callable[..., Awaitable[HttpClient]]

LONG = 60.0
"""The timeout of calls that must not come to it: what is given up by the rule takes less than a third of this."""

SILENCE = {"idle_timeout": 0.15}
DRIP = {"idle_timeout": 30.0, "progress_window": 0.3, "least_bytes_per_second": 100.0}
STRICT = {"idle_timeout": 0.1, "progress_window": 0.1, "least_bytes_per_second": 1000.0}

TEXT = b'{"text": "a short but complete answer"}'
HEAD = http_reply(b"", length=len(TEXT))
HEAD_OF_CHUNKS = chunked_reply([], complete=False)
BEGUN = chunked_reply([TEXT[:9]], complete=False)


async def post(client: HttpClient, url: str, timeout: float = LONG) -> HttpResponse:
    return await client.post(url + "/v1?key=hush", headers={}, body=b"{}", timeout=timeout)


async def fails(client: HttpClient, url: str, code: str = "stalled", timeout: float = LONG) -> None:
    began = time.monotonic()
    with pytest.raises(Transient) as caught:
        await post(client, url, timeout)
    assert time.monotonic() - began < LONG / 3
    assert type(caught.value) is Transient
    assert caught.value.code == code
    assert repr(url) in caught.value.message
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "drip",
    [
        [Send(http_reply(b"", length=10_000)), Send(b"x" * 10_000, every=0.05)],
        [Send(HEAD_OF_CHUNKS), Send(b"1\r\nx\r\n" * 10_000, every=0.05, size=6)],
        [Send(http_reply(b"x" * 5_000, length=10_000)), Send(b"x" * 5_000, every=0.05)],
    ],
    ids=["length", "chunked", "quick at first"],
)
async def test_a_drip_is_given_up_while_others_are_answered(opened: Opened, drip: Answer) -> None:
    def answer(received: Received) -> Answer:
        return drip if received.connection == 0 else http_reply()

    client = await opened(**DRIP)
    async with BadServer(answer) as server:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fails, client, server.url)
            await server.wait_for(lambda server: len(server.requests) == 1)
            began = time.monotonic()
            assert (await post(client, server.url)).status == 200
            assert time.monotonic() - began < 5
        await server.wait_for(lambda server: server.hung_up == 1)
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    "begun",
    [HEAD + TEXT[:1], HEAD + TEXT[:-1], HEAD_OF_CHUNKS + b"9\r\n{", BEGUN, BEGUN + b"5", BEGUN + b"0\r\n"],
    ids=["first byte", "all but one", "in a chunk", "after a chunk", "in a size", "in the end"],
)
async def test_silence_in_the_body_frees_the_slot(opened: Opened, begun: bytes) -> None:
    client = await opened(connections=1, **SILENCE)
    async with BadServer([[Send(begun), Hang()], http_reply()]) as server:
        await fails(client, server.url)
        await server.wait_for(lambda server: server.hung_up == 1)
        # With one connection at most this would wait if the first were still there.
        assert (await post(client, server.url)).status == 200
        assert [received.connection for received in server.requests] == [0, 1]


async def test_framing_is_no_progress(opened: Opened) -> None:
    client = await opened(**SILENCE)
    async with BadServer([[Send(BEGUN + b"5;"), Send(b"x" * 10_000, every=0.02)]]) as server:
        await fails(client, server.url)


async def test_an_error_may_not_drip_either(opened: Opened) -> None:
    client = await opened(**SILENCE)
    async with BadServer([[Send(http_reply(b"{", status=500, length=9)), Hang()]]) as server:
        await fails(client, server.url)


@pytest.mark.parametrize("chunked", [False, True])
async def test_blank_lines_while_queued_are_no_beginning(opened: Opened, chunked: bool) -> None:
    def framed(data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if chunked else data

    blank = framed(b"\n")
    queued = [Send(blank * 10, every=0.03, size=len(blank)), Pause(0.3)]
    head = HEAD_OF_CHUNKS if chunked else http_reply(b"", length=10 + len(TEXT))
    end = b"0\r\n\r\n" if chunked else b""
    client = await opened(**STRICT)
    async with BadServer([[Send(head), *queued, Send(framed(TEXT) + end)]]) as server:
        reply = await post(client, server.url)
    assert reply.body == b"\n" * 10 + TEXT
    assert reply.json() == {"text": "a short but complete answer"}


async def test_silence_after_the_blank_lines_and_the_beginning(opened: Opened) -> None:
    client = await opened(**SILENCE)
    start = http_reply(b"\n\n\n", length=100)
    async with BadServer([[Send(start), Pause(0.3), Send(b"\n{"), Hang()]]) as server:
        await fails(client, server.url)


async def test_slow_but_steady_is_fine(opened: Opened) -> None:
    client = await opened(idle_timeout=10, progress_window=1.0, least_bytes_per_second=5)
    body = b'"%b"' % (b"x" * 60)
    async with BadServer([[Send(http_reply(b"", length=len(body))), Send(body, every=0.02)]]) as server:
        assert (await post(client, server.url)).body == body


@pytest.mark.parametrize(
    "answer",
    [[Hang()], [Send(HEAD[:20]), Hang()], [Send(HEAD), Hang()], [Send(http_reply(b"\n", length=9)), Hang()]],
    ids=["nothing", "half a head", "a head", "a blank line"],
)
async def test_before_the_body_only_the_timeout_counts(opened: Opened, answer: Answer) -> None:
    client = await opened(idle_timeout=0.05, progress_window=0.05, least_bytes_per_second=1000)
    async with BadServer([answer]) as server:
        began = time.monotonic()
        await fails(client, server.url, code="timeout", timeout=0.25)
        assert time.monotonic() - began >= 0.2
        await server.wait_for(lambda server: server.hung_up == 1)


@pytest.mark.parametrize("chunked", [False, True])
async def test_cut_at_every_byte_after_a_beginning(client: HttpClient, chunked: bool) -> None:
    whole = chunked_reply([TEXT[:9], TEXT[9:]]) if chunked else http_reply(TEXT)
    start = len(HEAD_OF_CHUNKS) + 4 if chunked else len(HEAD) + 1
    script = [[Send(whole[:start]), Pause(0.005), Send(whole[start:end]), Close()] for end in range(start, len(whole))]
    async with BadServer(script) as server:
        for _ in script:
            await fails(client, server.url, code="truncated_body")
        assert len(server.requests) == len(script)


async def download(client: HttpClient, server: BadServer, target: Path) -> HttpResponse:
    return await client.download(server.url, target, headers={}, timeout=LONG)


def served(content: bytes, **more: Any) -> bytes:
    return http_reply(content, headers=[("etag", '"v1"'), *more.pop("headers", ())], **more)


async def test_a_stalled_download_goes_on_where_it_was(opened: Opened, tmp_path: Path) -> None:
    client = await opened(**SILENCE)
    rest = served(b"world", status=206, headers=[("content-range", "bytes 6-10/11")])
    async with BadServer([[Send(served(b"hello ", length=11)), Hang()], rest]) as server:
        assert (await download(client, server, tmp_path / "out")).status == 206
        assert server.requests[1].headers["range"] == "bytes=6-"
    assert (tmp_path / "out").read_bytes() == b"hello world"


async def test_a_download_that_always_stalls_is_given_up(opened: Opened, tmp_path: Path) -> None:
    client = await opened(idle_timeout=0.05)
    async with BadServer([[Send(http_reply(b"hello ", length=11)), Hang()]]) as server:
        began = time.monotonic()
        with pytest.raises(Transient) as caught:
            await download(client, server, tmp_path / "out")
        assert caught.value.code == "stalled"
        assert time.monotonic() - began < LONG / 3
        assert len(server.requests) == MOST_BREAKS + 1
    assert list(tmp_path.iterdir()) == []


async def test_replies_that_are_there_at_once_are_not_watched(
    opened: Opened, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if backend == "httpx":
        pytest.skip("httpx does not tell whether a body is at its end before it is asked for more")

    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(_aiohttp, "Progress", never)
    client = await opened()
    for whole in (http_reply(TEXT), chunked_reply([TEXT[:9], TEXT[9:]]), http_reply(b"", status=204)):
        async with BadServer([whole]) as server:
            await post(client, server.url)


async def test_the_time_to_the_head_is_told(client: HttpClient) -> None:
    async with BadServer([[Pause(0.1), Send(HEAD), Pause(0.4), Send(TEXT)]]) as server:
        began = time.perf_counter()
        taken = (await post(client, server.url)).first_byte_s
        whole = time.perf_counter() - began
    assert taken is not None
    assert 0.09 <= taken <= whole - 0.1


async def test_waiting_for_a_connection_is_not_part_of_it(opened: Opened) -> None:
    client = await opened(connections=1)
    first = served(b"{}")
    async with BadServer([[Pause(0.5), Send(first)], first]) as server, anyio.create_task_group() as tasks:
        tasks.start_soon(post, client, server.url)
        await server.wait_for(lambda server: len(server.requests) == 1)
        began = time.perf_counter()
        taken = (await post(client, server.url)).first_byte_s
        assert taken is not None
        assert taken <= time.perf_counter() - began - 0.3


async def test_downloads_tell_it_too(client: HttpClient, tmp_path: Path) -> None:
    async with BadServer() as server:
        reply = await download(client, server, tmp_path / "out")
    assert reply.first_byte_s is not None
    assert reply.first_byte_s > 0
