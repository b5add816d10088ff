"""Requests to bodies: what is passed on, what is put in, what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from promptmill import jsontext
from promptmill.errors import Permanent
from promptmill.models import Message, Request
from promptmill_llama.chat import chat_body


def body(*messages: Message, **params: Any) -> dict[str, Any]:
    request = Request(id="1", messages=messages or (Message("user", "hi"),), params=params)
    decoded: dict[str, Any] = jsontext.decode(chat_body(request, system="Be brief.", max_tokens=7))
    return decoded


def test_a_request_without_a_system_prompt_gets_one() -> None:
    assert body()["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_system_prompt_of_the_request_stays_the_only_one(role: str) -> None:
    messages = body(Message(role, "Rhyme."), Message("user", "hi", {"name": "x"}))["messages"]
    assert messages == [{"role": "system", "content": "Rhyme."}, {"role": "user", "content": "hi"}]


def test_sampling_is_passed_on_and_the_rest_left_out() -> None:
    made = body(temperature=0, top_p=0.5, seed=3, stop=["a"], model="other", user="me", id_slot=2, cache_prompt=False)
    assert {name: made[name] for name in ("temperature", "top_p", "seed", "stop")} == {
        "temperature": 0,
        "top_p": 0.5,
        "seed": 3,
        "stop": ["a"],
    }
    assert not {"model", "user", "id_slot", "cache_prompt"} & made.keys()


@pytest.mark.parametrize(
    ("params", "limit"),
    [
        ({}, 7),
        ({"max_tokens": None}, 7),
        ({"max_tokens": 20}, 20),
        ({"max_tokens": 20, "max_completion_tokens": 30}, 30),
    ],
)
def test_the_length_is_always_bounded(params: dict[str, Any], limit: int) -> None:
    assert body(**params)["max_tokens"] == limit


@pytest.mark.parametrize("limit", [0, -1, 1.5, "many", True])
def test_a_nonsense_length_is_refused(limit: object) -> None:
    with pytest.raises(Permanent, match="whole number of 1 or more") as caught:
        body(max_tokens=limit)
    assert caught.value.code == "invalid_parameter"


@pytest.mark.parametrize("params", [{"tools": [{}]}, {"n": 2}, {"logprobs": True}])
def test_answers_of_another_form_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(Permanent, match=next(iter(params))) as caught:
        body(**params)
    assert caught.value.code == "unsupported_parameter"


def test_parameters_that_ask_for_nothing_special_are_fine() -> None:
    assert not {"n", "tools", "logprobs"} & body(n=1, tools=[], logprobs=False).keys()


def test_text_parts_are_joined_and_other_parts_refused() -> None:
    parts: list[dict[str, Any]] = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert body(Message("user", parts))["messages"][1]["content"] == "ab"
    with pytest.raises(Permanent, match="image_url") as caught:
        body(Message("user", [*parts, {"type": "image_url", "image_url": {"url": "x"}}]))
    assert caught.value.code == "unsupported_content"


def test_a_request_without_messages_is_refused() -> None:
    with pytest.raises(Permanent, match="no messages"):
        chat_body(Request(id="1"), system="s", max_tokens=1)


def test_lone_surrogates_do_not_break_the_body() -> None:
    assert body(Message("user", "a\ud800b"))["messages"][1]["content"] == "a\N{REPLACEMENT CHARACTER}b"
