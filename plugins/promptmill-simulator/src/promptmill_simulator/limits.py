"""Requests and tokens a minute, enforced by meters and told in headers.

Header names, the Go form of durations and the words of the 429: the official rate limit guide. The token charge at
admission is the higher of ``max_tokens`` and an estimate from the prompt's characters (same guide).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from promptmill.clock import Clock
from promptmill.interfaces import Charging
from promptmill_simulator.apierror import ApiError, Headers
from promptmill_simulator.meters import METERS, LimitKind, Meter, Taken
from promptmill_simulator.retry_after import RetryAfterField
from promptmill_simulator.task import Task

_SHORT: Final[Mapping[str, str]] = {"requests": "RPM", "tokens": "TPM"}


class RateLimits(BaseModel):
    """Limits of each model. None: no limit of that kind."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rpm: float | None = Field(None, gt=0, description="Requests a minute.")
    tpm: float | None = Field(None, gt=0, description="Tokens a minute.")
    max_in_flight: int | None = Field(None, ge=1, description="Requests at a time; one above that is refused at once.")
    kind: LimitKind = Field(
        "bucket",
        description="bucket refills evenly and starts full, bucket-empty starts empty, second holds one second's "
        "worth; minute counts anew with each minute of the clock, window counts the last 60 seconds.",
    )
    burst: float = Field(
        60.0, gt=0, description="Seconds of quota that a bucket holds, which may be used at once; 60 is a full minute."
    )
    charging: Charging = Field("reserve", description="reserve keeps the charge, settle corrects it to the real use.")
    count_refused: bool = Field(False, description="Whether a refused request uses up a request too.")
    headers: bool = Field(True, description="Whether replies tell limits in x-ratelimit-* headers.")
    retry_after: bool = Field(True, description="Whether a refusal says when to come back.")
    fixed_wait: RetryAfterField | None = Field(
        None, description="What every refusal says instead of the true wait: 1, 0.5 or 250ms."
    )

    @model_validator(mode="after")
    def _one_hint(self) -> Self:
        if self.fixed_wait is not None and not self.retry_after:
            raise ValueError("a fixed Retry-After and none at all exclude each other; choose one")
        if self.fixed_wait is not None and self.fixed_wait.form == "date":
            raise ValueError("a fixed Retry-After is seconds or milliseconds, such as 1 or 250ms, not a date")
        return self


class Account:
    """The meters of one model. ``now`` is the time of the clock they go by: :meth:`RateLimiter.now`."""

    def __init__(self, limits: RateLimits, now: float) -> None:
        meter = METERS[limits.kind]
        self._limits = limits
        self._in_flight = 0
        self.requests = None if limits.rpm is None else meter(limits.rpm, limits.burst, now)
        self.tokens = None if limits.tpm is None else meter(limits.tpm, limits.burst, now)

    def admit(self, task: Task, now: float) -> Taken | None:
        """Take one request and the tokens of ``task``; return the tokens taken, for :meth:`settle`.

        The request is in flight from then on, until :meth:`leave`.

        Raises:
            ApiError: 429, with nothing taken.
        """
        if self._limits.max_in_flight is not None and self._in_flight >= self._limits.max_in_flight:
            self._count_refused(now)
            raise self._crowded(task, now)
        charge = float(max(task.max_output_tokens or 0, task.input_tokens))
        for dimension, meter, amount in (("requests", self.requests, 1.0), ("tokens", self.tokens, charge)):
            if meter is not None and meter.wait_for(amount, now) > 0:
                self._count_refused(now)
                raise self._refusal(task, dimension, meter, amount, now)
        if self.requests is not None:
            self.requests.take(1.0, now)
        self._in_flight += 1
        return None if self.tokens is None else self.tokens.take(charge, now)

    def leave(self) -> None:
        """An admitted request is in flight no more."""
        self._in_flight -= 1

    def _crowded(self, task: Task, now: float) -> ApiError:
        # No one knows when a request will end: there is no true wait, only a fixed one.
        headers = self.headers(now)
        if self._limits.fixed_wait is not None:
            headers += self._limits.fixed_wait.headers(0.0)
        message = (
            f"Too many concurrent requests for {task.model} in organization org-simulator: "
            f"Limit {self._limits.max_in_flight}, Current {self._in_flight}."
        )
        return _too_many(message, "requests", headers)

    def settle(self, charged: Taken | None, used: int, now: float) -> None:
        """Correct the charge to what was used, where the limits say so."""
        if self._limits.charging == "settle" and self.tokens is not None and charged is not None:
            self.tokens.correct(charged, float(used), now)

    def headers(self, now: float) -> Headers:
        """What is left of each limit; nothing when limits are not told."""
        return [*self._told("requests", self.requests, now), *self._told("tokens", self.tokens, now)]

    def _told(self, dimension: str, meter: Meter | None, now: float) -> Headers:
        if meter is None or not self._limits.headers:
            return []
        name = dimension.encode()
        return [
            (b"x-ratelimit-limit-" + name, b"%d" % meter.limit),
            (b"x-ratelimit-remaining-" + name, b"%d" % max(0, math.floor(meter.remaining(now)))),
            (b"x-ratelimit-reset-" + name, go_duration(meter.reset_in(now)).encode()),
        ]

    def _count_refused(self, now: float) -> None:
        if self._limits.count_refused and self.requests is not None:
            self.requests.take(min(1.0, max(0.0, self.requests.remaining(now))), now)

    def _refusal(self, task: Task, dimension: str, meter: Meter, amount: float, now: float) -> ApiError:
        wait = meter.wait_for(amount, now)
        where = f"for {task.model} in organization org-simulator on {dimension} per min ({_SHORT[dimension]})"
        if math.isinf(wait):
            message = (
                f"Request too large {where}: Limit {meter.limit:.0f}, Requested {amount:.0f}. "
                "The input or output tokens must be reduced in order to run successfully."
            )
            return _too_many(message, dimension, self._told(dimension, meter, now))
        used = meter.capacity - meter.remaining(now)
        message = f"Rate limit reached {where}: Limit {meter.limit:.0f}, Used {used:.0f}, Requested {amount:.0f}."
        headers = self.headers(now)
        if self._limits.fixed_wait is not None:
            # No "try again in": a client that reads it would learn the true wait after all.
            headers += self._limits.fixed_wait.headers(0.0)
        elif self._limits.retry_after:
            message += f" Please try again in {go_duration(wait)}."
            headers += [
                (b"retry-after", b"%d" % max(1, math.ceil(wait - 1e-6))),
                (b"retry-after-ms", b"%d" % max(1, math.ceil(wait * 1000))),
            ]
        return _too_many(message, dimension, headers)


class RateLimiter:
    """One account for each model, as the official API has it."""

    def __init__(self, limits: RateLimits, clock: Clock) -> None:
        self._limits = limits
        self._accounts: dict[str, Account] = {}
        self.active = any(limit is not None for limit in (limits.rpm, limits.tpm, limits.max_in_flight))
        self.now = clock.wall if METERS[limits.kind].by_wall else clock.now
        """The time to tell accounts: of the wall where minutes of the calendar count, else the monotonic one."""

    def account(self, model: str) -> Account | None:
        """The meters of ``model``; None when nothing is limited. They start with the first request."""
        if not self.active:
            return None
        account = self._accounts.get(model)
        if account is None:
            account = self._accounts[model] = Account(self._limits, self.now())
        return account

    def reset(self) -> None:
        """Start all meters anew."""
        self._accounts.clear()


def _too_many(message: str, dimension: str, headers: Headers) -> ApiError:
    return ApiError(429, message, kind=dimension, code="rate_limit_exceeded", headers=headers)


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
