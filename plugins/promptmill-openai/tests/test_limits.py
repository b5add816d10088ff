from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptmill_openai.errors import ErrorBody
from promptmill_openai.limits import go_duration, limit_of

DAILY = (
    "Rate limit reached for gpt-x in organization org-1 on requests per day (RPD): Limit 200, Used 200, Requested 1."
)
MINUTE = "Rate limit reached for gpt-x in organization org-1 on tokens per min (TPM): Limit 10000, Used 9999."


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1),
        ("6m0s", 360),
        ("20ms", 0.02),
        ("2m59.56s", 179.56),
        ("1h2m3s", 3723),
        ("2d", 172800),
        ("10", 10),
        ("300", 300),
        ("0.5", 0.5),
        ("0", None),
        ("0s", None),
        ("-1", None),
        ("", None),
        ("1,000", None),
        ("soon", None),
        ("1s later", None),
        ("9" * 400, None),
        ("nan", None),
        ("inf", None),
    ],
)
def test_durations(text: str, seconds: float | None) -> None:
    assert go_duration(text) == (None if seconds is None else pytest.approx(seconds))


@given(st.text())
def test_any_duration_is_positive_or_unknown(text: str) -> None:
    seconds = go_duration(text)
    assert seconds is None or 0 < seconds < 1e20


@pytest.mark.parametrize(
    ("error", "headers", "expected"),
    [
        (ErrorBody(MINUTE), {}, ("tokens", None)),
        (ErrorBody(MINUTE + " Please try again in 1.5s."), {}, ("tokens", 1.5)),
        (ErrorBody(DAILY + " Please try again in 7m12s."), {}, ("requests_per_day", 432)),
        (ErrorBody("slow", type="tokens"), {}, ("tokens", None)),
        (ErrorBody("slow", type="requests"), {}, ("requests", None)),
        (ErrorBody("no room", code="resource_unavailable"), {}, ("capacity", None)),
        (ErrorBody("slow"), {}, (None, None)),
        (ErrorBody("slow", type="requests"),
         {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "8h0m0s"}, ("requests_per_day", 28800)),
        (ErrorBody("slow", type="requests"),
         {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "60s"}, ("requests", None)),
        (ErrorBody("slow", type="requests"),
         {"x-ratelimit-remaining-requests": "5", "x-ratelimit-reset-requests": "8h"}, ("requests", None)),
        (ErrorBody("slow", type="requests"),
         {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "-1"}, ("requests", None)),
    ],
)  # fmt: skip
def test_the_limit_and_the_wait(
    error: ErrorBody, headers: dict[str, str], expected: tuple[str | None, float | None]
) -> None:
    assert limit_of(error, headers) == expected
