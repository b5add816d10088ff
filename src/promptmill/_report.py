"""What a run came to: tallied while it goes, summed up at its end."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Literal

import msgspec

from promptmill._binding import Binding
from promptmill._channel import Traffic
from promptmill._work import Pricer
from promptmill.interfaces import AttemptFailed, Observer
from promptmill.models import Result, Tier

FORMAT_VERSION: Final = 1

_GROWTH: Final = 1.01
"""Each bucket of the latency histogram is 1 % wider than the one before: percentiles are right to 1 %."""

_SMALLEST: Final = 1e-5
_PER_LOG: Final = 1 / math.log(_GROWTH)


class Latencies:
    """Latencies in seconds, in a histogram whose size does not depend on how many there are."""

    def __init__(self, parts: Iterable[Latencies] = ()) -> None:
        self._buckets: Counter[int] = Counter()
        self._count = 0
        self._sum = 0.0
        for part in parts:
            self._buckets.update(part._buckets)
            self._count += part._count
            self._sum += part._sum

    def add(self, seconds: float) -> None:
        self._buckets[int(math.log(seconds / _SMALLEST) * _PER_LOG) if seconds > _SMALLEST else 0] += 1
        self._count += 1
        self._sum += seconds

    @property
    def mean(self) -> float | None:
        return self._sum / self._count if self._count else None

    def percentile(self, share: float) -> float | None:
        """The latency that ``share`` (0 to 1) of the calls did not exceed; None without any."""
        wanted = math.ceil(share * self._count)
        for bucket in sorted(self._buckets):
            wanted -= self._buckets[bucket]
            if wanted <= 0:
                return float(_SMALLEST * _GROWTH ** (bucket + 0.5))
        return None

    def summary(self) -> LatencySummary:
        return LatencySummary(
            mean=_rounded(self.mean),
            p50=_rounded(self.percentile(0.50)),
            p95=_rounded(self.percentile(0.95)),
            p99=_rounded(self.percentile(0.99)),
        )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)


class LatencySummary(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds; of the calls that decided a request's outcome. Those of a batch are counted from its submission, or from
    when the process that collected it began to follow it, and only for their provider."""

    mean: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


class TierSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The answers of one provider that were billed in one way. Tokens are None when it reported none."""

    succeeded: int = 0
    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: float | None = None


class LearnedLimit(msgspec.Struct, frozen=True, kw_only=True):
    """A limit a minute that the job does not have. ``source``: ``provider`` when it was told, else ``refusals``."""

    name: str
    limit: float
    source: Literal["provider", "refusals"]


class ProviderSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What one provider did. Tokens are None when it reported none.

    Money is that of the answers; it is None when one of them has no known cost, and ``unpriced`` is how many have none.
    ``throttled`` are the calls it refused for a limit in this process, ``max_concurrency`` the most calls at once that
    were found to be of use, where the job does not say how many, ``max_in_flight`` those it was found to take at most,
    and ``binding`` what bounded its calls for most of the time.
    """

    succeeded: int = 0
    failed: int = 0
    attempts: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    cost_all_realtime_usd: float | None = None
    saved_usd: float | None = None
    unpriced: int = 0
    latency_s: LatencySummary = LatencySummary()
    by_tier: dict[str, TierSummary] = {}
    throttled: int = 0
    learned_limits: tuple[LearnedLimit, ...] = ()
    max_concurrency: int | None = None
    max_in_flight: int | None = None
    binding: Binding | None = None


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The summary object (a contract). Money is None when it is not known for every answer."""

    format_version: int = FORMAT_VERSION
    run_id: str
    total: int
    succeeded: int
    failed: int
    skipped: int
    elapsed_s: float
    requests_per_s: float
    latency_s: LatencySummary
    attempts: int
    cost_usd: float | None = None
    cost_all_realtime_usd: float | None = None
    saved_usd: float | None = None
    by_provider: dict[str, ProviderSummary] = {}
    resumable: bool = False
    missing_in_sinks: dict[str, int] = {}
    """Results that a sink does not have, by the name of the sink; none when each has all."""


class Money:
    """A sum of US dollars that is not known as soon as one part of it is not."""

    __slots__ = ("known", "missing", "usd")

    def __init__(self, parts: Iterable[Money] = ()) -> None:
        self.usd = 0.0
        self.known = 0
        self.missing = 0
        for part in parts:
            self.usd += part.usd
            self.known += part.known
            self.missing += part.missing

    def add(self, usd: float | None) -> None:
        if usd is None:
            self.missing += 1
        else:
            self.known += 1
            self.usd += usd

    @property
    def total(self) -> float | None:
        """The sum; None when a part is missing, and without any part."""
        return round(self.usd, 9) if self.known and not self.missing else None


class _TierTally:
    """Answers of one provider in one tier."""

    def __init__(self) -> None:
        self.succeeded = 0
        self.tokens: list[int | None] = [None, None, None, None]
        self.cost = Money()
        self.all_realtime = Money()

    def add(self, result: Result, realtime_usd: float | None) -> None:
        self.succeeded += 1
        usage = result.usage
        counts = (usage.input_tokens, usage.cached_tokens, usage.output_tokens, usage.reasoning_tokens)
        for at, count in enumerate(counts):
            if count is not None:
                self.tokens[at] = (self.tokens[at] or 0) + count
        self.cost.add(result.cost_usd)
        self.all_realtime.add(realtime_usd)

    def summary(self) -> TierSummary:
        input_tokens, cached_tokens, output_tokens, reasoning_tokens = self.tokens
        return TierSummary(
            succeeded=self.succeeded,
            input_tokens=input_tokens,
            cached_tokens=cached_tokens,
            output_tokens=output_tokens,
            reasoning_tokens=reasoning_tokens,
            cost_usd=self.cost.total,
        )


class _ProviderTally:
    def __init__(self, price_of: Callable[[str], Pricer | None]) -> None:
        self.succeeded = 0
        self.failed = 0
        self.attempts = 0
        self.input_tokens: int | None = None
        self.output_tokens: int | None = None
        self.latencies: dict[Tier | None, Latencies] = {}
        self.tiers: dict[Tier, _TierTally] = {}
        self._price_of = price_of

    def add(self, result: Result) -> None:
        if result.ok:
            tier = result.tier or "realtime"
            if tier not in self.tiers:
                self.tiers[tier] = _TierTally()
            self.tiers[tier].add(result, self._realtime_usd(result))
        self.succeeded += result.status == "ok"
        self.failed += result.status == "failed"
        self.attempts += result.ok and result.attempts > 0
        if result.latency_s is not None:
            if result.tier not in self.latencies:
                self.latencies[result.tier] = Latencies()
            self.latencies[result.tier].add(result.latency_s)
        if result.usage.input_tokens is not None:
            self.input_tokens = (self.input_tokens or 0) + result.usage.input_tokens
        if result.usage.output_tokens is not None:
            self.output_tokens = (self.output_tokens or 0) + result.usage.output_tokens

    def money(self) -> tuple[Money, Money]:
        """What its answers cost, and what they would have cost all in realtime."""
        tiers = self.tiers.values()
        return Money(tier.cost for tier in tiers), Money(tier.all_realtime for tier in tiers)

    def _realtime_usd(self, result: Result) -> float | None:
        """What an answer would have cost in realtime; for one that was taken over from elsewhere, nothing either."""
        if result.tier in (None, "realtime") or not result.attempts:
            return result.cost_usd
        price = self._price_of(result.provider or "")
        return price(result.usage, result.model, "realtime") if price else None

    def summary(self, traffic: Traffic) -> ProviderSummary:
        cost, all_realtime = self.money()
        return ProviderSummary(
            cost_usd=cost.total,
            cost_all_realtime_usd=all_realtime.total,
            saved_usd=_saved(cost, all_realtime),
            unpriced=cost.missing,
            by_tier={tier: tally.summary() for tier, tally in sorted(self.tiers.items())},
            succeeded=self.succeeded,
            failed=self.failed,
            attempts=self.attempts,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            latency_s=Latencies(self.latencies.values()).summary(),
            throttled=traffic.refusals,
            learned_limits=tuple(
                LearnedLimit(name=one.name, limit=round(one.limit, 1), source="provider" if one.told else "refusals")
                for one in traffic.learned
            ),
            max_concurrency=traffic.concurrency,
            max_in_flight=traffic.cap,
            binding=traffic.binding,
        )


def _saved(cost: Money, all_realtime: Money) -> float | None:
    if cost.total is None or all_realtime.total is None:
        return None
    return round(all_realtime.usd - cost.usd, 9)


class Tally(Observer):
    """Counts results as they finish. ``price_of`` gives the prices of a provider, by its name."""

    def __init__(self, price_of: Callable[[str], Pricer | None] = lambda _: None) -> None:
        self._price_of = price_of
        self.succeeded = 0
        self.failed = 0
        self.skipped = 0
        self.errors: Counter[str] = Counter()
        """Failed requests by ``error.code``."""
        self.tokens = 0
        """Input and output tokens reported so far."""
        self._providers: dict[str, _ProviderTally] = {}

    def add_finished(self, result: Result) -> None:
        """Count a result of an earlier process. Its attempts are all put down to its last provider."""
        self.request_finished(result)
        if result.provider is not None:
            self._of(result.provider).attempts += max(result.attempts - result.ok, 0)

    def attempt_failed(self, event: AttemptFailed) -> None:
        if event.latency_s is not None:
            self._of(event.provider).attempts += 1

    def _of(self, provider: str) -> _ProviderTally:
        if provider not in self._providers:
            self._providers[provider] = _ProviderTally(self._price_of)
        return self._providers[provider]

    def request_finished(self, result: Result) -> None:
        self.succeeded += result.status == "ok"
        self.failed += result.status == "failed"
        self.skipped += result.status == "skipped"
        self.tokens += (result.usage.input_tokens or 0) + (result.usage.output_tokens or 0)
        if result.error is not None:
            self.errors[result.error.code] += 1
        if result.provider is not None:
            self._of(result.provider).add(result)

    def _calls(self) -> Iterator[Latencies]:
        """Those of single calls."""
        for tally in self._providers.values():
            yield from (latencies for tier, latencies in tally.latencies.items() if tier != "batch")

    def summary(
        self,
        *,
        run_id: str,
        total: int,
        elapsed: float,
        resumable: bool,
        done_before: int = 0,
        traffic: Mapping[str, Traffic] | None = None,
    ) -> Summary:
        """Sum up. ``total`` is the number of inputs, ``elapsed`` the seconds of the run phase of this process,
        ``done_before`` the requests earlier processes had finished, and ``traffic`` that of the providers, by name."""
        finished = self.succeeded + self.failed + self.skipped - done_before
        money = [tally.money() for tally in self._providers.values()]
        cost, all_realtime = Money(one for one, _ in money), Money(one for _, one in money)
        return Summary(
            run_id=run_id,
            total=total,
            succeeded=self.succeeded,
            failed=self.failed,
            skipped=self.skipped,
            elapsed_s=round(elapsed, 4),
            requests_per_s=round(finished / elapsed, 3) if elapsed > 0 else 0.0,
            latency_s=Latencies(self._calls()).summary(),
            attempts=sum(tally.attempts for tally in self._providers.values()),
            cost_usd=cost.total,
            cost_all_realtime_usd=all_realtime.total,
            saved_usd=_saved(cost, all_realtime),
            by_provider={
                name: tally.summary((traffic or {}).get(name, Traffic()))
                for name, tally in sorted(self._providers.items())
            },
            resumable=resumable,
        )
