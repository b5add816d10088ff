from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest

from promptmill_simulator import Simulator

Check = Callable[[str, Any], None]


@pytest.fixture(scope="module")
def sim(simulate: Callable[..., Simulator]) -> Simulator:
    return simulate()


def ask(sim: Simulator, **body: Any) -> httpx.Response:
    return httpx.post(f"{sim.base_url}/embeddings", json={"model": "text-embedding-3-small", "input": "hi", **body})


def test_the_official_client_reads_vectors(sim: Simulator, client_of: Callable[..., openai.OpenAI]) -> None:
    # In strict mode the client refuses the base64 form, which it asks for by default itself.
    strict = client_of(sim).embeddings.create(model="m", input=["a", "b"], encoding_format="float", dimensions=8)
    packed = client_of(sim, strict=False).embeddings.create(model="m", input=["a", "b"], dimensions=8)
    assert [item.index for item in strict.data] == [0, 1]
    assert packed.data[1].embedding == pytest.approx(strict.data[1].embedding, abs=1e-6)
    assert strict.data[0].embedding != strict.data[1].embedding


def test_replies_match_the_schema(sim: Simulator, matches_schema: Check) -> None:
    reply = ask(sim).json()
    matches_schema("CreateEmbeddingResponse", reply)
    vector = reply["data"][0]["embedding"]
    assert len(vector) == 1536
    assert math.fsum(value * value for value in vector) == pytest.approx(1.0)


def test_base64_is_little_endian_floats(sim: Simulator) -> None:
    whole = ask(sim, dimensions=4).json()["data"][0]["embedding"]
    packed = ask(sim, dimensions=4, encoding_format="base64").json()["data"][0]["embedding"]
    assert list(struct.unpack("<4f", base64.b64decode(packed))) == pytest.approx(whole, abs=1e-6)


@pytest.mark.parametrize(("question", "count", "tokens"), [([1, 2, 3], 1, 3), ([[1, 2], [3]], 2, 3), (["abcde"], 1, 2)])
def test_token_ids_are_inputs_too(sim: Simulator, question: Any, count: int, tokens: int) -> None:
    reply = ask(sim, input=question, dimensions=2).json()
    assert (len(reply["data"]), reply["usage"]["prompt_tokens"]) == (count, tokens)


@pytest.mark.parametrize(
    ("question", "code"),
    [
        ("", None),
        ([], None),
        (["a", ""], None),
        ([["a"]], None),
        ({"a": 1}, "invalid_type"),
        (["a"] * 2049, None),
        ("a" * 4 * 8193, "context_length_exceeded"),
        (["a" * 4 * 8000] * 38, "max_tokens_per_request"),
    ],
)
def test_wrong_inputs_are_told_why(sim: Simulator, matches_schema: Check, question: Any, code: str | None) -> None:
    reply = ask(sim, input=question)
    assert reply.status_code == 400
    matches_schema("ErrorResponse", reply.json())
    assert reply.json()["error"]["code"] == code
