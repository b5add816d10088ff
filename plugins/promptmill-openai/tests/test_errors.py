from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptmill import jsontext
from promptmill_openai.errors import LONGEST_MESSAGE, ErrorBody, read_body, read_value


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            b'{"error":{"message":"no such model","type":"invalid_request_error","code":"model_not_found"}}',
            ErrorBody("no such model", "model_not_found", "invalid_request_error"),
        ),
        (b'{"error":{"message":"m","type":"BadRequestError","param":null,"code":400}}',  # vLLM
         ErrorBody("m", None, "bad_request_error", 400)),
        (b'{"object":"error","message":"m","type":"Bad Request","param":null,"code":400}',  # SGLang
         ErrorBody("m", None, None, 400)),
        (b'{"error":{"code":"503","message":"Loading model","type":"unavailable_error"}}',  # llama.cpp
         ErrorBody("Loading model", None, "unavailable_error", 503)),
        (b'{"error":"model \'x\' not found"}', ErrorBody("model 'x' not found")),  # Ollama
        (b'{"error":"Unauthorized","message":"token expired"}', ErrorBody("token expired")),
        (b'{"message":"no Route matched"}', ErrorBody("no Route matched")),
        (b'{"statusCode":401,"message":"Unauthorized"}', ErrorBody("Unauthorized")),
        (b'{"detail":"Not Found"}', ErrorBody("Not Found")),
        (b'{"detail":[{"loc":["body","messages"],"msg":"field required","type":"missing"},{"msg":"too long"}]}',
         ErrorBody("body.messages: field required; too long")),
        (b'[{"error":{"code":400,"message":"API key not valid","status":"INVALID_ARGUMENT"}}]',
         ErrorBody("API key not valid", None, None, 400)),
        (b'{"errors":[{"code":10000,"message":"Authentication error"}]}', ErrorBody("Authentication error")),
        (b'{"error":{"code":502,"message":"m","metadata":{"raw":"x"}}}', ErrorBody("m", None, None, 502, {"raw": "x"})),
        (b'{"error":{"message":"m","innererror":{"code":"ResponsibleAIPolicyViolation"}}}',
         ErrorBody("m", "responsible_aipolicy_violation")),
        (b"<html>\n <title>502 Bad Gateway</title>", ErrorBody("<html> <title>502 Bad Gateway</title>")),
        (b"upstream connect error", ErrorBody("upstream connect error")),
        (b'"busy"', ErrorBody("busy")),
        (b"", ErrorBody()),
        (b"null", ErrorBody()),
        (b"[]", ErrorBody()),
        (b"{}", ErrorBody()),
        (b'{"error":{}}', ErrorBody()),
        (b'{"error":{"message":["a"],"code":true,"type":{}}}', ErrorBody()),
        (b"\xff\xfe", ErrorBody("\ufffd\ufffd")),
        (b"[" * 100_000, ErrorBody("[" * 200)),
    ],
)  # fmt: skip
def test_every_known_shape(body: bytes, expected: ErrorBody) -> None:
    assert read_body(body) == expected


def test_a_message_is_cut() -> None:
    assert read_body(jsontext.encode({"error": "x" * 5000})).message == "x" * LONGEST_MESSAGE + "..."


def test_a_code_is_one_short_word() -> None:
    assert read_value({"code": "a b"}).code is None
    assert read_value({"code": "x" * 65}).code is None


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "error",
                    "errors",
                    "detail",
                    "message",
                    "msg",
                    "loc",
                    "code",
                    "type",
                    "metadata",
                    "reason",
                    "innererror",
                ]
            ),
            inner,
        )
    ),
    max_leaves=20,
)


@given(JSON_VALUES)
def test_any_value_is_read(value: object) -> None:
    error = read_value(value)
    assert isinstance(error.message, str)
    jsontext.encode([error.message, error.code, error.type, error.status])


@given(st.binary())
def test_any_body_is_read(body: bytes) -> None:
    assert isinstance(read_body(body), ErrorBody)
