"""Lines of result files, as they should be and as they have been seen."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptmill.batch import BatchLine
from promptmill.errors import BadOutput, Permanent, ProviderError, Throttled, Transient
from promptmill.models import Response, Usage
from promptmill_openai.batch_results import GROUP, line_of, lines_of
from promptmill_openai.reply import read_chat

READ = partial(read_chat, model="gpt-x")

BODY = {
    "id": "chatcmpl-1",
    "model": "gpt-x-2026",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "4"}}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 3}},
    "service_tier": "default",
}


def line(response: Any = None, error: Any = None, custom_id: Any = "t-1") -> bytes:
    return json.dumps({"id": "batch_req_1", "custom_id": custom_id, "response": response, "error": error}).encode()


def answered(body: Any = BODY, status: Any = 200) -> dict[str, Any]:
    return {"status_code": status, "request_id": "req_1", "body": body}


def outcome(raw: bytes) -> Response | ProviderError:
    read = line_of(raw, READ)
    assert read is not None
    assert read.wire_id == "t-1"
    return read.outcome


def failure(raw: bytes) -> ProviderError:
    read = outcome(raw)
    assert isinstance(read, ProviderError)
    return read


@pytest.mark.parametrize("body", [BODY, json.dumps(BODY)], ids=["object", "text"])
def test_an_answer(body: Any) -> None:
    read = outcome(line(answered(body)))
    assert isinstance(read, Response)
    assert (read.text, read.finish_reason, read.model, read.tier) == ("4", "stop", "gpt-x-2026", "batch")
    assert read.usage == Usage(
        input_tokens=9, cached_tokens=3, output_tokens=1, reasoning_tokens=read.usage.reasoning_tokens
    )
    assert read.request_id == "req_1"
    assert json.loads(read.body) == BODY


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (400, {"error": {"message": "no", "type": "invalid_request_error", "code": None}}, Permanent, "bad_request"),
        (429, {"error": {"message": "slow", "code": "rate_limit_exceeded"}}, Throttled, "rate_limited"),
        (500, {"error": {"message": "oops"}}, Transient, "server_error"),
        (503, "", Transient, "overloaded"),
        (503, None, Transient, "overloaded"),
        (401, {"error": {"message": "key"}}, Permanent, "auth"),
    ],
)
def test_a_status_counts_whichever_file_it_is_in(status: int, body: Any, kind: type[ProviderError], code: str) -> None:
    found = failure(line(answered(body, status)))
    assert (type(found), found.info().code) == (kind, code)


@pytest.mark.parametrize("code", ["batch_expired", "batch_cancelled"])
def test_what_was_not_done_may_be_done_later(code: str) -> None:
    found = failure(line(None, {"code": code, "message": "This request could not be executed."}))
    assert (type(found), found.code, found.message) == (Transient, code, "This request could not be executed.")
    assert failure(line(None, {"code": code})).code == code


def test_another_error_without_a_response() -> None:
    assert failure(line(None, {"code": "server_error", "message": "oops"})).retryable
    assert not failure(line(None, {"code": "invalid_request_error", "message": "no"})).retryable
    assert isinstance(failure(line(None, None)), BadOutput)
    assert isinstance(failure(line("what", None)), BadOutput)


@pytest.mark.parametrize("body", [None, "", "not JSON", [], 7, {"choices": []}, {"error": {"message": "no"}}])
def test_a_success_without_an_answer_is_none(body: Any) -> None:
    assert isinstance(outcome(line(answered(body))), ProviderError)


@pytest.mark.parametrize("raw", [b"", b"\n", b"{", b"[]", b"7", b'{"custom_id": 7}', b"{}", b"\xff\xfe"])
def test_a_line_about_nobody(raw: bytes) -> None:
    assert line_of(raw, READ) is None


@given(st.binary(max_size=200))
def test_any_bytes(raw: bytes) -> None:
    line_of(raw, READ)


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(
                st.sampled_from(["status_code", "body", "error", "choices", "message", "code", "usage"]),
                inner,
                max_size=4,
            ),
        ),
        max_leaves=15,
    ),
    st.data(),
)
def test_any_members(value: Any, data: st.DataObject) -> None:
    error = data.draw(st.sampled_from([None, value, {"code": value}]))
    response = data.draw(st.sampled_from([value, {"body": value}, {"status_code": 200, "body": value}]))
    read = line_of(json.dumps({"custom_id": "t-1", "response": response, "error": error}).encode(), READ)
    assert read is not None
    assert isinstance(read.outcome, Response | ProviderError)


async def read_all(path: Path) -> list[BatchLine]:
    return [one async for group in lines_of(path, READ) for one in group]


async def test_files_are_split_at_newlines_alone(tmp_path: Path) -> None:
    texts = ["one", "two\u2028lines\u0085to some\x0b\x0c", "three"]
    lines = []
    for at, text in enumerate(texts):
        body = {**BODY, "choices": [{"message": {"content": text}}]}
        entry = {"custom_id": f"t-{at}", "response": {"status_code": 200, "body": body}}
        lines.append(json.dumps(entry, ensure_ascii=False).encode())
    path = tmp_path / "out.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + lines[0] + b"\r\n\n" + lines[1] + b"\nnonsense\n" + lines[2])
    found = await read_all(path)
    assert [one.wire_id for one in found] == ["t-0", "t-1", "t-2"]
    assert [one.outcome.text for one in found if isinstance(one.outcome, Response)] == texts


async def test_long_files_come_in_groups(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(b"".join(line(answered(), custom_id=f"t-{at}") + b"\n" for at in range(2 * GROUP + 1)))
    sizes = [len(group) async for group in lines_of(path, READ)]
    assert sizes == [GROUP, GROUP, 1]


async def test_an_empty_file_has_no_lines(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert await read_all(tmp_path / "empty") == []
