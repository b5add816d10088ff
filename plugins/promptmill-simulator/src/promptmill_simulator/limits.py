"""Requests and tokens a minute, enforced with token buckets and told in headers.

Header names, the Go form of durations and the words of the 429: the official rate limit guide. The token charge at
admission is the higher of ``max_tokens`` and an estimate from the prompt's characters (same guide).
"""

from __future__ import annotations

import math
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from promptmill.clock import Clock
from promptmill.interfaces import Charging
from promptmill_simulator.apierror import ApiError, Headers
from promptmill_simulator.task import Task

_MINUTE: Final = 60.0


class RateLimits(BaseModel):
    """Limits of each model. None: no limit of that kind."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rpm: float | None = Field(None, gt=0, description="Requests a minute.")
    tpm: float | None = Field(None, gt=0, description="Tokens a minute.")
    burst: float = Field(60.0, gt=0, description="Seconds of quota that may be used at once; 60 is a full minute.")
    charging: Charging = Field("reserve", description="reserve keeps the charge, settle corrects it to the real use.")
    count_refused: bool = Field(False, description="Whether a refused request uses up a request too.")


class Bucket:
    """A token bucket that starts full. ``limit`` is per minute."""

    def __init__(self, limit: float, burst: float, now: float) -> None:
        self.limit = limit
        self.rate = limit / _MINUTE
        self.capacity = max(1.0, self.rate * burst)
        self.level = self.capacity
        self._at = now

    def refill(self, now: float) -> None:
        self.level = min(self.capacity, self.level + (now - self._at) * self.rate)
        self._at = now

    def wait_for(self, amount: float) -> float:
        """Seconds until ``amount`` is there; infinite when it never can be."""
        if amount > self.capacity:
            return math.inf
        return max(0.0, (amount - self.level) / self.rate)

    def headers(self, name: bytes) -> Headers:
        full_in = (self.capacity - self.level) / self.rate
        return [
            (b"x-ratelimit-limit-" + name, b"%d" % self.limit),
            (b"x-ratelimit-remaining-" + name, b"%d" % max(0, math.floor(self.level))),
            (b"x-ratelimit-reset-" + name, go_duration(full_in).encode()),
        ]


class Account:
    """The buckets of one model."""

    def __init__(self, limits: RateLimits, now: float) -> None:
        self._limits = limits
        self.requests = None if limits.rpm is None else Bucket(limits.rpm, limits.burst, now)
        self.tokens = None if limits.tpm is None else Bucket(limits.tpm, limits.burst, now)

    def admit(self, task: Task, now: float) -> float:
        """Take one request and the tokens of ``task``; return the tokens charged.

        Raises:
            ApiError: 429, with nothing taken.
        """
        charge = float(self._charge(task))
        wants = (("requests", "RPM", self.requests, 1.0), ("tokens", "TPM", self.tokens, charge))
        for _, _, bucket, _ in wants:
            if bucket is not None:
                bucket.refill(now)
        for dimension, short, bucket, amount in wants:
            if bucket is not None and bucket.wait_for(amount) > 0:
                if self._limits.count_refused and self.requests is not None:
                    self.requests.level = max(0.0, self.requests.level - 1)
                raise self._refusal(task, dimension, short, bucket, amount)
        for _, _, bucket, amount in wants:
            if bucket is not None:
                bucket.level -= amount
        return charge

    def settle(self, charged: float, used: int, now: float) -> None:
        """Correct the charge to what was used, where the limits say so."""
        if self._limits.charging == "settle" and self.tokens is not None:
            self.tokens.refill(now)
            self.tokens.level = min(self.tokens.capacity, self.tokens.level + charged - used)

    def headers(self, now: float) -> Headers:
        headers: Headers = []
        for name, bucket in ((b"requests", self.requests), (b"tokens", self.tokens)):
            if bucket is not None:
                bucket.refill(now)
                headers += bucket.headers(name)
        return headers

    def _charge(self, task: Task) -> int:
        return max(task.max_output_tokens or 0, task.input_tokens)

    def _refusal(self, task: Task, dimension: str, short: str, bucket: Bucket, amount: float) -> ApiError:
        wait = bucket.wait_for(amount)
        limit, used = f"{bucket.limit:.0f}", f"{bucket.capacity - bucket.level:.0f}"
        if math.isinf(wait):
            return ApiError(
                429,
                f"Request too large for {task.model} in organization org-simulator on {dimension} per min ({short}): "
                f"Limit {limit}, Requested {amount:.0f}. The input or output tokens must be reduced in order to run "
                "successfully.",
                kind=dimension,
                code="rate_limit_exceeded",
                headers=bucket.headers(dimension.encode()),
            )
        others = self.requests if bucket is self.tokens else self.tokens
        other_name = b"requests" if bucket is self.tokens else b"tokens"
        headers = [
            (b"retry-after", b"%d" % max(1, math.ceil(wait - 1e-6))),
            (b"retry-after-ms", b"%d" % max(1, math.ceil(wait * 1000))),
            *bucket.headers(dimension.encode()),
            *(others.headers(other_name) if others is not None else ()),
        ]
        return ApiError(
            429,
            f"Rate limit reached for {task.model} in organization org-simulator on {dimension} per min ({short}): "
            f"Limit {limit}, Used {used}, Requested {amount:.0f}. Please try again in {go_duration(wait)}.",
            kind=dimension,
            code="rate_limit_exceeded",
            headers=headers,
        )


class RateLimiter:
    """One account for each model, as the official API has it."""

    def __init__(self, limits: RateLimits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._accounts: dict[str, Account] = {}
        self.active = limits.rpm is not None or limits.tpm is not None

    def account(self, model: str) -> Account | None:
        """The buckets of ``model``; None when nothing is limited."""
        if not self.active:
            return None
        account = self._accounts.get(model)
        if account is None:
            account = self._accounts[model] = Account(self._limits, self._clock.now())
        return account

    def reset(self) -> None:
        """Fill all buckets."""
        self._accounts.clear()


def go_duration(seconds: float) -> str:
    """Seconds in the way Go prints a duration: ``0s``, ``20ms``, ``1.5s``, ``6m0s``, ``1h2m3s``."""
    milliseconds = round(max(0.0, seconds) * 1000)
    if milliseconds == 0:
        return "0s"
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    tail = f"{rest // 1000}s" if rest % 1000 == 0 else f"{rest / 1000:.3f}".rstrip("0") + "s"
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{tail}"
    return f"{minutes}m{tail}" if minutes else tail
