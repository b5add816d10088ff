"""The tally and the summary object."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptmill import jsontext
from promptmill._report import FORMAT_VERSION, Latencies, Summary, Tally
from promptmill._work import Pricer
from promptmill.errors import Throttled
from promptmill.interfaces import AttemptFailed
from promptmill.models import ErrorInfo, Result, Status, Tier, Usage


def finished(
    status: Status = "ok",
    *,
    provider: str | None = "fast",
    latency: float | None = 0.5,
    code: str = "bad",
    usage: Usage | None = None,
) -> Result:
    return Result(
        id="1",
        index=0,
        status=status,
        provider=provider,
        attempts=1 if provider and latency is not None else 0,
        latency_s=latency,
        usage=usage or Usage(),
        error=ErrorInfo(code=code, message="m") if status == "failed" else None,
    )


def attempt_failed(provider: str = "fast", latency: float | None = 0.1) -> AttemptFailed:
    return AttemptFailed(
        request_id="1", provider=provider, attempt=1, failure=Throttled("busy"), latency_s=latency, retry_in=1.0
    )


class TestLatencies:
    @given(st.lists(st.floats(1e-4, 1e5), min_size=1, max_size=200), st.sampled_from([0.01, 0.5, 0.9, 0.95, 0.99, 1.0]))
    def test_percentiles_are_right_to_one_percent(self, values: list[float], share: float) -> None:
        latencies = Latencies()
        for value in values:
            latencies.add(value)
        exact = sorted(values)[math.ceil(share * len(values)) - 1]
        assert latencies.percentile(share) == pytest.approx(exact, rel=0.01)
        assert latencies.mean == pytest.approx(sum(values) / len(values))

    def test_memory_does_not_grow_with_their_number(self) -> None:
        latencies = Latencies()
        for number in range(20_000):
            latencies.add(number / 100)
        assert len(latencies._buckets) < 2_000

    def test_nothing_is_unknown_not_zero(self) -> None:
        assert Latencies().mean is None
        assert Latencies().percentile(0.5) is None
        assert msgspec.to_builtins(Latencies().summary()) == {"mean": None, "p50": None, "p95": None, "p99": None}

    def test_zero_is_a_latency(self) -> None:
        latencies = Latencies()
        latencies.add(0.0)
        assert msgspec.to_builtins(latencies.summary()) == {"mean": 0.0, "p50": 0.0, "p95": 0.0, "p99": 0.0}


def test_an_empty_run() -> None:
    summary = Tally().summary(run_id="r", total=0, elapsed=0.0, resumable=False)
    assert jsontext.decode(jsontext.encode(summary)) == {
        "format_version": FORMAT_VERSION,
        "run_id": "r",
        "total": 0,
        "succeeded": 0,
        "failed": 0,
        "skipped": 0,
        "elapsed_s": 0.0,
        "requests_per_s": 0.0,
        "latency_s": {"mean": None, "p50": None, "p95": None, "p99": None},
        "attempts": 0,
        "cost_usd": None,
        "cost_all_realtime_usd": None,
        "saved_usd": None,
        "by_provider": {},
        "resumable": False,
        "missing_in_sinks": {},
    }


def test_counts_by_status_provider_and_code() -> None:
    tally = Tally()
    for result in (
        finished(usage=Usage(input_tokens=10, output_tokens=5)),
        finished(usage=Usage(input_tokens=7)),
        finished("failed", code="bad_request"),
        finished("failed", provider="slow", code="timeout"),
        finished("failed", provider="slow", code="timeout"),
        finished("failed", provider=None, latency=None, code="bad_row"),
        finished("skipped", provider=None, latency=None),
    ):
        tally.request_finished(result)
    assert tally.errors == {"timeout": 2, "bad_request": 1, "bad_row": 1}
    assert tally.tokens == 22
    summary = tally.summary(run_id="r", total=9, elapsed=2.0, resumable=True)
    assert (summary.total, summary.succeeded, summary.failed, summary.skipped) == (9, 2, 4, 1)
    assert summary.requests_per_s == 3.5
    assert summary.resumable
    assert list(summary.by_provider) == ["fast", "slow"]
    fast, slow = summary.by_provider["fast"], summary.by_provider["slow"]
    assert (fast.succeeded, fast.failed, fast.input_tokens, fast.output_tokens) == (2, 1, 17, 5)
    assert (slow.succeeded, slow.failed, slow.input_tokens, slow.output_tokens) == (0, 2, None, None)


def test_every_call_is_one_attempt() -> None:
    tally = Tally()
    # Two calls fail and the third answers; then a request fails for good with its only call.
    tally.attempt_failed(attempt_failed())
    tally.attempt_failed(attempt_failed())
    tally.request_finished(finished())
    tally.attempt_failed(attempt_failed("slow"))
    tally.request_finished(finished("failed", provider="slow"))
    # Refused without a call.
    tally.attempt_failed(attempt_failed("slow", latency=None))
    tally.request_finished(finished("failed", provider="slow", latency=None))
    summary = tally.summary(run_id="r", total=3, elapsed=1.0, resumable=False)
    assert summary.attempts == 4
    assert summary.by_provider["fast"].attempts == 3
    assert summary.by_provider["slow"].attempts == 1
    assert summary.by_provider["slow"].failed == 2


def answered(usd: float | None, tier: Tier = "realtime", *, provider: str = "fast", attempts: int = 1) -> Result:
    usage = Usage(input_tokens=1000, cached_tokens=200, output_tokens=100, reasoning_tokens=50)
    return Result(
        id="1",
        index=0,
        status="ok",
        provider=provider,
        model="m",
        tier=tier,
        attempts=attempts,
        usage=usage,
        cost_usd=usd,
    )


def at_ten_cents(usage: Usage, model: str | None, tier: Tier) -> float | None:
    assert (usage.input_tokens, model, tier) == (1000, "m", "realtime")
    return 0.1


class TestMoney:
    def summed(self, *results: Result, price: Pricer | None = at_ten_cents) -> Summary:
        tally = Tally({"fast": price}.get)
        for result in results:
            tally.request_finished(result)
        return tally.summary(run_id="r", total=len(results), elapsed=1.0, resumable=False)

    def test_is_summed_by_provider_and_tier(self) -> None:
        summary = self.summed(
            answered(0.1), answered(0.1), answered(0.05, "flex"), answered(0.3, provider="slow"), finished("failed")
        )
        assert (summary.cost_usd, summary.cost_all_realtime_usd, summary.saved_usd) == (0.55, 0.6, 0.05)
        fast = summary.by_provider["fast"]
        assert (fast.cost_usd, fast.cost_all_realtime_usd, fast.saved_usd, fast.unpriced) == (0.25, 0.3, 0.05, 0)
        assert list(fast.by_tier) == ["flex", "realtime"]
        assert msgspec.to_builtins(fast.by_tier["realtime"]) == {
            "succeeded": 2,
            "input_tokens": 2000,
            "cached_tokens": 400,
            "output_tokens": 200,
            "reasoning_tokens": 100,
            "cost_usd": 0.2,
        }
        assert fast.by_tier["flex"].cost_usd == 0.05
        assert summary.by_provider["slow"].saved_usd == 0.0

    def test_is_unknown_when_one_answer_has_no_price(self) -> None:
        summary = self.summed(answered(0.1), answered(None), answered(0.2, provider="slow"))
        assert (summary.cost_usd, summary.cost_all_realtime_usd, summary.saved_usd) == (None, None, None)
        assert summary.by_provider["fast"].cost_usd is None
        assert summary.by_provider["fast"].unpriced == 1
        assert summary.by_provider["slow"].cost_usd == 0.2

    @pytest.mark.parametrize("price", [None, lambda *_: None])
    def test_what_was_saved_is_unknown_without_a_realtime_price(self, price: Pricer | None) -> None:
        summary = self.summed(answered(0.05, "flex"), price=price)
        assert (summary.cost_usd, summary.cost_all_realtime_usd, summary.saved_usd) == (0.05, None, None)

    def test_an_answer_taken_over_costs_nothing_in_any_tier(self) -> None:
        summary = self.summed(answered(0.05, "flex"), answered(0.0, "flex", attempts=0))
        assert (summary.cost_usd, summary.cost_all_realtime_usd, summary.saved_usd) == (0.05, 0.1, 0.05)

    def test_nothing_answered_has_no_cost_to_know(self) -> None:
        assert self.summed(finished("failed")).cost_usd is None

    def test_free_is_known(self) -> None:
        assert self.summed(answered(0.0)).cost_usd == 0.0


def test_latency_is_of_the_deciding_call_only() -> None:
    tally = Tally()
    tally.attempt_failed(attempt_failed(latency=100.0))
    tally.request_finished(finished(latency=2.0))
    summary = tally.summary(run_id="r", total=1, elapsed=1.0, resumable=False)
    assert summary.latency_s.mean == 2.0
    assert summary.by_provider["fast"].latency_s.p99 == pytest.approx(2.0, rel=0.01)
