from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest

from promptmill_simulator import Simulator

Check = Callable[[str, Any], None]


@pytest.fixture(scope="module")
def sim(simulate: Callable[..., Simulator]) -> Simulator:
    return simulate()


@pytest.fixture
def client(sim: Simulator, client_of: Callable[..., openai.OpenAI]) -> openai.OpenAI:
    return client_of(sim)


def upload(sim: Simulator, content: bytes = b"{}\n", name: str = "in.jsonl", **fields: str) -> httpx.Response:
    data = {"purpose": "batch", **fields}
    return httpx.post(f"{sim.base_url}/files", data=data, files={"file": (name, content)})


def test_the_life_of_a_file(client: openai.OpenAI) -> None:
    made = client.files.create(file=("täst.jsonl", io.BytesIO(b"a\nb")), purpose="batch")
    assert (made.bytes, made.filename, made.purpose, made.status) == (3, "täst.jsonl", "batch", "processed")
    assert made.expires_at is not None
    assert made.expires_at - made.created_at == 30 * 86_400
    assert client.files.retrieve(made.id) == made
    assert client.files.content(made.id).content == b"a\nb"
    assert client.files.delete(made.id).deleted
    for use in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError):
            use(made.id)


async def test_the_async_client_uploads_too(sim: Simulator) -> None:
    async with openai.AsyncOpenAI(
        base_url=sim.base_url, api_key="x", max_retries=0, _strict_response_validation=True
    ) as client:
        made = await client.files.create(
            file=("in.jsonl", b"x"), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
        )
        assert made.expires_at == made.created_at + 3600
        assert (await client.files.content(made.id)).content == b"x"


def test_replies_match_the_schema(sim: Simulator, matches_schema: Check) -> None:
    made = upload(sim)
    matches_schema("OpenAIFile", made.json())
    matches_schema("ListFilesResponse", httpx.get(f"{sim.base_url}/files").json())
    matches_schema("ListFilesResponse", httpx.get(f"{sim.base_url}/files?purpose=vision").json())
    place = f"{sim.base_url}/files/{made.json()['id']}"
    matches_schema("OpenAIFile", httpx.get(place).json())
    matches_schema("DeleteFileResponse", httpx.delete(place).json())
    matches_schema("ErrorResponse", httpx.get(place).json())


def test_large_files_come_back_as_they_went(client: openai.OpenAI) -> None:
    content = bytes(range(256)) * 4 * 1024 * 5 + b"\r\n--not a boundary"
    made = client.files.create(file=("big.jsonl", io.BytesIO(content)), purpose="batch")
    assert made.bytes == len(content)
    assert client.files.content(made.id).content == content


def test_pages(simulate: Callable[..., Simulator], client_of: Callable[..., openai.OpenAI]) -> None:
    client = client_of(simulate())
    names = [client.files.create(file=("in.jsonl", b"x"), purpose="batch").id for _ in range(5)]
    assert [file.id for file in client.files.list(limit=2)] == names[::-1]
    assert [file.id for file in client.files.list(limit=2, order="asc")] == names
    assert [file.id for file in client.files.list(after=names[1], order="asc")] == names[2:]
    assert [file.id for file in client.files.list(purpose="vision")] == []
    first = client.files.list(limit=4)
    assert first.has_more
    assert not client.files.list(limit=5).has_more


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=10001", "order=up", "after=file-unknown"])
def test_pages_that_cannot_be(sim: Simulator, matches_schema: Check, query: str) -> None:
    reply = httpx.get(f"{sim.base_url}/files?{query}")
    assert reply.status_code in (400, 404)
    matches_schema("ErrorResponse", reply.json())


@pytest.mark.parametrize(
    ("name", "fields", "param"),
    [
        ("in.jsonl", {"purpose": "world peace"}, "purpose"),
        ("in.txt", {}, "file"),
        ("in.jsonl", {"expires_after[anchor]": "created_at", "expires_after[seconds]": "60"}, "expires_after.seconds"),
        ("in.jsonl", {"expires_after.seconds": "soon"}, "expires_after.seconds"),
    ],
)
def test_uploads_that_cannot_be(
    sim: Simulator, matches_schema: Check, name: str, fields: dict[str, str], param: str
) -> None:
    reply = upload(sim, name=name, **fields)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)
    matches_schema("ErrorResponse", reply.json())


@pytest.mark.parametrize(
    ("headers", "content"),
    [
        ({"content-type": "application/json"}, b"{}"),
        ({"content-type": "multipart/form-data"}, b"x"),
        ({"content-type": "multipart/form-data; boundary=b"}, b""),
        ({"content-type": "multipart/form-data; boundary=b"}, b"no form at all"),
        (
            {"content-type": "multipart/form-data; boundary=b"},
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.jsonl"\r\n\r\nhalf',
        ),
        (
            {"content-type": "multipart/form-data; boundary=b"},
            b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b--\r\n',
        ),
    ],
)
def test_bodies_that_are_no_upload(
    sim: Simulator, matches_schema: Check, headers: dict[str, str], content: bytes
) -> None:
    reply = httpx.post(f"{sim.base_url}/files", headers=headers, content=content)
    assert reply.status_code == 400
    matches_schema("ErrorResponse", reply.json())


def test_files_expire(simulate: Callable[..., Simulator]) -> None:
    sim = simulate(speed=1e9)
    made = upload(sim).json()
    assert httpx.get(f"{sim.base_url}/files/{made['id']}").status_code == 404
    assert httpx.get(f"{sim.base_url}/files").json()["data"] == []


def test_nothing_is_left_on_disk(simulate: Callable[..., Simulator], tmp_path: Any) -> None:
    sim = simulate(data_dir=tmp_path)
    made = upload(sim).json()
    assert len(list(tmp_path.iterdir())) == 1
    httpx.delete(f"{sim.base_url}/files/{made['id']}")
    upload(sim, purpose="nothing")
    assert list(tmp_path.iterdir()) == []


def test_downloads_can_break_off(simulate: Callable[..., Simulator]) -> None:
    sim = simulate(faults=["truncate,bytes=10,every=2,on=files"])
    made = upload(sim, b"x" * 1_000_000).json()
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{sim.base_url}/files/{made['id']}/content")
    assert len(httpx.get(f"{sim.base_url}/files/{made['id']}/content").content) == 1_000_000


def test_a_download_that_breaks_off_can_be_resumed(simulate: Callable[..., Simulator]) -> None:
    sim = simulate(faults=["truncate,on=files.content,every=2,times=1"])
    content = bytes(range(256)) * 4096
    place = f"{sim.base_url}/files/{upload(sim, content).json()['id']}/content"
    assert httpx.get(place).content == content
    got = bytearray()
    with pytest.raises(httpx.RemoteProtocolError), httpx.stream("GET", place) as reply:
        assert int(reply.headers["content-length"]) == len(content)
        etag = reply.headers["etag"]
        for piece in reply.iter_raw():
            got += piece
    assert 0 < len(got) < len(content)
    rest = httpx.get(place, headers={"range": f"bytes={len(got)}-", "if-range": etag})
    assert rest.status_code == 206
    assert rest.headers["content-range"] == f"bytes {len(got)}-{len(content) - 1}/{len(content)}"
    assert bytes(got) + rest.content == content


def test_a_resumed_download_can_break_off_too(simulate: Callable[..., Simulator]) -> None:
    sim = simulate(faults=["truncate,bytes=3,on=files.content"])
    place = f"{sim.base_url}/files/{upload(sim, b'0123456789').json()['id']}/content"
    got = bytearray()
    with (
        pytest.raises(httpx.RemoteProtocolError),
        httpx.stream("GET", place, headers={"range": "bytes=5-"}) as reply,
    ):
        for piece in reply.iter_raw():
            got += piece
    assert (reply.status_code, reply.headers["content-length"], bytes(got)) == (206, "5", b"567")


def test_parts_of_a_file(sim: Simulator, matches_schema: Check) -> None:
    place = f"{sim.base_url}/files/{upload(sim, b'0123456789').json()['id']}/content"
    assert httpx.get(place).headers["accept-ranges"] == "bytes"
    part = httpx.get(place, headers={"range": "bytes=2-4"})
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
    other = httpx.get(place, headers={"range": "bytes=2-4", "if-range": '"of another file"'})
    assert (other.status_code, other.content) == (200, b"0123456789")
    outside = httpx.get(place, headers={"range": "bytes=10-"})
    assert (outside.status_code, outside.headers["content-range"]) == (416, "bytes */10")
    matches_schema("ErrorResponse", outside.json())


def test_there_are_servers_without_parts(simulate: Callable[..., Simulator]) -> None:
    sim = simulate(ranges=False)
    place = f"{sim.base_url}/files/{upload(sim, b'0123456789').json()['id']}/content"
    reply = httpx.get(place, headers={"range": "bytes=2-4"})
    assert (reply.status_code, reply.content) == (200, b"0123456789")
    assert not {"accept-ranges", "etag"} & set(reply.headers)


def test_an_upload_can_be_kept_without_a_reply(
    simulate: Callable[..., Simulator], client_of: Callable[..., openai.OpenAI]
) -> None:
    sim = simulate(faults=["reset,on=files.create,times=1"])
    client = client_of(sim)
    assert list(client.files.list()) == []
    with pytest.raises(openai.APIConnectionError):
        client.files.create(file=("mine.jsonl", b"x"), purpose="batch")
    assert [file.filename for file in client.files.list()] == ["mine.jsonl"]
    assert sim.ledger(0)["files_uploaded"] == 1
