"""``openai-embeddings``: what is sent, and vectors back in the order of the input."""

from __future__ import annotations

from typing import Any

import pytest
import respx
from openai.types import embedding_create_params
from pydantic import TypeAdapter

from promptmill import jsontext
from promptmill.errors import BadOutput, Permanent, ProviderError, Transient
from promptmill.models import UNKNOWN_USAGE, Message, Request, Response, TokenEstimate, Usage
from promptmill.options import BuildContext
from promptmill_openai import OpenAIEmbeddings, OpenAIEmbeddingsOptions

URL = "http://llm.test/v1/embeddings"


def provider(**settings: Any) -> OpenAIEmbeddings:
    merged = {"model": "embed-x", "base_url": "http://llm.test", "http": {"backend": "httpx"}, **settings}
    return OpenAIEmbeddingsOptions.model_validate(merged).build(BuildContext(name="vectors"))


def reply(*vectors: Any, **members: Any) -> dict[str, Any]:
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    usage = {"prompt_tokens": 5, "total_tokens": 5}
    return {"object": "list", "model": "embed-x-1", "data": data, "usage": usage, **members}


def embed(text: str = "hello", **params: Any) -> Request:
    if "input" in params:
        return Request(id="1", operation="embeddings", params=params)
    return Request(id="1", messages=(Message("user", text),), params=params)


async def ask(wire: respx.MockRouter, value: Any, request: Request, **settings: Any) -> Response:
    wire.post(URL).respond(json=value, headers={"x-request-id": "req_1"})
    async with provider(**settings) as embeddings:
        return await embeddings.complete(request, timeout=5)


def sent(wire: respx.MockRouter) -> Any:
    return jsontext.decode(wire.calls.last.request.content)


async def test_the_text_of_the_message_becomes_a_vector(wire: respx.MockRouter) -> None:
    value = reply([0.1, -2, 3e-05])
    answer = await ask(wire, value, embed(dimensions=3))
    assert sent(wire) == {"input": "hello", "model": "embed-x", "dimensions": 3}
    assert answer == Response(
        text="[0.1,-2,0.00003]",
        finish_reason="stop",
        model="embed-x-1",
        usage=Usage(input_tokens=5, output_tokens=0),
        request_id="req_1",
        body=answer.body,
    )
    assert jsontext.decode(answer.text or "") == [0.1, -2, 3e-05]
    assert jsontext.decode(answer.body) == value


@pytest.mark.parametrize(
    ("given", "vectors", "text"),
    [
        ("hello", [[1.5]], "[1.5]"),
        ([1, 2, 3], [[1.5]], "[1.5]"),
        (["a", "b"], [[1.5], [2.5]], "[[1.5],[2.5]]"),
        ([[1, 2], [3]], [[1.5], [2.5]], "[[1.5],[2.5]]"),
        (["a"], [[1.5]], "[[1.5]]"),
    ],
)
async def test_the_answer_has_the_shape_of_the_input(
    wire: respx.MockRouter, given: Any, vectors: list[list[float]], text: str
) -> None:
    assert (await ask(wire, reply(*vectors), embed(input=given))).text == text
    assert sent(wire)["input"] == given


async def test_vectors_are_put_in_order(wire: respx.MockRouter) -> None:
    value = reply([1.5], [2.5], [3.5])
    value["data"].reverse()
    assert (await ask(wire, value, embed(input=["a", "b", "c"]))).text == "[[1.5],[2.5],[3.5]]"


async def test_vectors_without_an_index_are_in_order(wire: respx.MockRouter) -> None:
    value = reply(data=[{"embedding": [1.5]}, {"embedding": [2.5]}], usage=None)
    answer = await ask(wire, value, embed(input=["a", "b"]))
    assert answer.text == "[[1.5],[2.5]]"
    assert answer.usage == UNKNOWN_USAGE


async def test_vectors_are_never_asked_for_as_base64(wire: respx.MockRouter) -> None:
    await ask(wire, reply([1.5]), embed(encoding_format="base64"), extra_body={"user": "u"})
    assert sent(wire) == {"input": "hello", "model": "embed-x", "user": "u"}
    accepted = TypeAdapter(embedding_create_params.EmbeddingCreateParams).validate_python(sent(wire))
    assert set(accepted) == {"input", "model", "user"}


@pytest.mark.parametrize(
    ("value", "kind", "code"),
    [
        (reply(), BadOutput, "bad_reply"),
        (reply([1.5], [2.5]), BadOutput, "bad_reply"),
        (reply([]), BadOutput, "bad_reply"),
        (reply(None), BadOutput, "bad_reply"),
        (reply("AACAPw=="), BadOutput, "bad_reply"),
        (reply(["1"]), BadOutput, "bad_reply"),
        (reply([True]), BadOutput, "bad_reply"),
        (reply(data=None), BadOutput, "bad_reply"),
        (reply(data=[None]), BadOutput, "bad_reply"),
        ({"error": {"code": 500, "message": "m"}}, Transient, "server_error"),
    ],
)
async def test_what_holds_no_vector_is_a_failure(
    wire: respx.MockRouter, value: Any, kind: type[ProviderError], code: str
) -> None:
    with pytest.raises(kind) as caught:
        await ask(wire, value, embed())
    assert caught.value.code == code


@pytest.mark.parametrize("count", [0, 2])
async def test_a_conversation_is_not_one_text(wire: respx.MockRouter, count: int) -> None:
    request = Request(id="1", messages=(Message("user", "x"),) * count)
    with pytest.raises(Permanent, match=f"{count} messages"):
        await ask(wire, reply([1.5]), request)
    assert not wire.calls


def test_the_estimate() -> None:
    assert provider().estimate(embed("x" * 35)) == TokenEstimate(10, 0)
    assert provider().estimate(embed(input=["x" * 35, "y" * 35])) == TokenEstimate(20, 0)
    assert provider().estimate(embed(input=[7, 8, 9])) == TokenEstimate(3, 0)
    assert provider().estimate(embed(input="")) == TokenEstimate(1, 0)


def test_it_does_embeddings_and_prompts() -> None:
    assert OpenAIEmbeddings.operations == {"chat", "embeddings"}


def test_the_hook_registers_the_provider() -> None:
    from promptmill_openai import embeddings

    found: dict[str, Any] = {}
    embeddings.register_provider(found.__setitem__)
    assert found == {"openai-embeddings": OpenAIEmbeddingsOptions}
