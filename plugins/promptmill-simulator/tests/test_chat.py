"""Chat over a real socket: the official client in strict validation, and the official schemas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import httpx
import openai
import pydantic
import pytest

from promptmill.secrets import Secret
from promptmill_simulator import Simulator

Start = Callable[..., Simulator]
ClientOf = Callable[..., openai.OpenAI]
Check = Callable[[str, Any], None]
HELLO: Any = [{"role": "user", "content": "Say hello."}]


@pytest.fixture(scope="module")
def sim(simulate: Start) -> Simulator:
    return simulate(seed=1)


@pytest.fixture
def client(sim: Simulator, client_of: ClientOf) -> openai.OpenAI:
    return client_of(sim)


def ask(sim: Simulator, **body: Any) -> httpx.Response:
    return httpx.post(f"{sim.base_url}/chat/completions", json={"model": "gpt-5-mini", "messages": HELLO, **body})


def test_the_official_client_reads_an_answer(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="gpt-5-mini", messages=HELLO)
    completion = raw.parse()
    usage = completion.usage
    assert usage is not None
    assert completion.choices[0].message.content
    assert len(completion.choices[0].message.content.split(" ")) == usage.completion_tokens
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert raw.headers["x-request-id"].startswith("req_")
    assert raw.headers["openai-processing-ms"].isdecimal()


async def test_the_official_async_client_reads_an_answer(sim: Simulator) -> None:
    async with openai.AsyncOpenAI(
        base_url=sim.base_url, api_key="sk-made-up", max_retries=0, _strict_response_validation=True
    ) as client:
        completion = await client.chat.completions.create(model="gpt-5-mini", messages=HELLO, max_completion_tokens=3)
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 3


@pytest.mark.parametrize("extra", [{}, {"n": 3}, {"max_tokens": 2}, {"service_tier": "flex"}])
def test_replies_match_the_schema(sim: Simulator, matches_schema: Check, extra: dict[str, Any]) -> None:
    reply = ask(sim, **extra)
    assert reply.status_code == 200
    matches_schema("CreateChatCompletionResponse", reply.json())
    assert len(reply.json()["choices"]) == extra.get("n", 1)
    assert reply.json()["service_tier"] == extra.get("service_tier", "default")


def test_streams_say_the_same_as_whole_answers(sim: Simulator, client: openai.OpenAI, matches_schema: Check) -> None:
    whole = client.chat.completions.create(model="m", messages=HELLO)
    chunks = list(
        client.chat.completions.create(model="m", messages=HELLO, stream=True, stream_options={"include_usage": True})
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert (chunks[-1].choices, chunks[-1].usage) == ([], whole.usage)
    for event in ask(sim, stream=True).text.split("\n\n")[:-2]:
        matches_schema("CreateChatCompletionStreamResponse", httpx.Response(200, text=event[6:]).json())


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"model": None}, "model", "missing_required_parameter"),
        ({"model": 5}, "model", "invalid_type"),
        ({"messages": None}, "messages", "missing_required_parameter"),
        ({"messages": []}, "messages", "empty_array"),
        ({"messages": "hi"}, "messages", "invalid_type"),
        ({"messages": ["hi"]}, "messages[0]", "invalid_type"),
        ({"messages": [{"role": "boss", "content": "x"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "invalid_type"),
        ({"max_tokens": 0}, "max_tokens", "integer_below_min_value"),
        ({"max_tokens": "many"}, "max_tokens", "invalid_type"),
        ({"n": 129}, "n", "integer_above_max_value"),
    ],
)
def test_wrong_requests_are_told_why(
    sim: Simulator, matches_schema: Check, body: dict[str, Any], param: str, code: str
) -> None:
    reply = ask(sim, **body)
    assert reply.status_code == 400
    matches_schema("ErrorResponse", reply.json())
    assert (reply.json()["error"]["param"], reply.json()["error"]["code"]) == (param, code)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"model": NaN}', b"\xff"])
def test_bodies_that_are_no_object_are_refused(sim: Simulator, matches_schema: Check, content: bytes) -> None:
    reply = httpx.post(f"{sim.base_url}/chat/completions", content=content)
    assert reply.status_code == 400
    matches_schema("ErrorResponse", reply.json())


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/nowhere", 404), ("DELETE", "/v1/models", 405)])
def test_unknown_places(sim: Simulator, matches_schema: Check, method: str, path: str, status: int) -> None:
    reply = httpx.request(method, sim.url + path)
    assert reply.status_code == status
    matches_schema("ErrorResponse", reply.json())


def test_message_parts_are_read(simulate: Start) -> None:
    echo = simulate(answers="echo")
    parts = [
        {"type": "text", "text": "see "},
        {"type": "image_url", "image_url": {"url": "x"}},
        {"type": "text", "text": "it"},
    ]
    reply = ask(echo, messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": parts}])
    assert reply.json()["choices"][0]["message"]["content"] == "Be brief.\nsee it"


def test_answers_follow_from_seed_and_question(simulate: Start) -> None:
    def text(sim: Simulator, question: str) -> str:
        reply = ask(sim, messages=[{"role": "user", "content": question}])
        return str(reply.json()["choices"][0]["message"]["content"])

    one, same, other = simulate(seed=7), simulate(seed=7), simulate(seed=8)
    assert text(one, "a") == text(same, "a")
    assert text(one, "a") != text(one, "b")
    assert text(one, "a") != text(other, "a")


def test_the_official_client_parses_structured_answers(client: openai.OpenAI) -> None:
    class Verdict(pydantic.BaseModel):
        sentiment: Literal["good", "bad"]
        score: int
        reasons: list[str]

    chat = client.chat.completions.parse(model="m", messages=HELLO, response_format=Verdict)
    response = client.responses.parse(model="m", input="hello", text_format=Verdict)
    assert isinstance(chat.choices[0].message.parsed, Verdict)
    assert isinstance(response.output_parsed, Verdict)


def test_models(
    sim: Simulator, simulate: Start, client: openai.OpenAI, client_of: ClientOf, matches_schema: Check
) -> None:
    assert [model.id for model in client.models.list()]
    assert client.models.retrieve("whatever").id == "whatever"
    matches_schema("ListModelsResponse", httpx.get(f"{sim.base_url}/models").json())
    matches_schema("Model", httpx.get(f"{sim.base_url}/models/gpt-5-mini").json())
    listed = client_of(simulate(models=["tiny"]))
    assert [model.id for model in listed.models.list()] == ["tiny"]
    with pytest.raises(openai.NotFoundError) as missing:
        listed.chat.completions.create(model="huge", messages=HELLO)
    assert missing.value.code == "model_not_found"


def test_a_key_is_asked_for_when_there_is_one(simulate: Start, client_of: ClientOf, matches_schema: Check) -> None:
    sim = simulate(api_key=Secret("sk-right"))
    assert client_of(sim, key="sk-right").chat.completions.create(model="m", messages=HELLO).choices
    with pytest.raises(openai.AuthenticationError) as refused:
        client_of(sim, key="sk-wrong").chat.completions.create(model="m", messages=HELLO)
    assert refused.value.code == "invalid_api_key"
    assert "sk-" not in str(refused.value)
    nothing = ask(sim)
    assert nothing.status_code == 401
    matches_schema("ErrorResponse", nothing.json())
    assert httpx.get(f"{sim.url}/_sim/ledger").json()["outcomes"]["rejected"] == 2
