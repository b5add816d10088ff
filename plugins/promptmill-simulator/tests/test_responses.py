from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest

from promptmill_simulator import Simulator

Check = Callable[[str, Any], None]


@pytest.fixture(scope="module")
def sim(simulate: Callable[..., Simulator]) -> Simulator:
    return simulate(answer_tokens="40")


def ask(sim: Simulator, **body: Any) -> httpx.Response:
    return httpx.post(f"{sim.base_url}/responses", json={"model": "gpt-5-mini", "input": "hi", **body})


@pytest.mark.parametrize(
    "question",
    ["hi", [{"role": "user", "content": "hi"}, {"role": "user", "content": [{"type": "input_text", "text": "x"}]}]],
)
def test_the_official_client_reads_a_response(
    sim: Simulator, client_of: Callable[..., openai.OpenAI], question: Any
) -> None:
    response = client_of(sim).responses.create(model="gpt-5-mini", input=question, instructions="Be brief.")
    assert response.status == "completed"
    assert response.usage is not None
    assert len(response.output_text.split(" ")) == response.usage.output_tokens == 40


def test_replies_match_the_schema(sim: Simulator, matches_schema: Check) -> None:
    matches_schema("Response", ask(sim, metadata={"a": "b"}, temperature=0.5).json())
    cut = ask(sim, max_output_tokens=16).json()
    matches_schema("Response", cut)
    assert (cut["status"], cut["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": None}, "input"),
        ({"input": 5}, "input"),
        ({"input": ["x"]}, "input[0]"),
        ({"max_output_tokens": 1}, "max_output_tokens"),
        ({"stream": True}, "stream"),
        ({"background": True}, "background"),
    ],
)
def test_wrong_requests_are_told_why(sim: Simulator, matches_schema: Check, body: dict[str, Any], param: str) -> None:
    reply = ask(sim, **body)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)
    matches_schema("ErrorResponse", reply.json())
