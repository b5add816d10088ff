"""The records: what they say of themselves, and that the result record is the contract."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptmill import jsontext
from promptmill.models import UNKNOWN_USAGE, ErrorInfo, Message, Origin, Request, Result, Row, Usage

PARTS: list[dict[str, Any]] = [
    {"type": "text", "text": "look: "},
    {"type": "image_url", "image_url": {"url": "x"}},
    {"type": "text", "text": "there"},
    {"type": "text", "text": 5},
    {"text": None},
    {},
]

ANY_TEXT = st.text(st.characters(exclude_categories=()))


class TestMessage:
    @pytest.mark.parametrize(
        ("content", "text", "has_image"),
        [
            ("hello", "hello", False),
            ("image", "image", False),
            ("", "", False),
            (None, "", False),
            ([], "", False),
            (PARTS, "look: there", True),
            ([{"type": "input_image", "file_id": "x"}], "", True),
            ([{"type": "input_text", "text": "a"}], "a", False),
            ([{"type": 5}], "", False),
        ],
    )
    def test_text_and_images(self, content: str | list[dict[str, object]] | None, text: str, has_image: bool) -> None:
        message = Message("user", content)
        assert message.text == text
        assert message.has_image is has_image

    @pytest.mark.parametrize(
        "data",
        [
            {"role": "user", "content": "x"},
            {"role": "user", "content": PARTS, "name": "n"},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
            {"role": "tool", "content": "", "tool_call_id": "1", "": {"deep": [1, None]}},
        ],
    )
    def test_the_chat_form_comes_back_as_it_was(self, data: dict[str, object]) -> None:
        assert Message.from_dict(data).as_dict() == data

    def test_no_content_is_none(self) -> None:
        assert Message.from_dict({"role": "assistant"}).as_dict() == {"role": "assistant", "content": None}

    @pytest.mark.parametrize(
        "data",
        [
            {},
            {"role": None},
            {"role": 5, "content": "x"},
            {"role": "user", "content": 5},
            {"role": "u", "content": ["x"]},
        ],
    )
    def test_what_is_no_message_is_refused(self, data: dict[str, object]) -> None:
        with pytest.raises((ValueError, TypeError)):
            Message.from_dict(data)

    @given(st.dictionaries(st.text(max_size=8), st.none() | st.integers() | st.text(max_size=5), max_size=4))
    def test_any_mapping_is_a_message_or_refused(self, data: dict[str, object]) -> None:
        try:
            message = Message.from_dict(data)
        except (ValueError, TypeError):
            return
        assert message.as_dict() == {"content": None, **data}


class TestRequest:
    def test_defaults_are_a_chat_of_normal_priority(self) -> None:
        request = Request(id="1")
        assert (request.operation, request.priority, request.model, request.messages) == ("chat", "normal", None, ())

    def test_cannot_be_changed(self) -> None:
        with pytest.raises(AttributeError):
            Request(id="1").id = "2"  # type: ignore[misc]

    @pytest.mark.parametrize(("value", "model"), [("m", "m"), (5, None), (None, None), (["m"], None)])
    def test_asks_for_a_model_only_by_name(self, value: object, model: str | None) -> None:
        assert Request(id="1", params={"model": value}).model == model

    @given(st.lists(ANY_TEXT, max_size=3))
    def test_sizes_of_the_prompt(self, texts: list[str]) -> None:
        request = Request(id="1", messages=tuple(Message("user", text) for text in texts))
        assert request.prompt_chars == sum(map(len, texts))
        assert request.prompt_bytes == sum(len(text.encode("utf-8", "replace")) for text in texts)

    def test_images_in_any_message(self) -> None:
        assert Request(id="1", messages=(Message("user", "x"), Message("user", PARTS))).has_images
        assert not Request(id="1", messages=(Message("user", "x"),)).has_images
        assert not Request(id="1").has_images

    def test_comes_back_from_bytes(self) -> None:
        request = Request(
            id="1", index=3, messages=(Message("user", PARTS, {"name": "n"}),), tags=("a",), meta={"k": 1}
        )
        assert msgspec.json.decode(jsontext.encode(request), type=Request) == request


class TestResult:
    def test_is_the_record_of_the_contract(self) -> None:
        result = Result(
            id="17",
            index=16,
            status="ok",
            text="...",
            finish_reason="stop",
            provider="fast",
            model="m",
            tier="realtime",
            attempts=1,
            latency_s=0.41,
            usage=Usage(input_tokens=52, cached_tokens=0, output_tokens=80, reasoning_tokens=0),
            cost_usd=0.000173,
        )
        assert result.ok
        assert jsontext.encode(result).decode() == (
            '{"id":"17","index":16,"status":"ok","text":"...","finish_reason":"stop","provider":"fast","model":"m",'
            '"tier":"realtime","attempts":1,"latency_s":0.41,"usage":{"input_tokens":52,"cached_tokens":0,'
            '"output_tokens":80,"reasoning_tokens":0},"cost_usd":0.000173,"error":null,"meta":{}}'
        )

    def test_a_failed_one_has_no_text_and_an_error(self) -> None:
        error = ErrorInfo(code="timeout", message="no answer", retryable=True)
        result = Result(id="1", index=0, status="failed", error=error)
        assert not result.ok
        record = jsontext.decode(jsontext.encode(result))
        assert record["text"] is None
        assert record["error"] == {"code": "timeout", "message": "no answer", "http_status": None, "retryable": True}

    def test_unknown_is_null_and_never_zero(self) -> None:
        record = jsontext.decode(jsontext.encode(Result(id="1", index=0, status="skipped")))
        assert record["usage"] == dict.fromkeys(("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens"))
        assert (record["cost_usd"], record["latency_s"]) == (None, None)
        assert Usage() == UNKNOWN_USAGE


@pytest.mark.parametrize(
    ("origin", "shown"),
    [
        (Origin(), "input"),
        (Origin("a.jsonl"), "a.jsonl"),
        (Origin("a.jsonl", 3), "a.jsonl:3"),
        (Origin("a.jsonl", 3, 0), "a.jsonl:3 (byte 0)"),
        (Origin(None, None, 17), "input (byte 17)"),
    ],
)
def test_an_origin_reads_as_a_place(origin: Origin, shown: str) -> None:
    assert str(origin) == shown
    assert Row({}, origin).origin is origin
