"""``openai-responses``: the wire format, and every ending a reply can have."""

from __future__ import annotations

from typing import Any

import pytest
import respx

from promptmill import jsontext
from promptmill.errors import BadOutput, Permanent, ProviderError, Throttled, Transient
from promptmill.http import HttpResponse
from promptmill.models import UNKNOWN_USAGE, Message, Request, Response, TokenEstimate, Usage
from promptmill.options import BuildContext
from promptmill_openai import OpenAIResponses, OpenAIResponsesOptions
from promptmill_openai.responses_reply import read_response

URL = "http://llm.test/v1/responses"


def message(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": list(parts)}


def text(words: Any) -> dict[str, Any]:
    return {"type": "output_text", "text": words, "annotations": []}


def response(*output: Any, status: Any = "completed", **members: Any) -> dict[str, Any]:
    return {"id": "resp_1", "object": "response", "model": "gpt-x-1", "error": None, "status": status,
            "incomplete_details": None, "output": list(output), **members}  # fmt: skip


USAGE = {
    "input_tokens": 20,
    "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
    "output_tokens": 12,
    "output_tokens_details": {"reasoning_tokens": 8},
    "total_tokens": 32,
}
REPLY = response({"type": "reasoning", "summary": []}, message(text("4")), usage=USAGE, service_tier="flex")


def read(value: Any) -> Response:
    return read_response(HttpResponse(200, {"x-request-id": "req_1"}, jsontext.encode(value)), model="asked")


def provider(**settings: Any) -> OpenAIResponses:
    merged = {"model": "gpt-x", "base_url": "http://llm.test", "http": {"backend": "httpx"}, **settings}
    return OpenAIResponsesOptions.model_validate(merged).build(BuildContext(name="fast"))


def test_a_full_reply() -> None:
    assert read(REPLY) == Response(
        text="4",
        finish_reason="stop",
        model="gpt-x-1",
        tier="flex",
        usage=Usage(input_tokens=20, cached_tokens=4, output_tokens=12, reasoning_tokens=8),
        request_id="req_1",
        body=jsontext.encode(REPLY),
    )


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        (response(message(text("a"), text("b")), message(text("c"))), ("abc", "stop")),
        (response(message(text(""))), ("", "stop")),
        (response(message(text("a")), status=None), ("a", "stop")),
        (response(message({"type": "refusal", "refusal": "No."})), ("No.", "refusal")),
        (response(message(text("a")), status="incomplete", incomplete_details={"reason": "max_output_tokens"}),
         ("a", "length")),
        (response(status="incomplete", incomplete_details={"reason": "content_filter"}), (None, "content_filter")),
        (response(status="incomplete", incomplete_details={"reason": "max_messages"}), (None, "max_messages")),
        (response(status="incomplete"), (None, "incomplete")),
        (response({"type": "function_call", "name": "add", "arguments": "{}"}), (None, "tool_calls")),
        (response(message(text("see")), {"type": "custom_tool_call"}), ("see", "tool_calls")),
        (response({"type": "web_search_call"}, message(text("a"))), ("a", "stop")),
    ],
)  # fmt: skip
def test_endings(value: Any, answer: tuple[str | None, str]) -> None:
    found = read(value)
    assert (found.text, found.finish_reason) == answer


@pytest.mark.parametrize("usage", [None, {}, [], {"input_tokens": None, "input_tokens_details": None}])
def test_unknown_usage_is_unknown(usage: Any) -> None:
    assert read(response(message(text("a")), usage=usage)).usage == UNKNOWN_USAGE


@pytest.mark.parametrize(
    ("value", "kind", "code"),
    [
        (response(status="failed", error={"code": "server_error", "message": "m"}), Transient, "server_error"),
        (response(status="failed", error={"code": "rate_limit_exceeded", "message": "m"}), Throttled, "rate_limited"),
        (response(status="failed", error={"code": "invalid_prompt", "message": "m"}), Permanent, "content_filter"),
        (response(status="failed", error={"code": "bio_policy", "message": "m"}), Permanent, "content_filter"),
        (response(status="failed", error={"code": "invalid_image", "message": "m"}), Permanent, "invalid_image"),
        (response(message(text("part")), status="failed", error={"code": "vector_store_timeout", "message": "m"}),
         Permanent, "vector_store_timeout"),
        (response(status="failed"), Transient, "server_error"),
        (response(message(text("part")), status="cancelled"), Transient, "broken_off"),
        (response(status="queued"), BadOutput, "not_finished"),
        (response(status="in_progress"), BadOutput, "not_finished"),
        (response(), BadOutput, "empty_reply"),
        (response(message()), BadOutput, "empty_reply"),
        (response(message(text(None))), BadOutput, "empty_reply"),
        ({"output": "text"}, BadOutput, "empty_reply"),
        ({}, BadOutput, "empty_reply"),
        ([], BadOutput, "bad_reply"),
        ({"error": {"code": 502, "message": "m"}}, Transient, "bad_gateway"),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_a_failure(value: Any, kind: type[ProviderError], code: str) -> None:
    with pytest.raises(kind) as caught:
        read(value)
    assert (caught.value.code, caught.value.http_status) == (code, 200)


async def test_a_chat_is_translated(wire: respx.MockRouter) -> None:
    wire.post(URL).respond(json=REPLY)
    messages = (Message("system", "Be brief."), Message("user", "2 + 2?"))
    async with provider(service_tier="flex") as responses:
        answer = await responses.complete(Request(id="1", messages=messages, params={"max_tokens": 50}), timeout=5)
    assert answer.text == "4"
    assert jsontext.decode(wire.calls.last.request.content) == {
        "model": "gpt-x",
        "service_tier": "flex",
        "instructions": "Be brief.",
        "input": [{"role": "user", "content": "2 + 2?"}],
        "max_output_tokens": 50,
    }


async def test_a_body_of_its_own_goes_as_it_is_but_never_streams_or_runs_in_the_background(
    wire: respx.MockRouter,
) -> None:
    wire.post(URL).respond(json=REPLY)
    params = {"input": "2 + 2?", "model": "gpt-y", "stream": True, "background": True, "max_tokens": 1}
    async with provider(extra_body={"store": False}) as responses:
        await responses.complete(Request(id="1", operation="responses", params=params), timeout=5)
    assert jsontext.decode(wire.calls.last.request.content) == {
        "model": "gpt-y",
        "input": "2 + 2?",
        "max_tokens": 1,
        "store": False,
    }


async def test_an_error_reply_is_classified(wire: respx.MockRouter) -> None:
    wire.post(URL).respond(429, json={"error": {"message": "m", "code": "slow_down"}}, headers={"retry-after": "2"})
    async with provider() as responses:
        with pytest.raises(Throttled) as caught:
            await responses.complete(Request(id="1", messages=(Message("user", "x"),)), timeout=5)
    assert (caught.value.retry_after, caught.value.code) == (2, "slow_down")


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"input": "x" * 35}, TokenEstimate(13, None)),
        ({"input": "x" * 35, "instructions": "y" * 35, "max_output_tokens": 9}, TokenEstimate(23, 9)),
        ({"input": [{"content": [{"text": "x" * 35}, {"image_url": "z" * 9999}]}]}, TokenEstimate(13, None)),
        ({}, TokenEstimate(3, None)),
    ],
)
def test_the_estimate_of_a_body_of_its_own(params: dict[str, Any], expected: TokenEstimate) -> None:
    assert provider().estimate(Request(id="1", operation="responses", params=params)) == expected


def test_the_estimate_of_a_chat() -> None:
    request = Request(id="1", messages=(Message("user", "x" * 35),), params={"max_tokens": 9})
    assert provider().estimate(request) == TokenEstimate(17, 9)


def test_it_does_chats_and_responses() -> None:
    assert OpenAIResponses.operations == {"chat", "responses"}


def test_the_hook_registers_the_provider() -> None:
    from promptmill_openai import responses

    found: dict[str, Any] = {}
    responses.register_provider(found.__setitem__)
    assert found == {"openai-responses": OpenAIResponsesOptions}
