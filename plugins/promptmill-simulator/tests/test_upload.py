from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptmill_simulator import upload
from promptmill_simulator.apierror import ApiError
from promptmill_simulator.call import Call, ClientGone
from promptmill_simulator.upload import Upload

BODY = (
    b'--edge\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    b'--edge\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\nline\r\n--edg\r\nend\r\n--edge--\r\n"
)


def call_with(pieces: list[bytes], *, leave: bool = False) -> Call:
    events: list[dict[str, Any]] = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    events.append({"type": "http.disconnect"} if leave else {"type": "http.request", "body": b"", "more_body": False})
    waiting = iter(events)

    async def receive() -> dict[str, Any]:
        return next(waiting)

    async def send(event: Any) -> None:
        raise AssertionError(event)

    headers = [(b"content-type", b"multipart/form-data; boundary=edge")]
    scope = {"method": "POST", "path": "/v1/files", "query_string": b"", "headers": headers}
    return Call(scope, receive, send)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("upload") / "contents"


@given(st.lists(st.integers(0, len(BODY)), max_size=12).map(sorted))
async def test_a_form_may_be_cut_anywhere(target: Path, cuts: list[int]) -> None:
    edges = [0, *cuts, len(BODY)]
    made = Upload(target)
    await made.receive(call_with([BODY[start:end] for start, end in pairwise(edges)]))
    assert made.fields == {"purpose": "batch"}
    assert made.filename == "a.jsonl"
    assert target.read_bytes() == b"line\r\n--edg\r\nend"


async def test_a_client_that_leaves_is_noticed(target: Path) -> None:
    with pytest.raises(ClientGone):
        await Upload(target).receive(call_with([BODY[:100]], leave=True))


async def test_files_and_fields_have_a_largest_size(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "MAX_FILE_BYTES", 5)
    with pytest.raises(ApiError, match="larger than 5 bytes"):
        await Upload(target).receive(call_with([BODY]))
    field = b'--edge\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n' + b"x" * 100_000
    with pytest.raises(ApiError, match="'purpose' is longer"):
        await Upload(target).receive(call_with([field]))
