"""The exponential policy: the contract, the table of decisions, and properties of its waits."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptmill import errors
from promptmill.errors import ProviderError
from promptmill.interfaces import Decision, Fail, Fallback, Retry
from promptmill.options import BuildContext
from promptmill.policies.exponential import ExponentialOptions, ExponentialPolicy, Jitter, envelope
from promptmill.testing import RetryPolicyContract

ATTEMPTS = st.integers(1, 10**9)
SECONDS = st.floats(0, 1e6)
JITTERS = st.sampled_from(["full", "equal", "none"])


class TestExponential(RetryPolicyContract):
    options_class = ExponentialOptions


def plain(**options: object) -> ExponentialPolicy:
    return ExponentialOptions.model_validate({"jitter": "none", **options}).build(BuildContext(name="retry"))


@pytest.mark.parametrize(
    ("failure", "attempts", "decision"),
    [
        (errors.Transient("no"), 1, Retry(0.5)),
        (errors.Transient("no"), 4, Retry(4.0)),
        (errors.Transient("no"), 5, Fallback()),
        (errors.BadOutput("no"), 1, Retry(0.5)),
        (errors.BadOutput("no"), 5, Fallback()),
        (errors.NeverSent("no"), 9, Retry(30.0)),
        (errors.NeverSent("no"), 10, Fallback()),
        (errors.Throttled("no"), 1, Retry(1.0)),
        (errors.Throttled("no"), 50, Retry(60.0)),
        (errors.Throttled("no", retry_after=601), 1, Fallback()),
        (errors.Transient("no", retry_after=601), 1, Fallback()),
        (errors.Throttled("no", retry_after=0), 1, Retry(1.0)),
        (errors.Throttled("no", retry_after=-5), 1, Retry(1.0)),
        (errors.Throttled("no", retry_after=math.nan), 1, Retry(1.0)),
        (errors.Throttled("no", retry_after=math.inf), 1, Fallback()),
        (errors.Permanent("no"), 1, Fail()),
        (errors.Permanent("no", retry_after=1), 1, Fail()),
        (errors.QuotaExhausted("no"), 1, Fallback()),
        (errors.AuthFailed("no"), 1, Fallback()),
        (errors.ProviderError("no"), 1, Fallback()),
    ],
)
def test_decisions(failure: ProviderError, attempts: int, decision: Decision) -> None:
    assert plain().decide(failure, attempts, 0.0) == decision


def test_throttling_is_put_up_with_for_an_hour() -> None:
    assert plain().decide(errors.Throttled("no", retry_after=5), 1, 3599.0) != Fallback()
    assert plain().decide(errors.Throttled("no", retry_after=5), 1, 3600.0) == Fallback()


def test_options() -> None:
    policy = plain(attempts=2, base="100ms", cap="150ms")
    assert policy.decide(errors.Transient("no"), 1, 0.0) == Retry(0.1)
    assert policy.decide(errors.Transient("no"), 2, 0.0) == Fallback()
    assert plain(attempts=9, base="100ms", cap="150ms").decide(errors.Transient("no"), 2, 0.0) == Retry(0.15)
    assert plain(attempts=1).decide(errors.Transient("no"), 1, 0.0) == Fallback()


def test_seed_repeats_the_jitter() -> None:
    def waits(seed: int | None) -> list[Decision]:
        policy = plain(jitter="full", seed=seed)
        return [policy.decide(errors.Throttled("no"), attempts, 0.0) for attempts in range(1, 20)]

    assert waits(7) == waits(7)
    assert waits(7) != waits(8)
    assert waits(None) != waits(None)


@given(ATTEMPTS, SECONDS, SECONDS)
def test_envelope_is_finite_capped_and_never_falls(attempts: int, base: float, cap: float) -> None:
    longest = envelope(attempts, base, cap)
    assert math.isfinite(longest)
    assert 0 <= longest <= cap
    assert envelope(attempts + 1, base, cap) >= longest


@given(ATTEMPTS, SECONDS, SECONDS, JITTERS, st.integers())
def test_waits_stay_within_the_envelope(attempts: int, base: float, cap: float, jitter: Jitter, seed: int) -> None:
    policy = ExponentialPolicy(attempts=10**10, base=base, cap=cap, jitter=jitter, seed=seed)
    decision = policy.decide(errors.Transient("no"), attempts, 0.0)
    assert isinstance(decision, Retry)
    longest = envelope(attempts, base, cap)
    assert {"full": 0, "equal": longest / 2, "none": longest}[jitter] <= decision.after <= longest


@given(ATTEMPTS, st.floats(allow_nan=True, allow_infinity=True), JITTERS, st.sampled_from([0.0, 10.0]))
def test_the_wish_is_obeyed_in_full_or_not_at_all(attempts: int, wish: float, jitter: Jitter, elapsed: float) -> None:
    policy = ExponentialPolicy(jitter=jitter)
    decision = policy.decide(errors.Throttled("no", retry_after=wish), attempts, elapsed)
    if wish > 600:
        assert decision == Fallback()
    else:
        assert isinstance(decision, Retry)
        assert decision.after >= 0
        assert decision.after <= max(60.0, 660.0 if wish > 0 else 0.0)
        if wish > 0:
            assert decision.after >= wish
            assert decision.after <= max(wish * 1.1, 60.0)


def test_full_jitter_spreads_over_the_whole_wait() -> None:
    policy = ExponentialPolicy(seed=1)
    waits = [policy.decide(errors.Transient("no"), 4, 0.0) for _ in range(1000)]
    seconds = [wait.after for wait in waits if isinstance(wait, Retry)]
    assert len(seconds) == 1000
    assert min(seconds) < 0.4
    assert max(seconds) > 3.6
    assert 1.8 < sum(seconds) / 1000 < 2.2
