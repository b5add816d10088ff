"""Chunks to responses. The chunks are in the form xllamacpp 2026.10 sends them."""

from __future__ import annotations

from typing import Any

import pytest

from promptmill import jsontext
from promptmill.errors import Permanent, ProviderError, Transient
from promptmill.models import UNKNOWN_USAGE, Response, Usage
from promptmill_llama.replies import read_reply


def piece(text: str | None, finish_reason: str | None = None) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    return {"id": "chatcmpl-1", "choices": [{"finish_reason": finish_reason, "index": 0, "delta": delta}]}


PROGRESS = {"choices": [], "prompt_progress": {"total": 9, "cache": 0, "processed": 0, "time_ms": 0}}
START = {"id": "chatcmpl-1", "choices": [{"finish_reason": None, "delta": {"role": "assistant", "content": None}}]}
USAGE = {
    "choices": [],
    "usage": {"completion_tokens": 5, "prompt_tokens": 20, "prompt_tokens_details": {"cached_tokens": 4}},
}


def read(*chunks: dict[str, Any]) -> Response:
    return read_reply([jsontext.encode(chunk) for chunk in chunks], "m")


def test_a_whole_reply() -> None:
    assert read(PROGRESS, START, piece("Hello"), piece(" you"), piece(None, "stop"), USAGE) == Response(
        text="Hello you",
        finish_reason="stop",
        model="m",
        usage=Usage(input_tokens=20, cached_tokens=4, output_tokens=5),
        request_id="chatcmpl-1",
    )


def test_an_empty_answer_is_an_answer() -> None:
    response = read(START, piece(None, "length"))
    assert (response.text, response.finish_reason, response.usage) == ("", "length", UNKNOWN_USAGE)


def test_a_reply_that_breaks_off_is_transient() -> None:
    with pytest.raises(Transient) as caught:
        read(START, piece("Hel"))
    assert caught.value.code == "incomplete"


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        ({"code": 400, "type": "exceed_context_size_error"}, Permanent, "context_length_exceeded"),
        ({"code": 400, "type": "invalid_request_error"}, Permanent, "bad_request"),
        ({"code": 500, "type": "server_error"}, Transient, "server_error"),
        ({"code": 503, "type": "unavailable_error"}, Transient, "server_error"),
        ({}, Transient, "server_error"),
    ],
)
def test_errors_become_classes_of_failure(error: dict[str, Any], kind: type[ProviderError], code: str) -> None:
    with pytest.raises(kind, match="so it said") as caught:
        read({"error": {"message": "so it said", **error}})
    assert caught.value.code == code
