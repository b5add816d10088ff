from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptmill_simulator.apierror import ApiError
from promptmill_simulator.limits import Account, RateLimits, go_duration
from promptmill_simulator.task import Task

UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def task(tokens: int = 10, max_tokens: int | None = None) -> Task:
    return Task(
        operation="chat",
        model="m",
        prompt="",
        digest=bytes(32),
        input_tokens=tokens,
        max_output_tokens=max_tokens,
        body={},
    )


def account(**limits: object) -> Account:
    return Account(RateLimits.model_validate(limits), 0.0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0001, "0s"),
        (0.012, "12ms"),
        (1, "1s"),
        (8.64, "8.64s"),
        (59.9999, "1m0s"),
        (360, "6m0s"),
        (179.56, "2m59.56s"),
        (3723, "1h2m3s"),
        (86_400, "24h0m0s"),
    ],
)
def test_go_durations(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text


@given(st.floats(0, 10**6))
def test_go_durations_can_be_read_back(seconds: float) -> None:
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|h|m|s)", go_duration(seconds))
    assert sum(float(amount) * UNITS[unit] for amount, unit in parts) == pytest.approx(seconds, abs=0.00051)


def test_requests_come_back_evenly() -> None:
    book = account(rpm=60)
    for _ in range(60):
        book.admit(task(), 0.0)
    with pytest.raises(ApiError) as refused:
        book.admit(task(), 0.0)
    headers = dict(refused.value.headers or [])
    assert headers[b"retry-after"] == b"1"
    assert headers[b"retry-after-ms"] == b"1000"
    assert headers[b"x-ratelimit-remaining-requests"] == b"0"
    assert headers[b"x-ratelimit-reset-requests"] == b"1m0s"
    assert refused.value.body["error"]["type"] == "requests"
    book.admit(task(), 1.0)


def test_the_charge_is_the_higher_of_max_tokens_and_the_estimate() -> None:
    book = account(tpm=1000)
    book.admit(task(tokens=10, max_tokens=300), 0.0)
    book.admit(task(tokens=400, max_tokens=300), 0.0)
    assert dict(book.headers(0.0))[b"x-ratelimit-remaining-tokens"] == b"300"


def test_a_refusal_takes_nothing_from_either_limit() -> None:
    book = account(rpm=100, tpm=1000)
    book.admit(task(max_tokens=900), 0.0)
    with pytest.raises(ApiError) as refused:
        book.admit(task(max_tokens=200), 0.0)
    assert refused.value.body["error"]["type"] == "tokens"
    left = dict(book.headers(0.0))
    assert (left[b"x-ratelimit-remaining-requests"], left[b"x-ratelimit-remaining-tokens"]) == (b"99", b"100")


def test_refusals_can_count() -> None:
    book = account(rpm=100, tpm=1000, count_refused=True)
    with pytest.raises(ApiError):
        book.admit(task(max_tokens=2000), 0.0)
    assert dict(book.headers(0.0))[b"x-ratelimit-remaining-requests"] == b"99"


def test_what_can_never_fit_has_no_retry_after() -> None:
    with pytest.raises(ApiError, match="Request too large") as refused:
        account(tpm=1000).admit(task(max_tokens=1001), 0.0)
    assert b"retry-after" not in dict(refused.value.headers or [])


@pytest.mark.parametrize(("charging", "left"), [("reserve", b"500"), ("settle", b"880")])
def test_only_settling_accounts_give_back(charging: str, left: bytes) -> None:
    book = account(tpm=1000, charging=charging)
    charged = book.admit(task(max_tokens=500), 0.0)
    book.settle(charged, 120, 0.0)
    assert dict(book.headers(0.0))[b"x-ratelimit-remaining-tokens"] == left


def test_burst_makes_the_bucket_smaller_but_not_slower() -> None:
    book = account(rpm=60, burst=2)
    book.admit(task(), 0.0)
    book.admit(task(), 0.0)
    with pytest.raises(ApiError):
        book.admit(task(), 0.5)
    book.admit(task(), 1.0)


@given(st.lists(st.floats(0, 5), max_size=80), st.floats(1, 600))
def test_no_more_than_the_limit_is_admitted(gaps: list[float], rpm: float) -> None:
    book, now, admitted = account(rpm=rpm, burst=1), 0.0, 0
    for gap in gaps:
        now += gap
        try:
            book.admit(task(), now)
        except ApiError:
            continue
        admitted += 1
    assert admitted <= max(1.0, rpm / 60) + now * rpm / 60 + 1e-6
