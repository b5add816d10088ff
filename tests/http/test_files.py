"""Files up and down: streamed, never half, gone on with where a connection broke."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from email import message_from_bytes
from pathlib import Path

import anyio
import pytest

from promptmill.errors import BadOutput, StorageError, Transient
from promptmill.http import HttpClient
from promptmill.http._downloading import MOST_BREAKS
from promptmill.http._uploading import PIECE_BYTES, FileForm
from promptmill.testing.badserver import Answer, BadServer, Close, Hang, Pause, Received, Reset, Send, http_reply

CONTENT = bytes(range(256)) * 8192  # 2 MiB, more than one piece


def parts_of(received: Received) -> list[tuple[str | None, str | None, bytes]]:
    """Name, file name and content of each part, read by the standard library's parser of mail."""
    head = f"content-type: {received.headers['content-type']}\r\n\r\n".encode()
    whole = message_from_bytes(head + received.body)
    assert whole.is_multipart()
    found: list[tuple[str | None, str | None, bytes]] = []
    for part in whole.get_payload():
        assert not isinstance(part, str)
        payload = part.get_payload(decode=True)
        assert isinstance(payload, bytes)
        name = part.get_param("name", header="content-disposition")
        found.append((str(name), part.get_filename(), payload))
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.jsonl"
    path.write_bytes(CONTENT)
    return path


async def test_a_file_arrives_as_it_is(client: HttpClient, source: Path) -> None:
    async with BadServer([http_reply(b'{"id": "file-1"}')]) as server:
        reply = await client.upload(
            server.url + "/files",
            source,
            headers={"authorization": "Bearer k"},
            fields={"purpose": "batch", "expires_after[seconds]": "3600"},
            filename="tag-1.jsonl",
            timeout=20,
        )
    assert reply.json() == {"id": "file-1"}
    (received,) = server.requests
    assert (received.method, received.target) == ("POST", "/files")
    assert received.headers["authorization"] == "Bearer k"
    assert received.headers["content-length"] == str(len(received.body))
    assert "transfer-encoding" not in received.headers
    assert parts_of(received) == [
        ("purpose", None, b"batch"),
        ("expires_after[seconds]", None, b"3600"),
        ("file", "tag-1.jsonl", CONTENT),
    ]


async def test_an_empty_file_arrives_too(client: HttpClient, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    async with BadServer() as server:
        await client.upload(server.url, tmp_path / "empty", headers={}, fields={}, filename="e", timeout=5)
    assert parts_of(server.requests[0]) == [("file", "e", b"")]


async def test_a_name_cannot_break_out_of_its_quotes(client: HttpClient, source: Path) -> None:
    name = 'a"; name="purpose\r\nx: y'
    async with BadServer() as server:
        await client.upload(server.url, source, headers={}, fields={}, filename=name, timeout=20)
    assert parts_of(server.requests[0]) == [("file", "a%22; name=%22purpose%0D%0Ax: y", CONTENT)]


async def test_a_file_is_read_in_pieces(source: Path) -> None:
    form = await FileForm.of(source, {"a": "b"}, "file", "x")
    pieces = [piece async for piece in form.pieces()]
    assert max(len(piece) for piece in pieces) <= PIECE_BYTES
    assert sum(len(piece) for piece in pieces) == form.length


async def test_a_file_that_is_not_there_is_not_sent(client: HttpClient, tmp_path: Path) -> None:
    async with BadServer() as server:
        with pytest.raises(StorageError) as caught:
            await client.upload(server.url, tmp_path / "no", headers={}, fields={}, filename="x", timeout=5)
    assert (caught.value.code, server.requests) == ("E0616", [])


async def test_a_file_that_shrinks_is_never_taken_for_whole(
    client: HttpClient, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lying(file: Path, fields: dict[str, str], part: str, filename: str) -> FileForm:
        return FileForm(file, len(CONTENT) + 1, fields, part, filename)

    monkeypatch.setattr(FileForm, "of", lying)
    async with BadServer() as server:
        with pytest.raises(StorageError) as caught:
            await client.upload(server.url, source, headers={}, fields={}, filename="x", timeout=5)
    assert caught.value.code == "E0617"
    assert server.requests == []


async def test_a_refused_upload_is_a_reply(client: HttpClient, source: Path) -> None:
    async with BadServer([http_reply(b'{"error": {}}', status=400)]) as server:
        reply = await client.upload(server.url, source, headers={}, fields={}, filename="x", timeout=20)
    assert (reply.status, reply.body) == (400, b'{"error": {}}')


async def test_an_upload_is_sent_once_whatever_happens(client: HttpClient, source: Path) -> None:
    async with BadServer([[Reset()], http_reply(b"{}")]) as server:
        with pytest.raises(Transient):
            await client.upload(server.url, source, headers={}, fields={}, filename="x", timeout=20)
    assert len(server.requests) == 1


def whole(content: bytes = CONTENT, status: int = 200, **headers: str) -> bytes:
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return http_reply(content, status=status, headers=[("content-type", "application/octet-stream"), *named])


def cut(reply: bytes, at: int) -> Answer:
    """The pause lets the client take what has come: aiohttp throws away what arrives together with the end."""
    return [Send(reply[:at]), Pause(0.1), Close()]


async def downloaded(client: HttpClient, server: BadServer, target: Path, timeout: float = 20.0) -> int:
    reply = await client.download(f"{server.url}/content", target, headers={"authorization": "k"}, timeout=timeout)
    assert reply.body == b""
    return reply.status


async def test_a_file_comes_down_whole(client: HttpClient, tmp_path: Path) -> None:
    target = tmp_path / "new" / "out.jsonl"
    async with BadServer([whole()]) as server:
        assert await downloaded(client, server, target) == 200
    assert target.read_bytes() == CONTENT
    assert [one.name for one in target.parent.iterdir()] == ["out.jsonl"]
    (received,) = server.requests
    assert (received.method, received.headers["authorization"]) == ("GET", "k")
    assert received.headers["accept-encoding"] == "identity"
    assert "range" not in received.headers


async def test_a_large_file_is_no_reply_that_is_too_large(opened: Callable[..., object], tmp_path: Path) -> None:
    client = await opened(max_response_bytes=10)  # type: ignore[misc]
    async with BadServer([whole()]) as server:
        assert await downloaded(client, server, tmp_path / "out") == 200
    assert (tmp_path / "out").read_bytes() == CONTENT


class RangeServer:
    """Serves ``content`` from where it is asked to, and breaks off after ``step`` bytes each time."""

    def __init__(self, content: bytes, step: int, etag: str | None = '"v1"') -> None:
        self.content = content
        self.step = step
        self.etag = etag

    def __call__(self, received: Received) -> Answer:
        found = re.fullmatch(r"bytes=(\d+)-", received.headers.get("range", ""))
        tag = {} if self.etag is None else {"etag": self.etag}
        start = int(found[1]) if found and received.headers.get("if-range") == self.etag else 0
        rest = self.content[start:]
        span = f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
        reply = whole(rest, status=206 if start else 200, content_range=span, **tag)
        if len(rest) <= self.step:
            return reply
        return cut(reply, len(reply) - len(rest) + self.step)


async def test_a_broken_download_goes_on_where_it_was(client: HttpClient, tmp_path: Path) -> None:
    async with BadServer(RangeServer(CONTENT, 300_000)) as server:
        assert await downloaded(client, server, tmp_path / "out") == 206
    assert (tmp_path / "out").read_bytes() == CONTENT
    starts = [one.headers.get("range") for one in server.requests]
    assert starts == [None, *(f"bytes={at * 300_000}-" for at in range(1, 7))]


async def test_without_a_strong_etag_it_begins_anew(client: HttpClient, tmp_path: Path) -> None:
    weak = whole(etag='W/"v1"')
    async with BadServer([cut(weak, 5000), whole()]) as server:
        assert await downloaded(client, server, tmp_path / "out") == 200
    assert (tmp_path / "out").read_bytes() == CONTENT
    assert [one.headers.get("range") for one in server.requests] == [None, None]


async def test_content_that_changed_is_not_joined_with_the_old(client: HttpClient, tmp_path: Path) -> None:
    old, new = whole(b"o" * 9000, etag='"old"'), whole(b"n" * 7000, etag='"new"')
    async with BadServer([cut(old, 5000), new]) as server:
        assert await downloaded(client, server, tmp_path / "out") == 200
    assert server.requests[1].headers["if-range"] == '"old"'
    assert (tmp_path / "out").read_bytes() == b"n" * 7000


async def test_another_part_than_asked_for_is_refused(client: HttpClient, tmp_path: Path) -> None:
    first = whole(b"o" * 9000, etag='"v"')
    other = whole(b"x" * 10, status=206, content_range="bytes 7-16/9000")
    async with BadServer([cut(first, 5000), other]) as server:
        with pytest.raises(BadOutput):
            await downloaded(client, server, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("end", [Close(), Reset()])
async def test_half_a_file_is_none(client: HttpClient, tmp_path: Path, end: Close | Reset) -> None:
    script: Iterator[Answer] = iter([[Send(whole()[:5000]), end]] * (MOST_BREAKS + 1))
    async with BadServer(script) as server:
        with pytest.raises(Transient):
            await downloaded(client, server, tmp_path / "out")
    assert len(server.requests) <= MOST_BREAKS + 1
    assert list(tmp_path.iterdir()) == []


async def test_a_status_that_is_no_file_is_a_reply(client: HttpClient, tmp_path: Path) -> None:
    async with BadServer([http_reply(b'{"error": "gone"}', status=404)]) as server:
        reply = await client.download(server.url, tmp_path / "out", headers={}, timeout=5)
    assert (reply.status, reply.json()) == (404, {"error": "gone"})
    assert list(tmp_path.iterdir()) == []


async def test_a_compressed_download_is_refused(client: HttpClient, tmp_path: Path) -> None:
    async with BadServer([whole(b"\x1f\x8b", content_encoding="gzip")]) as server:
        with pytest.raises(BadOutput):
            await downloaded(client, server, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


async def test_a_cancelled_download_leaves_nothing(client: HttpClient, tmp_path: Path) -> None:
    async with BadServer([[Send(whole()[:5000]), Hang()]]) as server:
        with anyio.move_on_after(0.2) as scope:
            await downloaded(client, server, tmp_path / "out")
        assert scope.cancelled_caught
        await server.wait_for(lambda server: server.hung_up == 1)
    assert list(tmp_path.iterdir()) == []


async def test_an_earlier_file_stays_until_the_new_one_is_whole(client: HttpClient, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"earlier")
    async with BadServer([http_reply(b"{}", status=500), whole()]) as server:
        reply = await client.download(server.url, target, headers={}, timeout=5)
        assert reply.status == 500
        assert target.read_bytes() == b"earlier"
        assert await downloaded(client, server, target) == 200
    assert target.read_bytes() == CONTENT
