from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptmill.clock import VirtualClock
from promptmill_simulator.apierror import ApiError
from promptmill_simulator.limits import Account, RateLimiter, RateLimits, go_duration
from promptmill_simulator.meters import METERS, LimitKind
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


def refusal(book: Account, asked: Task, now: float) -> tuple[str, dict[bytes, bytes]]:
    with pytest.raises(ApiError) as refused:
        book.admit(asked, now)
    assert refused.value.status == 429
    return str(refused.value), dict(refused.value.headers or [])


@pytest.mark.parametrize(
    ("kind", "used", "reset", "seconds"),
    [
        ("bucket", 60, b"1m0s", 1),
        ("bucket-empty", 60, b"1m0s", 1),
        ("second", 1, b"1s", 1),
        ("minute", 60, b"50s", 50),
        ("window", 60, b"1m0s", 60),
    ],
)
def test_a_refusal_of_every_kind_tells_its_wait(kind: LimitKind, used: int, reset: bytes, seconds: int) -> None:
    book = account(rpm=60, kind=kind)
    start = 60.0 if kind == "bucket-empty" else 10.0
    for _ in range(used):
        book.admit(task(), start)
    message, headers = refusal(book, task(), start)
    again = go_duration(seconds)
    assert message == (
        "Rate limit reached for m in organization org-simulator on requests per min (RPM): "
        f"Limit 60, Used {used}, Requested 1. Please try again in {again}."
    )
    assert headers == {
        b"retry-after": b"%d" % seconds,
        b"retry-after-ms": b"%d" % (seconds * 1000),
        b"x-ratelimit-limit-requests": b"60",
        b"x-ratelimit-remaining-requests": b"0",
        b"x-ratelimit-reset-requests": reset,
    }
    refusal(book, task(), start + seconds - 0.001)
    book.admit(task(), start + seconds)


def test_a_bucket_that_starts_empty_refuses_the_first() -> None:
    book = account(tpm=600, kind="bucket-empty")
    assert refusal(book, task(max_tokens=100), 0.0)[1][b"retry-after"] == b"10"
    book.admit(task(max_tokens=100), 10.0)


@pytest.mark.parametrize("kind", sorted(METERS))
def test_what_can_never_fit_is_told_by_every_kind(kind: LimitKind) -> None:
    message, headers = refusal(account(tpm=1000, kind=kind), task(max_tokens=1001), 0.0)
    assert message.startswith("Request too large")
    assert not [name for name in headers if name.startswith(b"retry-after")]


@pytest.mark.parametrize("charging", ["reserve", "settle"])
@pytest.mark.parametrize("kind", sorted(METERS))
def test_every_kind_settles(kind: LimitKind, charging: str) -> None:
    book = account(tpm=60_000 if kind == "second" else 1000, kind=kind, charging=charging)
    charged = book.admit(task(max_tokens=500), 60.0)  # by then even a bucket that started empty is full
    book.settle(charged, 120, 60.0)
    left = int(dict(book.headers(60.0))[b"x-ratelimit-remaining-tokens"])
    assert left == (500 if charging == "reserve" else 880)


@pytest.mark.parametrize("kind", sorted(METERS))
def test_refusals_of_every_kind_can_count(kind: LimitKind) -> None:
    book = account(rpm=120, tpm=1000, kind=kind, count_refused=True)
    before = int(dict(book.headers(60.0))[b"x-ratelimit-remaining-requests"])
    for _ in range(2):
        refusal(book, task(max_tokens=2000), 60.0)
    assert int(dict(book.headers(60.0))[b"x-ratelimit-remaining-requests"]) == before - 2
    for _ in range(before):
        refusal(book, task(max_tokens=2000), 60.0)
    assert dict(book.headers(60.0))[b"x-ratelimit-remaining-requests"] == b"0"


def test_limits_can_be_kept_to_oneself() -> None:
    book = account(rpm=60, tpm=1000, headers=False)
    assert book.headers(0.0) == []
    book.admit(task(max_tokens=900), 0.0)
    message, headers = refusal(book, task(max_tokens=700), 0.0)
    assert headers == {b"retry-after": b"36", b"retry-after-ms": b"36000"}
    assert message.endswith("Please try again in 36s.")
    assert refusal(book, task(max_tokens=1001), 0.0)[1] == {}


def test_a_wait_can_be_kept_to_oneself() -> None:
    book = account(tpm=1000, retry_after=False)
    book.admit(task(max_tokens=900), 0.0)
    message, headers = refusal(book, task(max_tokens=700), 0.0)
    assert message.endswith("Limit 1000, Used 900, Requested 700.")
    assert {name.rpartition(b"-")[0] for name in headers} == {
        b"x-ratelimit-limit", b"x-ratelimit-remaining", b"x-ratelimit-reset"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("said", "sent"),
    [("1", (b"retry-after", b"1")), ("60", (b"retry-after", b"60")), ("0", (b"retry-after", b"0")),
     ("0.1", (b"retry-after", b"0.1")), ("250ms", (b"retry-after-ms", b"250"))],
)  # fmt: skip
def test_a_wait_can_be_told_wrong(said: str, sent: tuple[bytes, bytes]) -> None:
    book = account(tpm=1000, fixed_wait=said)
    book.admit(task(max_tokens=900), 0.0)
    message, headers = refusal(book, task(max_tokens=700), 0.0)
    assert [item for item in headers.items() if b"retry" in item[0]] == [sent]
    assert "try again" not in message
    assert headers[b"x-ratelimit-reset-tokens"] == b"54s"


@pytest.mark.parametrize(
    ("limits", "words"),
    [({"fixed_wait": "1", "retry_after": False}, "exclude each other"), ({"fixed_wait": "date:5"}, "not a date"),
     ({"fixed_wait": "soon"}, "soon")],
)  # fmt: skip
def test_a_fixed_wait_that_cannot_be_told_is_refused(limits: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        account(rpm=1, **limits)


@pytest.mark.parametrize(("hint", "told"), [({}, {}), ({"fixed_wait": "1"}, {b"retry-after": b"1"})])
def test_requests_at_a_time_are_capped(hint: dict[str, object], told: dict[bytes, bytes]) -> None:
    book = account(max_in_flight=2, rpm=60, headers=False, **hint)
    book.admit(task(), 0.0)
    book.admit(task(), 0.0)
    with pytest.raises(ApiError, match="Limit 2, Current 2") as refused:
        book.admit(task(), 0.0)
    assert dict(refused.value.headers or []) == told
    assert book.requests is not None
    assert book.requests.remaining(0.0) == 58
    book.leave()
    book.admit(task(), 0.0)


@pytest.mark.parametrize(("kind", "wait"), [("minute", 40), ("window", 60), ("bucket", 30)])
def test_a_limiter_tells_the_time_its_meters_go_by(kind: LimitKind, wait: float) -> None:
    clock = VirtualClock(wall=1_700_000_000.0)  # 20 seconds into a minute
    limiter = RateLimiter(RateLimits.model_validate({"rpm": 2, "kind": kind}), clock)

    async def ask() -> list[float]:
        waits = []
        for _ in range(3):
            book = limiter.account("m")
            assert book is not None
            try:
                book.admit(task(), limiter.now())
            except ApiError as error:
                waits.append(int(dict(error.headers or [])[b"retry-after-ms"]) / 1000)
                await clock.sleep(waits[-1])
                book.admit(task(), limiter.now())
        return waits

    assert clock.run(ask) == [wait]


@given(
    st.sampled_from(["minute", "window"]),
    st.lists(st.tuples(st.floats(0, 30), st.integers(1, 60)), max_size=60),
    st.integers(1, 10),
    st.integers(60, 200),
)
def test_two_limits_are_kept_together(kind: LimitKind, steps: list[tuple[float, int]], rpm: int, tpm: int) -> None:
    book, now, admitted = account(rpm=rpm, tpm=tpm, kind=kind), 0.0, list[tuple[float, int]]()
    for gap, tokens in steps:
        now += gap
        try:
            book.admit(task(tokens), now)
        except ApiError:
            continue
        admitted.append((now, tokens))
    for at, _ in admitted:
        begin = math.floor(at / 60) * 60 if kind == "minute" else at
        together = [tokens for when, tokens in admitted if begin <= when and when - begin < 60]
        assert len(together) <= rpm
        assert sum(together) <= tpm
