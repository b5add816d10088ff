"""Replies larger than allowed, compressed or not, are stopped before they are held."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promptmill.errors import BadOutput
from promptmill.http import HttpClient
from promptmill.http._inflating import inflate
from promptmill.testing.badserver import BadServer, Close, Send, chunked_reply, gzip_bomb, http_reply

TEXT = b'{"text": "' + b"all work and no play " * 50 + b'"}'
MEBIBYTE = 1024 * 1024
patient = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)


def raw_deflate(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush()


ENCODINGS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "GZIP": gzip.compress,
    "deflate": zlib.compress,
    "identity": bytes,
}


def compressed(body: bytes, encoding: str) -> bytes:
    return http_reply(body, headers=[("content-encoding", encoding), ("content-type", "application/json")])


async def post(client: HttpClient, server: BadServer) -> bytes:
    return (await client.post(server.url, headers={}, body=b"{}", timeout=20)).body


async def refused(client: HttpClient, server: BadServer) -> BadOutput:
    with pytest.raises(BadOutput) as caught:
        await post(client, server)
    return caught.value


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_compressed_replies(client: HttpClient, encoding: str) -> None:
    async with BadServer([compressed(ENCODINGS[encoding](TEXT), encoding)]) as server:
        assert await post(client, server) == TEXT


async def test_deflate_without_its_header(client: HttpClient) -> None:
    async with BadServer([compressed(raw_deflate(TEXT), "deflate")]) as server:
        assert await post(client, server) == TEXT


async def test_large_compressed_reply(client: HttpClient) -> None:
    body = bytes(range(256)) * 8192
    packed = gzip.compress(body, 0)
    async with BadServer([compressed(packed, "gzip")]) as server:
        assert await post(client, server) == body


async def test_an_empty_body_with_an_encoding(client: HttpClient) -> None:
    async with BadServer([compressed(b"", "gzip")]) as server:
        assert await post(client, server) == b""


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"not gzip", "gzip"),
        (gzip.compress(TEXT)[:-1], "gzip"),
        (gzip.compress(TEXT)[:-9], "gzip"),
        (gzip.compress(TEXT) + b"junk", "gzip"),
        (gzip.compress(TEXT)[:-8] + b"\x00" * 8, "gzip"),
        (gzip.compress(b"") * 1000, "gzip"),
        (zlib.compress(TEXT)[:-2], "deflate"),
        (b"\x0b\x02\x80ok\x03", "br"),
        (b"(\xb5/\xfd\x04\x00\x11\x00\x00okk\xe9\x8e\xd8", "zstd"),
        (gzip.compress(gzip.compress(TEXT)), "gzip, gzip"),
        (b"{}", "rot13"),
    ],
)
async def test_what_cannot_be_decompressed(client: HttpClient, body: bytes, encoding: str) -> None:
    async with BadServer([compressed(body, encoding), http_reply()]) as server:
        failure = await refused(client, server)
        assert (failure.code, failure.http_status) == ("bad_encoding", 200)
        assert await post(client, server) == b"{}"


@pytest.mark.parametrize(
    "answer",
    [
        http_reply(b"x" * 1001),
        chunked_reply([b"x" * 500, b"y" * 501]),
        compressed(gzip.compress(b"x" * 1001), "gzip"),
        compressed(zlib.compress(b"x" * 1001), "deflate"),
        [Send(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1001), Close()],
    ],
)
async def test_one_byte_too_many(opened, answer) -> None:
    client = await opened(max_response_bytes=1000)
    async with BadServer([answer, http_reply()]) as server:
        failure = await refused(client, server)
        assert failure.code == "response_too_large"
        assert "1000 bytes" in failure.message
        assert await post(client, server) == b"{}"


@pytest.mark.parametrize(
    "answer",
    [
        http_reply(b"x" * 1000),
        chunked_reply([b"x" * 500, b"x" * 500]),
        compressed(gzip.compress(b"x" * 1000), "gzip"),
        compressed(zlib.compress(b"x" * 1000), "deflate"),
        [Send(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1000), Close()],
    ],
)
async def test_just_as_much_as_allowed(opened, answer) -> None:
    client = await opened(max_response_bytes=1000)
    async with BadServer([answer]) as server:
        assert await post(client, server) == b"x" * 1000


async def test_tiny_limit_and_overhead_of_compression(opened) -> None:
    client = await opened(max_response_bytes=2)
    async with BadServer([compressed(gzip.compress(b"{}"), "gzip")]) as server:
        assert await post(client, server) == b"{}"


async def test_an_endless_reply_is_cut_off(opened) -> None:
    client = await opened(max_response_bytes=MEBIBYTE)
    endless = [Send(b"HTTP/1.1 200 OK\r\n\r\n"), *[Send(bytes(MEBIBYTE))] * 100]
    async with BadServer([endless]) as server:
        assert (await refused(client, server)).code == "response_too_large"
        await server.wait_for(lambda server: server.hung_up == 1)


@pytest.mark.parametrize("size", [40 * MEBIBYTE, 200 * MEBIBYTE], ids=["on the loop", "in a thread"])
async def test_a_gzip_bomb_is_stopped_with_bounded_memory(opened, size: int) -> None:
    limit = 4 * MEBIBYTE
    client = await opened(max_response_bytes=limit)
    async with BadServer([compressed(gzip_bomb(size), "gzip"), http_reply()]) as server:
        await warm_up(client)
        tracemalloc.start()
        try:
            assert (await refused(client, server)).code == "response_too_large"
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak <= 2 * limit


async def warm_up(client: HttpClient) -> None:
    """Connect and import whatever is imported late, so that only the reply is measured."""
    async with BadServer() as other:
        await post(client, other)


@patient
@given(st.binary(max_size=300), st.integers(1, 4), st.sampled_from(["gzip", "deflate"]), st.booleans())
def test_inflate_returns_what_was_deflated(data: bytes, members: int, encoding: str, bare: bool) -> None:
    if encoding == "gzip":
        packed, whole = gzip.compress(data) * members, data * members
    else:
        packed, whole = (raw_deflate(data) if bare else zlib.compress(data)), data
    assert inflate(packed, encoding, len(whole), 200) == whole


@patient
@given(st.binary(max_size=300), st.sampled_from(["gzip", "deflate"]), st.integers(0, 300))
def test_inflate_never_returns_more_than_asked_for(data: bytes, encoding: str, limit: int) -> None:
    packed = gzip.compress(data) if encoding == "gzip" else raw_deflate(data)
    try:
        assert len(inflate(packed, encoding, limit, 200)) <= limit
    except BadOutput:
        assert len(data) > limit


@patient
@given(st.binary(min_size=1, max_size=300), st.sampled_from(["gzip", "deflate"]))
def test_inflate_survives_any_bytes(data: bytes, encoding: str) -> None:
    try:
        assert len(inflate(data, encoding, 1000, 200)) <= 1000
    except BadOutput as failure:
        assert failure.code in ("bad_encoding", "response_too_large")  # noqa: PT017


@patient
@given(st.binary(min_size=1, max_size=2000), st.data())
def test_a_cut_is_never_taken_for_the_whole(data: bytes, choose: st.DataObject) -> None:
    packed = gzip.compress(data)
    cut = choose.draw(st.integers(1, len(packed) - 1))
    with pytest.raises(BadOutput, match="ends too soon"):
        inflate(packed[:cut], "gzip", len(data), 200)
