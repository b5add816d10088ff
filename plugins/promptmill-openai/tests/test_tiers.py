"""The service tier of a call: what it waits for, what it is billed as, and what a lack of capacity is."""

from __future__ import annotations

from typing import Any

import pytest
import respx

from promptmill.errors import Throttled, Transient
from promptmill.models import Message, Request
from promptmill.options import BuildContext
from promptmill_openai import OpenAIChatOptions, OpenAIResponsesOptions
from promptmill_openai.tiers import TieredOptions, TieredProvider

CHAT = {"choices": [{"finish_reason": "stop", "message": {"content": "4"}}]}
RESPONSE = {
    "status": "completed",
    "output": [{"type": "message", "content": [{"type": "output_text", "text": "4"}]}],
}
BASE = "http://llm.test/v1"

both = pytest.mark.parametrize(
    ("options", "path", "reply"),
    [(OpenAIChatOptions, "/chat/completions", CHAT), (OpenAIResponsesOptions, "/responses", RESPONSE)],
)


def provider(options: type[TieredOptions], **settings: Any) -> TieredProvider:
    merged = {"model": "gpt-x", "base_url": BASE, "http": {"backend": "httpx"}, **settings}
    made = options.model_validate(merged).build(BuildContext(name="fast"))
    assert isinstance(made, TieredProvider)
    return made


def question(**params: Any) -> Request:
    return Request(id="1", messages=(Message("user", "2 + 2?"),), params=params)


@both
@pytest.mark.parametrize(
    ("given", "timeout"),
    [
        ({"service_tier": "flex"}, 900),
        ({"service_tier": "flex", "timeout": "30s"}, 30),
        ({"service_tier": "flex", "timeout": 600}, 600),
        ({"service_tier": "priority"}, 600),
        ({}, 600),
    ],
)
def test_flex_takes_longer(
    options: type[TieredOptions], path: str, reply: Any, given: dict[str, Any], timeout: float
) -> None:
    assert options.model_validate({"model": "gpt-x", **given}).timeout == timeout


@both
@pytest.mark.parametrize(
    ("asked", "own", "used", "tier"),
    [
        ("flex", None, "flex", "flex"),
        ("flex", None, "default", "realtime"),
        ("flex", None, "priority", "realtime"),
        ("flex", None, None, "flex"),
        ("flex", "default", None, "realtime"),
        ("auto", None, "flex", "flex"),
        ("auto", None, None, "realtime"),
        (None, "flex", None, "flex"),
        (None, None, None, "realtime"),
    ],
)
async def test_an_answer_is_billed_as_the_reply_says_else_as_asked(
    wire: respx.MockRouter,
    options: type[TieredOptions],
    path: str,
    reply: dict[str, Any],
    asked: str | None,
    own: str | None,
    used: str | None,
    tier: str,
) -> None:
    wire.post(BASE + path).respond(json={**reply, "service_tier": used} if used else reply)
    params = {"service_tier": own} if own else {}
    async with provider(options, service_tier=asked) as tiered:
        assert (await tiered.complete(question(**params), timeout=5)).tier == tier


@both
async def test_a_lack_of_capacity_is_told_from_a_rate_limit(
    wire: respx.MockRouter, options: type[TieredOptions], path: str, reply: Any
) -> None:
    wire.post(BASE + path).respond(429, json={"error": {"message": "Resource unavailable"}})
    async with provider(options, service_tier="flex") as tiered:
        with pytest.raises(Transient) as caught:
            await tiered.complete(question(), timeout=5)
        assert (caught.value.code, caught.value.http_status) == ("flex_unavailable", 429)
        with pytest.raises(Throttled):
            await tiered.complete(question(service_tier="default"), timeout=5)
    async with provider(options) as tiered:
        with pytest.raises(Throttled):
            await tiered.complete(question(), timeout=5)
