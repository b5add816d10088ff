"""The wire format of ``openai-chat``: what is sent, and what becomes of the reply, through the httpx backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
import respx
from openai.types.chat import completion_create_params
from pydantic import TypeAdapter

from promptmill import jsontext
from promptmill.clock import SystemClock
from promptmill.errors import AuthFailed, Permanent, QuotaExhausted, Throttled
from promptmill.models import Message, Request
from promptmill_openai import OpenAIChat

URL = "http://llm.test/v1/chat/completions"
KEY = "sk-canary-4242424242"
REPLY = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-x-2026",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "4"}}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10},
}

MakeChat = Callable[..., OpenAIChat]


def sent(wire: respx.MockRouter) -> httpx.Request:
    request: httpx.Request = wire.calls.last.request
    return request


def sent_body(wire: respx.MockRouter) -> Any:
    return jsontext.decode(sent(wire).content)


async def test_one_post_and_its_answer(make_chat: MakeChat, wire: respx.MockRouter, question: Request) -> None:
    route = wire.post(URL).respond(json=REPLY, headers={"X-Request-ID": "req_7"})
    async with make_chat() as chat:
        answer = await chat.complete(question, timeout=5)
    assert route.call_count == 1
    assert sent_body(wire) == {"model": "gpt-x", "messages": [{"role": "user", "content": "What is 2 + 2?"}]}
    assert sent(wire).headers["content-type"] == "application/json"
    assert "authorization" not in sent(wire).headers
    assert (answer.text, answer.finish_reason, answer.model) == ("4", "stop", "gpt-x-2026")
    assert (answer.request_id, answer.tier) == ("req_7", "realtime")
    assert jsontext.decode(answer.body) == REPLY


async def test_the_headers_of_the_job(
    make_chat: MakeChat, wire: respx.MockRouter, question: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    wire.post(URL).respond(json=REPLY)
    settings = {"organization": "org-1", "project": "proj-1", "headers": {"X-Title": "mill"}}
    async with make_chat(api_key="env:MY_KEY", **settings) as chat:
        await chat.complete(question, timeout=5)
    headers = sent(wire).headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert (headers["openai-organization"], headers["openai-project"], headers["x-title"]) == (
        "org-1",
        "proj-1",
        "mill",
    )


async def test_the_key_of_the_environment_does_not_go_to_another_host(
    make_chat: MakeChat, wire: respx.MockRouter, question: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    wire.post(URL).respond(json=REPLY)
    async with make_chat() as chat:
        await chat.complete(question, timeout=5)
    assert KEY not in str(sent(wire).headers.raw)


@pytest.mark.parametrize(
    ("settings", "params", "expected"),
    [
        ({}, {"temperature": 0, "max_tokens": 5}, {"temperature": 0, "max_tokens": 5}),
        ({}, {"max_completion_tokens": 5}, {"max_completion_tokens": 5}),
        ({}, {"model": "gpt-y"}, {"model": "gpt-y"}),
        ({}, {"model": None}, {}),
        ({}, {"stream": True, "stream_options": {"include_usage": True}}, {}),
        ({"extra_body": {"stream": True}}, {}, {}),
        ({"extra_body": {"top_k": 20, "temperature": 1}}, {"temperature": 0}, {"top_k": 20, "temperature": 1}),
        ({"extra_body": {"model": "served"}}, {"model": "gpt-y"}, {"model": "served"}),
        ({"service_tier": "flex"}, {}, {"service_tier": "flex"}),
        ({"service_tier": "flex"}, {"service_tier": "default"}, {"service_tier": "default"}),
    ],
)
async def test_the_body(
    make_chat: MakeChat, wire: respx.MockRouter, settings: dict[str, Any], params: dict[str, Any], expected: Any
) -> None:
    wire.post(URL).respond(json=REPLY)
    async with make_chat(**settings) as chat:
        await chat.complete(Request(id="1", messages=(Message("user", "x"),), params=params), timeout=5)
    assert sent_body(wire) == {"model": "gpt-x", "messages": [{"role": "user", "content": "x"}], **expected}


async def test_messages_go_as_they_came(make_chat: MakeChat, wire: respx.MockRouter) -> None:
    wire.post(URL).respond(json=REPLY)
    conversation: list[dict[str, Any]] = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "u"}}]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": {}}]},
        {"role": "tool", "content": "4", "tool_call_id": "c"},
        {"role": "user", "content": "a\u2028\u0000\N{GRINNING FACE}", "name": "ann"},
    ]
    async with make_chat() as chat:
        await chat.complete(Request(id="1", messages=tuple(map(Message.from_dict, conversation))), timeout=5)
    assert sent_body(wire)["messages"] == conversation


async def test_the_official_types_accept_the_body(make_chat: MakeChat, wire: respx.MockRouter) -> None:
    wire.post(URL).respond(json=REPLY)
    messages = (Message("system", "Be brief."), Message("user", [{"type": "text", "text": "2 + 2?"}]))
    params = {"temperature": 0, "max_completion_tokens": 5, "seed": 1, "stop": ["\n"], "service_tier": "flex"}
    async with make_chat() as chat:
        await chat.complete(Request(id="1", messages=messages, params=params), timeout=5)
    adapter = TypeAdapter(completion_create_params.CompletionCreateParamsNonStreaming)
    assert set(adapter.validate_python(sent_body(wire))) == {"model", "messages", *params}


ENDLESS: dict[str, Any] = {}
ENDLESS["again"] = ENDLESS


@pytest.mark.parametrize("value", [object(), {("a", "tuple"): 1}, ENDLESS])
async def test_a_request_that_is_no_json_fails_for_good_without_a_call(
    make_chat: MakeChat, wire: respx.MockRouter, value: Any
) -> None:
    route = wire.post(URL).respond(json=REPLY)
    async with make_chat() as chat:
        with pytest.raises(Permanent, match="cannot be written as JSON"):
            await chat.complete(Request(id="1", params={"x": value}), timeout=5)
    assert route.call_count == 0


async def test_an_error_reply_is_classified_with_all_it_says(
    make_chat: MakeChat, wire: respx.MockRouter, question: Request
) -> None:
    body = {"error": {"message": "Rate limit reached on tokens per min (TPM)", "type": "tokens", "code": None}}
    wire.post(URL).respond(429, json=body, headers={"Retry-After": "3", "x-request-id": "req_9"})
    async with make_chat() as chat:
        with pytest.raises(Throttled, match="tokens per min") as caught:
            await chat.complete(question, timeout=5)
    failure = caught.value
    assert (failure.retry_after, failure.dimension, failure.http_status) == (3, "tokens", 429)
    assert (failure.request_id, failure.code, failure.retryable) == ("req_9", "rate_limited", True)


async def test_an_empty_account_is_not_asked_twice(
    make_chat: MakeChat, wire: respx.MockRouter, question: Request
) -> None:
    body = {"error": {"message": "You exceeded your current quota", "type": "insufficient_quota"}}
    route = wire.post(URL).respond(429, json=body)
    async with make_chat() as chat:
        with pytest.raises(QuotaExhausted):
            await chat.complete(question, timeout=5)
    assert route.call_count == 1


async def test_a_refused_call_without_a_key_says_that_none_was_sent(
    make_chat: MakeChat, wire: respx.MockRouter, question: Request
) -> None:
    wire.post(URL).respond(401, text="Unauthorized")
    async with make_chat() as chat:
        with pytest.raises(AuthFailed, match="no key was sent") as caught:
            await chat.complete(question, timeout=5)
    assert caught.value.http_status == 401


@pytest.mark.parametrize("status", [200, 400, 401, 429, 500])
@pytest.mark.parametrize(
    "shape", ['{{"error": "bad key {key}"}}', "<p>{key}</p>", "{key}" * 50, '{{"choices": "{key}"}}']
)
async def test_a_key_that_the_server_sends_back_is_in_no_message(
    make_chat: MakeChat,
    wire: respx.MockRouter,
    question: Request,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    status: int,
    shape: str,
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    caplog.set_level(0)
    wire.post(URL).respond(status, text=shape.format(key=KEY))
    async with make_chat(api_key="env:MY_KEY") as chat:
        with pytest.raises(Exception, match=r"\*\*\*") as caught:
            await chat.complete(question, timeout=5)
        shown = repr((chat, vars(chat), chat._endpoint, caught.value, caught.value.__context__, str(caught.value)))
    assert "sk-canary" not in shown + caplog.text + str(caught.getrepr(style="native"))


async def test_a_key_that_is_no_secret_leaves_answers_alone(
    make_chat: MakeChat, wire: respx.MockRouter, question: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "ollama")
    wire.post(URL).respond(400, json={"error": "ollama cannot do that"})
    async with make_chat(api_key="env:MY_KEY") as chat:
        with pytest.raises(Permanent, match="ollama cannot do that"):
            await chat.complete(question, timeout=5)


def test_the_hook_registers_the_provider() -> None:
    from promptmill_openai import chat

    found: dict[str, Any] = {}
    chat.register_provider(found.__setitem__)
    assert found == {"openai-chat": chat.OpenAIChatOptions}


async def test_what_it_says_of_its_limits_is_read_now_and_then(
    make_chat: MakeChat, wire: respx.MockRouter, question: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of answers a second say the same; reading them all would cost more than the answers."""
    now = 0.0
    monkeypatch.setattr(SystemClock, "now", lambda _: now)
    told = {"x-ratelimit-limit-requests": "600", "x-ratelimit-remaining-requests": "599"}
    wire.post(URL).mock(
        side_effect=[
            httpx.Response(200, json=REPLY),
            *[httpx.Response(200, json=REPLY, headers=told)] * 3,
            httpx.Response(429, headers=told),
        ]
    )
    async with make_chat() as chat:
        read = []
        for now in (0.0, 0.001, 0.002, 0.012):  # noqa: B007 - the clock looks at it
            read.append(len((await chat.complete(question, timeout=5)).limits))
        assert read == [0, 1, 0, 1]
        with pytest.raises(Throttled) as refused:
            await chat.complete(question, timeout=5)
        assert len(refused.value.limits) == 1
