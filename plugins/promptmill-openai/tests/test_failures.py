"""Every row of the error table of the API, as replies: status, body and headers in, a class of failure out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptmill import jsontext
from promptmill.errors import (
    AuthFailed,
    Permanent,
    ProviderError,
    QuotaExhausted,
    Throttled,
    Transient,
)
from promptmill.http import HttpResponse
from promptmill_openai.failures import BILLING, failure_inside, failure_of_reply

WALL = 1_800_000_000.0


def reply(status: int, body: bytes | dict[str, Any] = b"", **headers: str) -> HttpResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpResponse(status, named, body if isinstance(body, bytes) else jsontext.encode(body))


def error(message: str = "m", **members: str | int) -> dict[str, Any]:
    return {"error": {"message": message, "type": None, "param": None, "code": None, **members}}


ROWS = [
    (400, error(code="context_length_exceeded", type="invalid_request_error"), Permanent, "context_length_exceeded"),
    (400, error(type="invalid_request_error"), Permanent, "bad_request"),
    (400, error(type="invalid_request_error", code="unsupported_parameter"), Permanent, "unsupported_parameter"),
    (400, error("You exceeded your file storage quota"), Permanent, "bad_request"),
    (400, error(code="content_policy_violation"), Permanent, "content_filter"),
    (400, error(code="content_filter"), Permanent, "content_filter"),
    (400, error(code="invalid_prompt"), Permanent, "content_filter"),
    (401, error(code="invalid_api_key"), AuthFailed, "auth"),
    (401, b"Unauthorized", AuthFailed, "auth"),
    (400, error("API key not valid", code="invalid_api_key"), AuthFailed, "auth"),
    (403, error("Country, region, or territory not supported"), AuthFailed, "forbidden"),
    (403, error(code="model_not_found"), Permanent, "model_not_found"),
    (404, error(code="model_not_found"), Permanent, "model_not_found"),
    (404, {"detail": "Not Found"}, Permanent, "not_found"),
    (408, b"", Transient, "timeout"),
    (409, error(code="conversation_locked"), Transient, "conversation_locked"),
    (413, b"<html>too large</html>", Permanent, "too_large"),
    (422, {"detail": [{"loc": ["body"], "msg": "no"}]}, Permanent, "unprocessable"),
    (429, error(code="rate_limit_exceeded", type="tokens"), Throttled, "rate_limited"),
    (429, error(code="slow_down"), Throttled, "slow_down"),
    (429, b"", Throttled, "rate_limited"),
    (429, error("Request too large for gpt-x: Limit 10000, Requested 12000"), Permanent, "request_over_limit"),
    (429, error(code="resource_unavailable"), Throttled, "resource_unavailable"),
    (498, error("no flex capacity"), Throttled, "rate_limited"),
    (402, error("Insufficient Balance", code=402), QuotaExhausted, "quota_exhausted"),
    (500, error(code="server_error"), Transient, "server_error"),
    (500, error(type="server_error"), Transient, "server_error"),
    (501, b"", Permanent, "not_implemented"),
    (502, b"<html><h1>502 Bad Gateway</h1></html>", Transient, "bad_gateway"),
    (503, error(code="server_is_overloaded"), Throttled, "server_is_overloaded"),
    (503, error("server busy, please try again.  maximum pending requests exceeded"), Throttled, "overloaded"),
    (503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}, Throttled, "overloaded"),
    (503, b"", Transient, "overloaded"),
    (504, b"", Transient, "gateway_timeout"),
    (301, b"", Permanent, "redirect"),
    # vLLM, SGLang and llama.cpp on a prompt that is too long
    (400, error("This model's maximum context length is 4096 tokens.", type="BadRequestError", code=400),
     Permanent, "context_length_exceeded"),
    (400, {"object": "error", "message": "The input (9 tokens) is longer than the model's context length (8 tokens).",
           "type": "Bad Request", "code": 400}, Permanent, "context_length_exceeded"),
    (400, {"error": {"code": 400, "message": "m", "type": "exceed_context_size_error", "n_ctx": 512}},
     Permanent, "context_length_exceeded"),
    # OpenRouter
    (402, {"error": {"code": 402, "message": "m", "metadata": {"reason": "in_flight_budget_exhausted"}}},
     Throttled, "in_flight_budget_exhausted"),
    (402, {"error": {"code": 402, "message": "m", "metadata": {"reason": "weight_exceeds_budget"}}},
     QuotaExhausted, "quota_exhausted"),
    (403, {"error": {"code": 403, "message": "m", "metadata": {"flagged_input": "x"}}}, Permanent, "content_filter"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "kind", "code"), ROWS)
def test_the_error_table(status: int, body: Any, kind: type[ProviderError], code: str) -> None:
    failure = failure_of_reply(reply(status, body, x_request_id="req_1"), wall=WALL)
    assert type(failure) is kind
    assert failure.code == code
    assert failure.http_status == status
    assert failure.request_id == "req_1"
    assert failure.message


@pytest.mark.parametrize("word", sorted(BILLING))
@pytest.mark.parametrize("member", ["code", "type"])
@pytest.mark.parametrize("status", [400, 403, 429])
def test_no_money_is_never_worth_a_retry(word: str, member: str, status: int) -> None:
    body = {"error": {"message": "m", member: word}}
    failure = failure_of_reply(reply(status, body, retry_after="1", x_should_retry="true"), wall=WALL)
    assert type(failure) is QuotaExhausted
    assert failure.code == word
    assert not failure.retryable


def test_the_header_decides_after_the_billing_codes_and_before_the_status() -> None:
    assert type(failure_of_reply(reply(429, x_should_retry="false"), wall=WALL)) is Permanent
    assert type(failure_of_reply(reply(503, error(code="slow_down"), x_should_retry="false"), wall=WALL)) is Permanent
    assert type(failure_of_reply(reply(400, x_should_retry="true"), wall=WALL)) is Transient
    assert type(failure_of_reply(reply(401, x_should_retry="true"), wall=WALL)) is AuthFailed


def throttled(body: dict[str, Any], **headers: str) -> Throttled:
    failure = failure_of_reply(reply(429, body, **headers), wall=WALL)
    assert isinstance(failure, Throttled)
    return failure


def test_the_wait_comes_from_the_headers_before_the_message() -> None:
    said = error("Rate limit reached on requests per min (RPM). Please try again in 20s.", code="rate_limit_exceeded")
    assert throttled(said, retry_after="7", retry_after_ms="1500").retry_after == 1.5
    assert throttled(said, retry_after="7").retry_after == 7
    assert throttled(said).retry_after == 20
    assert throttled(error()).retry_after is None
    assert throttled(said).dimension == "requests"


def test_a_daily_limit_says_so() -> None:
    said = error("Rate limit reached on tokens per day (TPD): Limit 1. Please try again in 3h2m.", type="tokens")
    failure = throttled(said)
    assert (failure.dimension, failure.retry_after) == ("tokens_per_day", 3 * 3600 + 120)


@pytest.mark.parametrize("value", ["-5", "nan", "inf", "soon", "Wed, 21 Oct 2015 07:28:00 GMT", ""])
def test_an_absurd_wait_counts_as_none(value: str) -> None:
    assert throttled(error(), retry_after=value).retry_after is None


def test_capacity_of_the_flex_tier_is_a_limit_of_its_own() -> None:
    assert throttled(error(code="resource_unavailable")).dimension == "capacity"


NO_CAPACITY = [
    (429, error(code="resource_unavailable"), {"retry_after": "3"}),
    (429, error(type="resource_unavailable"), {}),
    (429, error(code="rate_limit_exceeded"), {"x_ratelimit_remaining_requests": "12"}),
    (429, error(code="something_new"), {}),
    (429, b"", {}),
    (498, error("no capacity", code="capacity_exceeded"), {}),
    (498, b"", {"x_ratelimit_remaining_requests": "0"}),
    (503, error(code="resource_unavailable"), {}),
]
LIMITS = [
    (429, error(type="tokens"), {}),
    (429, error("Rate limit reached on requests per min (RPM)"), {}),
    (429, error("Please try again in 20s."), {}),
    (429, error(code="slow_down"), {}),
    (429, b"", {"retry_after": "3"}),
    (429, b"", {"x_ratelimit_remaining_tokens": "0"}),
    (503, error(code="server_is_overloaded"), {}),
]


@pytest.mark.parametrize(("status", "body", "headers"), NO_CAPACITY)
def test_flex_without_capacity_is_no_rate_limit(status: int, body: Any, headers: dict[str, str]) -> None:
    answer = reply(status, body, **headers)
    failure = failure_of_reply(answer, wall=WALL, tier="flex")
    assert type(failure) is Transient
    assert (failure.code, failure.http_status) == ("flex_unavailable", status)
    assert failure.retry_after == (3 if "retry_after" in headers else None)
    assert type(failure_of_reply(answer, wall=WALL)) is Throttled, "only flex runs out of capacity"


@pytest.mark.parametrize(("status", "body", "headers"), LIMITS)
def test_a_limit_is_one_in_flex_too(status: int, body: Any, headers: dict[str, str]) -> None:
    assert type(failure_of_reply(reply(status, body, **headers), wall=WALL, tier="flex")) is Throttled


@pytest.mark.parametrize(("status", "body", "kind", "code"), [row for row in ROWS if row[2] is not Throttled])
def test_flex_changes_no_other_failure(status: int, body: Any, kind: type[ProviderError], code: str) -> None:
    failure = failure_of_reply(reply(status, body), wall=WALL, tier="flex")
    assert (type(failure), failure.code) == (kind, code)


@pytest.mark.parametrize(
    ("value", "kind", "code"),
    [
        ({"message": "m", "code": 502}, Transient, "bad_gateway"),
        ({"message": "m", "code": "429"}, Throttled, "rate_limited"),
        ({"message": "m", "code": "rate_limit_exceeded"}, Throttled, "rate_limited"),
        ({"message": "m", "code": "server_error"}, Transient, "server_error"),
        ({"message": "m", "code": 400}, Permanent, "bad_request"),
        ({"message": "m", "code": 402}, QuotaExhausted, "quota_exhausted"),
        ({"message": "m", "type": "insufficient_quota"}, QuotaExhausted, "insufficient_quota"),
        ({"message": "m", "type": "authentication_error"}, AuthFailed, "auth"),
        ("upstream failed", Transient, "server_error"),
        ({"message": "m", "code": 200}, Transient, "server_error"),
        (True, Transient, "server_error"),
    ],
)
def test_an_error_inside_a_success(value: Any, kind: type[ProviderError], code: str) -> None:
    failure = failure_inside(value, reply(200, x_request_id="req_1", retry_after="9"), otherwise=500)
    assert type(failure) is kind
    assert (failure.code, failure.http_status, failure.request_id) == (code, 200, "req_1")
    assert failure.message


WORDS = st.sampled_from([*sorted(BILLING), "rate_limit_exceeded", "server_error", "content_filter", "tokens", "x"])


@given(
    st.integers(300, 999),
    st.binary() | st.builds(lambda word, text: jsontext.encode(error(text, code=word, type=word)), WORDS, st.text()),
    st.dictionaries(
        st.sampled_from(["retry-after", "retry-after-ms", "x-should-retry", "date", "x-ratelimit-remaining-tokens",
                         "x-ratelimit-reset-tokens", "x-request-id"]),
        st.text() | st.sampled_from(["0", "true", "false", "1e400", "8h"]),
    ),
)  # fmt: skip
def test_any_error_reply_is_a_failure(status: int, body: bytes, headers: dict[str, str]) -> None:
    failure = failure_of_reply(HttpResponse(status, headers, body), wall=WALL)
    assert isinstance(failure, ProviderError)
    assert failure.retry_after is None or 0 <= failure.retry_after < float("inf")
    jsontext.encode(failure.info())
