"""Whatever a server sends, ``complete`` returns a response or raises a ProviderError."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promptmill import jsontext
from promptmill.errors import ProviderError
from promptmill.http import HttpClient, HttpResponse
from promptmill.interfaces import RealtimeProvider
from promptmill.models import Message, Request, Response
from promptmill.options import BuildContext
from promptmill_openai import OpenAIChatOptions, OpenAIEmbeddingsOptions, OpenAIResponsesOptions

OPTIONS = [OpenAIChatOptions, OpenAIResponsesOptions, OpenAIEmbeddingsOptions]
REQUEST = Request(id="1", messages=(Message("user", "x"),))

NAMES = [
    "choices", "message", "content", "refusal", "text", "type", "finish_reason", "usage", "prompt_tokens",
    "completion_tokens", "prompt_tokens_details", "cached_tokens", "completion_tokens_details", "reasoning_tokens",
    "model", "service_tier", "error", "errors", "detail", "code", "metadata", "reason", "object", "param", "loc", "msg",
    "innererror", "output", "status", "incomplete_details", "input_tokens", "output_tokens", "data", "embedding",
    "index",
]  # fmt: skip
TEXTS = [
    "stop", "error", "abort", "rate_limit_exceeded", "insufficient_quota", "tokens", "message", "output_text",
    "refusal", "function_call", "completed", "failed", "incomplete", "queued", "flex", "502", "",
    "Please try again in 7m12s", "requests per day", "\x00\u2028\x1b[2J",
]  # fmt: skip
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from(TEXTS)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6),
    max_leaves=25,
)
HEADERS = st.dictionaries(
    st.sampled_from(["retry-after", "retry-after-ms", "x-should-retry", "x-request-id", "x-ratelimit-reset-tokens"]),
    st.text(),
    max_size=3,
)

SEEDS: list[dict[str, Any]] = [
    {
        "model": "m",
        "choices": [
            {"finish_reason": "stop", "message": {"content": [{"type": "text", "text": "a"}], "refusal": None}}
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 0}},
    },
    {"error": {"message": "m", "type": "tokens", "code": "rate_limit_exceeded", "metadata": {"reason": "r"}}},
    {"detail": [{"loc": ["body"], "msg": "m", "type": "missing"}]},
    {
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "a"}]}, {"type": "function_call"}],
        "usage": {"input_tokens": 1, "output_tokens": 2, "output_tokens_details": {"reasoning_tokens": 0}},
    },
    {"data": [{"index": 0, "embedding": [0.25, 1]}], "usage": {"prompt_tokens": 1}},
]


class Canned(HttpClient):
    """Answers every call with one reply."""

    def __init__(self, reply: HttpResponse) -> None:
        self.reply = reply

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None = None, timeout: float
    ) -> HttpResponse:
        return self.reply


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Have every provider complete a request against one canned reply; checks what comes of it."""
    canned = Canned(HttpResponse(200, {}, b""))
    monkeypatch.setattr("promptmill_openai.endpoint.open_client", lambda *_, **__: canned)
    providers: list[RealtimeProvider] = []
    for options_class in OPTIONS:
        options = options_class.model_validate({"model": "m", "base_url": "http://127.0.0.1:9"})
        providers.append(options.build(BuildContext(name="fuzzed")))

    async def complete(status: int, headers: Mapping[str, str], body: bytes) -> None:
        canned.reply = HttpResponse(status, headers, body)
        for provider in providers:
            async with provider:
                await check(provider)

    return complete


async def check(provider: RealtimeProvider) -> None:
    try:
        response = await provider.complete(REQUEST, timeout=1)
    except ProviderError as failure:
        jsontext.encode(failure.info()).decode()
    else:
        assert isinstance(response, Response)
        jsontext.encode([response.text, response.finish_reason, response.model, response.usage]).decode()


ONE_FIXTURE = [HealthCheck.function_scoped_fixture]  # the providers keep nothing from one call to the next


@settings(max_examples=2000, suppress_health_check=ONE_FIXTURE, deadline=None)
@given(status=st.integers(200, 599), headers=HEADERS, value=VALUES)
async def test_any_json(answer: Callable[..., Any], status: int, headers: dict[str, str], value: Any) -> None:
    await answer(status, headers, jsontext.encode(value))


@settings(max_examples=500, suppress_health_check=ONE_FIXTURE, deadline=None)
@given(status=st.integers(200, 599), body=st.binary(max_size=300))
async def test_any_bytes(answer: Callable[..., Any], status: int, body: bytes) -> None:
    await answer(status, {}, body)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"choices":' * 50_000,
        b"-" + b"9" * 5000,
        b'{"usage": {"prompt_tokens": ' + b"9" * 5000 + b"}}",
        b'{"choices": NaN}',
        b'{"choices": [], "choices": 1}',
        b'{"error": "\\ud83d"}',
        b"\xff\xfe{\x00}\x00",
        b"\x1f\x8b\x08\x00",
        b"data: {}\n\ndata: [DONE]\n\n",
    ],
    ids=range(10),
)
@pytest.mark.parametrize("status", [200, 400, 500])
async def test_hostile_bodies(answer: Callable[..., Any], status: int, body: bytes) -> None:
    await answer(status, {}, body)


@pytest.mark.slow
@pytest.mark.parametrize("mutations", [20_000, pytest.param(100_000, marks=pytest.mark.heavy)])
async def test_thousands_of_mutations(answer: Callable[..., Any], mutations: int) -> None:
    """Real replies with members swapped for anything, and with bytes changed."""
    rng = random.Random(7)
    odd: list[Any] = [None, True, -1, 2**70, 1e300, "", "x", [], {}, [None], {"error": {}}, [[]], *TEXTS]
    for _ in range(mutations):
        value = copy.deepcopy(rng.choice(SEEDS))
        for _ in range(rng.randint(0, 3)):
            mutate(value, rng, odd)
        body = bytearray(jsontext.encode(value))
        if rng.random() < 0.3:
            body[rng.randrange(len(body))] = rng.randrange(256)
        if rng.random() < 0.1:
            del body[rng.randrange(len(body)) :]
        await answer(rng.choice([200, 200, 200, 400, 401, 402, 403, 429, 500, 503]), {}, bytes(body))


def mutate(value: Any, rng: random.Random, odd: list[Any]) -> None:
    """Replace, add or drop one member somewhere in ``value``."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    if not keys:
        return
    key = rng.choice(keys)
    if isinstance(value[key], dict | list) and rng.random() < 0.7:
        mutate(value[key], rng, odd)
    elif isinstance(value, dict) and rng.random() < 0.3:
        value.pop(key)
        value[rng.choice(NAMES)] = copy.deepcopy(rng.choice(odd))
    else:
        value[key] = copy.deepcopy(rng.choice(odd))
