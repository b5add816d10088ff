"""What a chat reply means: every shape a compatible server has been seen to send."""

from __future__ import annotations

from typing import Any

import pytest

from promptmill import jsontext
from promptmill.errors import AuthFailed, BadOutput, Permanent, ProviderError, Throttled, Transient
from promptmill.http import HttpResponse
from promptmill.models import UNKNOWN_USAGE, Response, Usage
from promptmill_openai.reply import read_chat

USAGE = {
    "prompt_tokens": 22,
    "completion_tokens": 12,
    "total_tokens": 34,
    "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 8, "audio_tokens": 0},
}


def completion(message: Any = None, *, finish_reason: Any = "stop", **members: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "hi", "refusal": None} if message is None else message
    choice = {"index": 0, "finish_reason": finish_reason, "logprobs": None, "message": message}
    return {"id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-x-1", "choices": [choice], **members}


def read(value: Any, *, model: str | None = "asked") -> Response:
    body = value if isinstance(value, bytes) else jsontext.encode(value)
    return read_chat(HttpResponse(200, {"x-request-id": "req_1"}, body), model=model)


def test_a_full_reply() -> None:
    value = completion(usage=USAGE, service_tier="default")
    assert read(value) == Response(
        text="hi",
        finish_reason="stop",
        model="gpt-x-1",
        tier="realtime",
        usage=Usage(input_tokens=22, cached_tokens=4, output_tokens=12, reasoning_tokens=8),
        request_id="req_1",
        body=jsontext.encode(value),
    )


def test_the_tier_is_the_one_that_was_used() -> None:
    assert read(completion(service_tier="flex")).tier == "flex"
    assert read(completion(service_tier="default")).tier == "realtime"
    assert read(completion(service_tier=None)).tier == "realtime"


def test_the_model_asked_for_is_kept_when_the_reply_names_none() -> None:
    assert read({**completion(), "model": None}).model == "asked"
    assert read({**completion(), "model": ""}).model == "asked"


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, UNKNOWN_USAGE),
        ({}, UNKNOWN_USAGE),
        ([], UNKNOWN_USAGE),
        ("many", UNKNOWN_USAGE),
        ({"prompt_tokens": 3}, Usage(input_tokens=3)),
        ({"prompt_tokens": 3, "completion_tokens": None}, Usage(input_tokens=3)),
        ({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}, Usage(input_tokens=3, output_tokens=4)),
        ({"prompt_tokens": 3, "prompt_tokens_details": None}, Usage(input_tokens=3)),
        ({"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": None}}, Usage(input_tokens=3)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, Usage(input_tokens=0, output_tokens=0)),
        ({"prompt_tokens": 3.0, "completion_tokens": 4.5}, Usage(input_tokens=3)),
        ({"prompt_tokens": -1, "completion_tokens": 10**18}, UNKNOWN_USAGE),
        ({"prompt_tokens": True, "completion_tokens": "4"}, UNKNOWN_USAGE),
        ({"prompt_tokens": 3, "completion_tokens": 4, "reasoning_tokens": 2},  # SGLang
         Usage(input_tokens=3, output_tokens=4, reasoning_tokens=2)),
        ({"prompt_tokens": 3, "prompt_cache_hit_tokens": 1}, Usage(input_tokens=3, cached_tokens=1)),  # DeepSeek
    ],
)  # fmt: skip
def test_usage_is_what_was_said_or_unknown_and_never_a_made_up_zero(usage: Any, expected: Usage) -> None:
    assert read(completion(usage=usage)).usage == expected


def test_missing_usage_is_unknown() -> None:
    assert read(completion()).usage == UNKNOWN_USAGE


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("hi", "hi"),
        ("", ""),
        (None, None),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"),
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "b"}], "b"),
        ([{"type": "image"}, 5, None], None),
        ([{"type": "refusal"}, {"type": "refusal", "refusal": None}, {"type": "text", "text": "a"}], "a"),
        ([], None),
        (7, None),
    ],
)
def test_content(content: Any, text: str | None) -> None:
    answer = read(completion({"role": "assistant", "content": content}))
    assert (answer.text, answer.finish_reason) == (text, "stop")


def test_a_refusal_is_an_answer_of_its_own_kind() -> None:
    answer = read(completion({"role": "assistant", "content": None, "refusal": "I cannot help with that."}))
    assert (answer.text, answer.finish_reason) == ("I cannot help with that.", "refusal")
    parts = [{"type": "refusal", "refusal": "No."}]
    answer = read(completion({"role": "assistant", "content": parts}))
    assert (answer.text, answer.finish_reason) == ("No.", "refusal")


def test_tool_calls_stay_in_the_body() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    value = completion({"role": "assistant", "content": None, "tool_calls": [call]}, finish_reason="tool_calls")
    answer = read(value)
    assert (answer.text, answer.finish_reason) == (None, "tool_calls")
    assert jsontext.decode(answer.body) == value


@pytest.mark.parametrize(
    ("reason", "ours"),
    [
        ("stop", "stop"), ("eos", "stop"), ("end_turn", "stop"), ("STOP", "stop"), ("stop_sequence", "stop"),
        ("length", "length"), ("max_tokens", "length"), ("MAX_TOKENS", "length"), ("model_length", "length"),
        ("content_filter", "content_filter"), ("SAFETY", "content_filter"), ("content_filtered", "content_filter"),
        ("guardrail_intervened", "content_filter"), ("tool_calls", "tool_calls"), ("tool_use", "tool_calls"),
        ("function_call", "tool_calls"), ("refusal", "refusal"),
        ("Recitation", "Recitation"), (None, None), ("", None), (3, None), ({}, None),
    ],
)  # fmt: skip
def test_finish_reasons(reason: Any, ours: str | None) -> None:
    assert read(completion(finish_reason=reason)).finish_reason == ours


@pytest.mark.parametrize("reason", ["error", "abort", "insufficient_system_resource"])
def test_an_answer_the_server_broke_off_is_no_answer(reason: str) -> None:
    with pytest.raises(Transient, match=reason) as caught:
        read(completion(finish_reason=reason))
    assert caught.value.code == "broken_off"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "empty_reply"),
        (b" \n", "empty_reply"),
        (b"<html>welcome</html>", "bad_json"),
        (b'{"choices": [', "bad_json"),
        (b'{"choices": NaN}', "bad_json"),
        (b"[" * 100_000, "bad_json"),
        (b"9" * 5000, "bad_json"),
        (b"null", "bad_reply"),
        (b"[]", "bad_reply"),
        (b'"text"', "bad_reply"),
        (b"{}", "empty_reply"),
        (b'{"choices": []}', "empty_reply"),
        (b'{"choices": null}', "empty_reply"),
        (b'{"choices": {"0": {}}}', "empty_reply"),
        (b'{"choices": [null]}', "empty_reply"),
        (b'{"choices": [{}]}', "bad_reply"),
        (b'{"choices": [{"message": null}]}', "bad_reply"),
        (b'{"choices": [{"message": "hi"}]}', "bad_reply"),
    ],
)
def test_what_is_no_answer_is_bad_output_that_quotes_its_start(body: bytes, code: str) -> None:
    with pytest.raises(BadOutput) as caught:
        read(body)
    assert (caught.value.code, caught.value.http_status) == (code, 200)
    assert caught.value.request_id == "req_1"
    assert len(caught.value.message) < 1200


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({"error": {"code": 502, "message": "no provider available"}}, Transient),
        ({"error": {"code": 429, "message": "slow"}, "choices": []}, Throttled),
        ({"error": "overloaded"}, Transient),
        ({"object": "error", "message": "bad", "type": "BadRequestError", "code": 400}, Permanent),
        ([{"error": {"code": 401, "message": "no"}}], AuthFailed),
        ({"choices": [{"error": {"code": 502, "message": "upstream"}, "finish_reason": "error"}]}, Transient),
    ],
)
def test_an_error_inside_a_success_is_an_error(value: Any, kind: type[ProviderError]) -> None:
    with pytest.raises(kind) as caught:
        read(value)
    assert caught.value.http_status == 200


def test_an_answer_beside_an_error_member_is_an_answer() -> None:
    assert read({**completion(), "error": None}).text == "hi"


def test_oddities_of_real_servers_are_read() -> None:
    assert read(b"\n\n\n" + jsontext.encode(completion())).text == "hi"  # DeepSeek while the request waits
    assert read(b"\xef\xbb\xbf" + jsontext.encode(completion())).text == "hi"
    lone = jsontext.encode(completion({"content": "LONE"})).replace(b"LONE", b"\\ud83d!")
    assert read(lone).text == "\ufffd!"
    assert read(completion({"content": "a\u2028b\u0000c"})).text == "a\u2028b\u0000c"
