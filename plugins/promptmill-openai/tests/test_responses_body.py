from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import response_create_params
from pydantic import TypeAdapter

from promptmill.models import Message
from promptmill_openai.responses_body import body_of


def chat(*messages: dict[str, Any], **params: Any) -> dict[str, Any]:
    return body_of([Message.from_dict(message) for message in messages], params)


USER = {"role": "user", "content": "2 + 2?"}


def test_a_plain_question() -> None:
    assert chat(USER) == {"input": [USER]}


def test_a_system_message_at_the_start_becomes_the_instructions() -> None:
    body = chat({"role": "system", "content": "Be brief."}, USER, {"role": "system", "content": "Be kind."})
    assert body == {"instructions": "Be brief.", "input": [USER, {"role": "developer", "content": "Be kind."}]}


def test_instructions_of_the_params_stay() -> None:
    body = chat({"role": "system", "content": "Be brief."}, USER, instructions="Be loud.")
    assert body == {"instructions": "Be loud.", "input": [{"role": "developer", "content": "Be brief."}, USER]}


def test_content_parts() -> None:
    parts = [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,x"}},
        {"type": "image_url", "image_url": {"url": "u", "detail": "low"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "input_text", "text": "b"},
        {"type": "image_url", "image_url": "u"},
    ]
    assert chat({"role": "user", "content": parts})["input"][0]["content"] == [
        {"type": "input_text", "text": "a"},
        {"type": "input_image", "image_url": "data:image/png;base64,x", "detail": "auto"},
        {"type": "input_image", "image_url": "u", "detail": "low"},
        {"type": "input_file", "file_id": "file-1"},
        {"type": "input_text", "text": "b"},
        {"type": "image_url", "image_url": "u"},
    ]
    answer = chat(
        {"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "no"}]}
    )
    assert answer["input"][0]["content"] == [
        {"type": "output_text", "text": "a"},
        {"type": "refusal", "refusal": "no"},
    ]


def test_tool_calls_and_their_outputs_become_items() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}
    body = chat(
        USER,
        {"role": "assistant", "content": "Let me see.", "tool_calls": [call, {"type": "custom"}, None]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "4"},
    )
    item = {"type": "function_call", "call_id": "call_1", "name": "add", "arguments": '{"a": 2}'}
    assert body["input"] == [
        USER,
        {"role": "assistant", "content": "Let me see."},
        item,
        item,
        {"type": "function_call_output", "call_id": "call_1", "output": "4"},
    ]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"temperature": 0, "seed": 1}, {"temperature": 0, "seed": 1}),
        ({"max_tokens": 5}, {"max_output_tokens": 5}),
        ({"max_completion_tokens": 6, "max_tokens": 5}, {"max_output_tokens": 6}),
        ({"max_output_tokens": 7, "max_tokens": 5}, {"max_output_tokens": 7}),
        ({"max_tokens": None}, {}),
        ({"reasoning_effort": "low"}, {"reasoning": {"effort": "low"}}),
        ({"reasoning_effort": "low", "reasoning": {"summary": "auto"}},
         {"reasoning": {"effort": "low", "summary": "auto"}}),
        ({"reasoning_effort": "low", "reasoning": {"effort": "high"}}, {"reasoning": {"effort": "high"}}),
        ({"verbosity": "low", "response_format": {"type": "json_object"}},
         {"text": {"verbosity": "low", "format": {"type": "json_object"}}}),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "strict": True}}},
         {"text": {"format": {"type": "json_schema", "name": "n", "schema": {}, "strict": True}}}),
        ({"tools": [{"type": "function", "function": {"name": "add", "parameters": {}}}, {"type": "web_search"}]},
         {"tools": [{"type": "function", "name": "add", "parameters": {}}, {"type": "web_search"}]}),
        ({"tool_choice": {"type": "function", "function": {"name": "add"}}},
         {"tool_choice": {"type": "function", "name": "add"}}),
        ({"tool_choice": "auto"}, {"tool_choice": "auto"}),
    ],
)  # fmt: skip
def test_params(params: dict[str, Any], expected: dict[str, Any]) -> None:
    assert chat(**params) == {"input": [], **expected}


def test_the_official_types_accept_the_body() -> None:
    body = chat(
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "u"}}]},
        max_tokens=50,
        reasoning_effort="low",
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "strict": True}},
        tools=[{"type": "function", "function": {"name": "add", "parameters": {}, "strict": True}}],
        tool_choice={"type": "function", "function": {"name": "add"}},
    )
    accepted = TypeAdapter(response_create_params.ResponseCreateParamsNonStreaming).validate_python(body)
    assert set(accepted) == set(body)


VALUES = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.none() | st.text()) | st.just({})


@given(
    st.lists(
        st.builds(
            Message,
            st.sampled_from(["system", "user", "assistant", "tool", "odd"]),
            st.none() | st.text() | st.lists(st.dictionaries(st.sampled_from(["type", "text", "image_url"]), VALUES)),
            st.dictionaries(st.sampled_from(["tool_calls", "tool_call_id"]), VALUES),
        )
    ),
    st.dictionaries(
        st.sampled_from(["tools", "tool_choice", "response_format", "reasoning", "reasoning_effort", "max_tokens"]),
        VALUES,
    ),
)
def test_any_chat_is_translated(messages: list[Message], params: dict[str, Any]) -> None:
    before = dict(params)
    assert isinstance(body_of(messages, params)["input"], list)
    assert params == before
