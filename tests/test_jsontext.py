"""JSON in and out: hostile bytes become a value that can be encoded again, or BadJSON, and nothing else."""

from __future__ import annotations

import json
import math

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from promptmill import jsontext
from promptmill.jsontext import MAX_DEPTH, BadJSON
from promptmill.models import Message, Request

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=20)
"""Text with lone surrogates in it, as Python holds it after reading hostile input."""

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=20,
)


def nested(depth: int, opening: str = "[", closing: str = "]") -> str:
    return opening * depth + "1" + closing * depth


def clean(text: str) -> str:
    return "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text)


@given(JSON_VALUES)
def test_what_is_encoded_is_valid_utf8_and_comes_back(value: object) -> None:
    encoded = jsontext.encode(value)
    encoded.decode("utf-8")
    assert jsontext.decode(encoded) == jsontext.without_surrogates(value)


@given(JSON_VALUES)
def test_reads_what_the_standard_library_writes(value: object) -> None:
    assert jsontext.decode(json.dumps(value)) == jsontext.without_surrogates(value)


@given(st.binary(max_size=60) | ANY_TEXT)
@example(b"1e999")
@example(b'{"a": 1e999, "b": "\\ud800"}')
@example('"\ud800"')
@example(b"\xef\xbb\xbf-1e400")
@example(b"\xff\xfe{\x00}\x00")
@example(b'"\xed\xa0\x80"')
def test_any_input_gives_an_encodable_value_or_bad_json(data: bytes | str) -> None:
    try:
        value = jsontext.decode(data)
    except BadJSON:
        return
    assert jsontext.decode(jsontext.encode(value)) == value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"{",
        b"nul",
        b"1 2",
        b"{} {}",
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"[1, NaN]",
        b"1e999",
        b"-1E400",
        b"[1e999, NaN]",
        b"9" * 5_000,
        b"[" + b"9" * 5_000 + b"]",
        b'"\xff"',
        b'"raw\nnewline"',
        b'"raw\x00nul"',
        b"\xff\xfe",
    ],
)
def test_what_is_no_finite_json_document_is_refused(data: bytes) -> None:
    with pytest.raises(BadJSON):
        jsontext.decode(data)


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 900, 100_000])
@pytest.mark.parametrize("prefix", ["", "\ufeff"])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_deep_nesting_is_refused(depth: int, prefix: str, opening: str, closing: str) -> None:
    text = prefix + nested(depth, opening, closing)
    for data in (text, text.encode(), bytearray(text.encode()), memoryview(text.encode())):
        with pytest.raises(BadJSON, match="nested too deeply"):
            jsontext.decode(data)


def test_the_deepest_accepted_value_can_be_encoded_and_cleaned_deep_in_the_stack() -> None:
    def dig(frames: int, value: object) -> bytes:
        return dig(frames - 1, value) if frames else jsontext.encode(value)

    plain = jsontext.decode(nested(MAX_DEPTH))
    assert dig(200, plain) == nested(MAX_DEPTH).encode()
    hostile = jsontext.decode(nested(MAX_DEPTH - 1))
    hostile.append("\ud800")
    assert dig(200, hostile).endswith('"\ufffd"]'.encode())


def test_many_brackets_side_by_side_are_not_deep() -> None:
    assert len(jsontext.decode("[" + ",".join(["[]"] * 10_000) + "]")) == 10_000
    assert jsontext.decode(json.dumps("[" * 10_000)) == "[" * 10_000


def test_integers_of_any_readable_size_survive() -> None:
    for number in (2**63, -(2**63) - 1, 2**64, 2**70, -(10**300)):
        assert jsontext.decode(jsontext.encode({"n": number})) == {"n": number}


def test_byte_order_mark_is_accepted() -> None:
    assert jsontext.decode(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}
    assert jsontext.decode('\ufeff{"a": 1}') == {"a": 1}


def test_lone_surrogates_become_the_replacement_character_and_pairs_stay() -> None:
    assert jsontext.decode(rb'["a\ud800b", "\ude00", "\ud83d\ude00"]') == ["a\ufffdb", "\ufffd", "\U0001f600"]
    assert jsontext.decode(rb'{"\udc00": 1}') == {"\ufffd": 1}
    assert jsontext.encode({"\ud800": ["\udfff", 2**70]}) == '{"\ufffd":["\ufffd",1180591620717411303424]}'.encode()


@given(ANY_TEXT)
def test_without_surrogates_changes_nothing_else(text: str) -> None:
    assert jsontext.without_surrogates(text) == clean(text)


def test_records_with_lone_surrogates_can_be_encoded() -> None:
    request = Request(id="\ud800", messages=(Message("user", "a\udfff"),), params={"stop": ("\ud800",)})
    data = jsontext.decode(jsontext.encode(request))
    assert data["id"] == "\ufffd"
    assert data["messages"][0]["content"] == "a\ufffd"
    assert data["params"] == {"stop": ["\ufffd"]}


def test_numbers_without_a_json_form_become_null() -> None:
    assert jsontext.encode([math.nan, math.inf, -math.inf]) == b"[null,null,null]"


def test_what_has_no_json_form_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        jsontext.encode(object())


def test_all_buffers_are_read() -> None:
    for data in (b'{"a":1}', bytearray(b'{"a":1}'), memoryview(b'{"a":1}'), '{"a":1}'):
        assert jsontext.decode(data) == {"a": 1}
    assert jsontext.decode(memoryview(rb'"\ud800"')) == "\ufffd"


def test_bad_json_is_a_value_error_and_says_where() -> None:
    with pytest.raises(ValueError, match=r"line 1 column 9 \(char 8\)"):
        jsontext.decode(b'{"a": 1 2}')
    assert not issubclass(BadJSON, msgspec.MsgspecError)


def test_a_lone_surrogate_is_told_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(jsontext, "_told", [])
    caplog.set_level("WARNING", "promptmill")
    assert jsontext.decode('{"a": "\\ud83d\\ude00", "b": "\ufffd"}\ufeff'.strip("\ufeff")) == {
        "a": "\U0001f600",
        "b": "\ufffd",
    }
    assert jsontext.decode("\ufeff1") == 1
    assert caplog.records == []
    for _ in range(3):
        assert jsontext.decode('["\\ud83d"]') == ["\ufffd"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
