"""The contract of a retry policy."""

from __future__ import annotations

import math
from typing import Final

import pytest

from promptmill import errors
from promptmill.errors import ProviderError
from promptmill.interfaces import Fail, Fallback, Retry, RetryPolicy
from promptmill.testing.contract import Contract

CLASSES: Final[tuple[type[ProviderError], ...]] = (
    errors.NeverSent,
    errors.Throttled,
    errors.QuotaExhausted,
    errors.Transient,
    errors.Permanent,
    errors.BadOutput,
    errors.ProviderError,
)

_PATIENCE: Final = 10_000
"""Decisions after which a policy that still retries is said never to end."""


class RetryPolicyContract(Contract):
    """Subclass it, name it ``Test...``, set ``options_class`` or override :meth:`make_policy`."""

    def make_policy(self) -> RetryPolicy:
        policy: RetryPolicy = self.build()
        return policy

    @pytest.mark.parametrize("failure", CLASSES)
    @pytest.mark.parametrize("retry_after", [None, 0.0, 7.0, 1e9])
    @pytest.mark.parametrize("attempts", [1, 2, 5, 100, 10**6])
    def test_decides_on_everything(
        self, failure: type[ProviderError], retry_after: float | None, attempts: int
    ) -> None:
        decision = self.make_policy().decide(failure("no", retry_after=retry_after), attempts, float(attempts))
        assert isinstance(decision, Retry | Fallback | Fail)
        if isinstance(decision, Retry):
            assert math.isfinite(decision.after)
            assert decision.after >= 0

    @pytest.mark.parametrize("failure", CLASSES)
    def test_comes_to_an_end(self, failure: type[ProviderError]) -> None:
        policy = self.make_policy()
        elapsed = 0.0
        for attempts in range(1, _PATIENCE):
            decision = policy.decide(failure("no"), attempts, elapsed)
            if not isinstance(decision, Retry):
                return
            elapsed += decision.after + 0.1
        pytest.fail(f"still retries {failure.__name__} after {_PATIENCE} attempts")

    @pytest.mark.parametrize("failure", [errors.Permanent, errors.QuotaExhausted])
    def test_hopeless_failures_are_not_retried(self, failure: type[ProviderError]) -> None:
        assert not isinstance(self.make_policy().decide(failure("no"), 1, 0.0), Retry)

    @pytest.mark.parametrize("failure", [errors.Throttled, errors.Transient])
    def test_waits_as_long_as_asked(self, failure: type[ProviderError]) -> None:
        decision = self.make_policy().decide(failure("no", retry_after=20.0), 1, 0.0)
        if isinstance(decision, Retry):
            assert decision.after >= 20.0
