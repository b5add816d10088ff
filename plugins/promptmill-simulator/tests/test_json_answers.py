from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from promptmill_simulator.answers import Words, parse_lengths
from promptmill_simulator.json_answers import JsonAnswers
from promptmill_simulator.task import Digester, Task

TREE = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
    "required": ["name", "next"],
    "additionalProperties": False,
}
LIST = {
    "type": "object",
    "properties": {"items": {"type": "array", "items": {"$ref": "#/$defs/item"}}},
    "required": ["items"],
    "$defs": {
        "item": {
            "type": "object",
            "properties": {"items": {"type": "array", "items": {"$ref": "#/$defs/item"}}},
            "required": ["items"],
        }
    },
}


def task(body: dict[str, Any], max_tokens: int | None = None) -> Task:
    return Task(
        operation="chat",
        model="m",
        prompt="",
        digest=Digester(0).digest(b"x"),
        input_tokens=5,
        max_output_tokens=max_tokens,
        body=body,
    )


def chat_form(schema: object) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}


ANSWERS = JsonAnswers(Words(parse_lengths("12")))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "integer", "minimum": 5, "maximum": 6}}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"type": "number", "exclusiveMinimum": 3}}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"type": "string", "minLength": 900}}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"type": "string", "maxLength": 3}}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"enum": ["x", "y", "z"]}, "b": {"const": 1}}, "required": ["a", "b"]},
        {"type": "object", "properties": {"a": {"type": ["boolean", "null"]}}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"type": "array", "minItems": 3, "items": {"type": "null"}}}},
        TREE,
        LIST,
        {},
    ],
)
async def test_answers_fit_the_schema(schema: dict[str, Any]) -> None:
    answer = await ANSWERS.answer(task(chat_form(schema)), 0)
    jsonschema.validate(json.loads(answer.text), schema)
    assert answer.finish_reason == "stop"


async def test_the_form_of_responses_is_known_too() -> None:
    body = {"text": {"format": {"type": "json_schema", "name": "x", "schema": TREE}}}
    jsonschema.validate(json.loads((await ANSWERS.answer(task(body), 0)).text), TREE)


async def test_any_object_will_do_without_a_schema() -> None:
    answer = await ANSWERS.answer(task({"response_format": {"type": "json_object"}}), 0)
    assert list(json.loads(answer.text)) == ["answer"]


@pytest.mark.parametrize("body", [{}, {"response_format": {"type": "text"}}, {"text": {"format": None}}, {"text": 5}])
async def test_others_get_text(body: dict[str, Any]) -> None:
    assert len((await ANSWERS.answer(task(body), 0)).text.split(" ")) == 12


async def test_a_cut_answer_is_no_json() -> None:
    answer = await ANSWERS.answer(task(chat_form(TREE), max_tokens=4), 0)
    assert (answer.finish_reason, answer.output_tokens) == ("length", 4)
    with pytest.raises(ValueError):
        json.loads(answer.text)
