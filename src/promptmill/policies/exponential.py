"""Retry policy ``exponential``: waits that double, with jitter, and the provider's own wish obeyed."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from pydantic import Field

from promptmill.errors import BadOutput, NeverSent, Permanent, ProviderError, Throttled, Transient
from promptmill.hookspecs import hookimpl
from promptmill.interfaces import Decision, Fail, Fallback, Retry
from promptmill.options import BuildContext, Duration, RetryOptions

if TYPE_CHECKING:
    from promptmill.options import Register

Jitter: TypeAlias = Literal["full", "equal", "none"]

NEVER_SENT_ATTEMPTS: Final = 10
"""Calls made before a provider that cannot be reached is given up: they cost nothing."""

THROTTLED_BASE_S: Final = 1.0
THROTTLED_CAP_S: Final = 60.0
"""Waits after a throttled call when the provider does not say how long."""

THROTTLED_PATIENCE_S: Final = 3600.0
"""Seconds after its first call for which a request puts up with being throttled. Throttling does not use up
``attempts``: nothing is wrong with the request, and the pace is brought down elsewhere."""

LONGEST_WISH_S: Final = 600.0
"""A provider that asks for a longer wait is left for the next one of the route."""

_MOST_DOUBLINGS: Final = 60


class ExponentialPolicy:
    """The numbers are those of the reliability notes, 1.4.

    ============  ==========================================  =====================================
    failure       decision                                    after that
    ============  ==========================================  =====================================
    NeverSent     retry, up to 10 calls                       fallback
    Throttled     wait as asked plus 0-10 %, else up to 60 s  fallback after an hour, or when asked
                                                              to wait over 10 minutes
    Transient,    retry, up to ``attempts`` calls             fallback
    BadOutput
    Permanent     fail
    all others    fallback
    ============  ==========================================  =====================================
    """

    def __init__(
        self,
        *,
        attempts: int = 5,
        base: float = 0.5,
        cap: float = 30.0,
        jitter: Jitter = "full",
        seed: int | None = None,
    ) -> None:
        self._attempts = attempts
        self._base = base
        self._cap = cap
        self._jitter = jitter
        self._random = random.Random(seed)  # noqa: S311 - spreads calls, protects nothing

    def decide(self, failure: ProviderError, attempts: int, elapsed: float) -> Decision:
        """See the class. Pure but for the jitter."""
        match failure:
            case Throttled():
                if elapsed >= THROTTLED_PATIENCE_S:
                    return Fallback()
                return self._wait(failure, attempts, THROTTLED_BASE_S, THROTTLED_CAP_S)
            case NeverSent() if attempts < NEVER_SENT_ATTEMPTS:
                return self._wait(failure, attempts, self._base, self._cap)
            case Transient() | BadOutput() if attempts < self._attempts:
                return self._wait(failure, attempts, self._base, self._cap)
            case Permanent():
                return Fail()
            case _:
                return Fallback()

    def _wait(self, failure: ProviderError, attempts: int, base: float, cap: float) -> Decision:
        delay = self._spread(envelope(attempts, base, cap))
        wish = failure.retry_after
        if wish is None or not wish > 0:
            return Retry(delay)
        if wish > LONGEST_WISH_S:
            return Fallback()
        return Retry(max(delay, wish * (1 + 0.1 * self._random.random())))

    def _spread(self, longest: float) -> float:
        if self._jitter == "none":
            return longest
        if self._jitter == "equal":
            return longest / 2 + self._random.uniform(0, longest / 2)
        return self._random.uniform(0, longest)


def envelope(attempts: int, base: float, cap: float) -> float:
    """The longest wait after ``attempts`` calls, in seconds: ``base`` doubled each time, at most ``cap``."""
    doublings = min(max(attempts - 1, 0), _MOST_DOUBLINGS)
    return min(cap, base * 2.0**doublings)


class ExponentialOptions(RetryOptions):
    attempts: int = Field(5, ge=1, description="Calls in all, the first one counted.")
    base: Duration = Field(0.5, description="Longest wait after the first call; it doubles with each further one.")
    cap: Duration = Field(30.0, description="The longest wait.")
    jitter: Jitter = Field("full", description="full: from 0 to the wait; equal: its upper half; none: the wait.")
    seed: int | None = Field(None, description="Makes the jitter repeatable.")

    def build(self, context: BuildContext) -> ExponentialPolicy:  # noqa: ARG002 - the signature of every build
        return ExponentialPolicy(
            attempts=self.attempts, base=self.base, cap=self.cap, jitter=self.jitter, seed=self.seed
        )


@hookimpl
def register_policy(register: Register) -> None:
    register("exponential", ExponentialOptions)
