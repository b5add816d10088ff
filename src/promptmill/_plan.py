"""What a job would come to: rows, tokens, money and time, worked out from every row, with nothing sent."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from promptmill._config import Job, load_job
from promptmill._input import InputReport, JobInput
from promptmill._lanes import DEFAULT_CONCURRENCY
from promptmill._pricing import Edition, PriceTable, Tariff, planned
from promptmill._quota import Pacer
from promptmill._registry import Registry
from promptmill._report import Money
from promptmill._routing import Route
from promptmill._twins import is_shared, short_digest
from promptmill.clock import Clock, SystemClock, VirtualClock
from promptmill.interfaces import Provider
from promptmill.models import BadRow, Request, Tier, TokenEstimate, Usage
from promptmill.options import BuildContext, ProviderOptions

FORMAT_VERSION: Final = 1

TIERS: Final[tuple[Tier, ...]] = ("realtime", "flex", "batch")

INPUT_SHARES: Final = (0.64, 0.83, 1.0)
"""Low, expected and high share of the estimated input tokens. The estimate counts 3.5 bytes a token, to be on the safe
side; measured with o200k were 4.2 for English and up to 5.5 for other text."""

OUTPUT_SHARES: Final = (0.15, 0.5, 1.0)
"""Low, expected and high share of ``max_tokens`` that answers take. An assumption: only a run can tell."""

UNBOUNDED_TOKENS: Final = 250
"""Output tokens assumed for the time of a call whose answer has no bound."""

FIRST_TOKEN_SECONDS: Final = 1.0
TOKENS_PER_SECOND: Final = 50.0
"""How fast answers are assumed to come when nobody says how long a call takes."""

BATCH_WINDOW: Final = 86400.0
"""Seconds within which most providers finish a batch."""


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """A quantity as it may come. None is unknown; ``low`` counts no output where the output has no bound."""

    low: float | None = None
    expected: float | None = None
    high: float | None = None


class TokenSpread(msgspec.Struct, frozen=True, kw_only=True):
    """Estimated input tokens of one row, and of all."""

    p50: int
    p95: int
    max: int
    total: int


class RoutePlan(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of one route, all at its first provider. ``unbounded`` rows have no ``max_tokens``."""

    route: int
    provider: str
    fallback: tuple[str, ...]
    rows: int
    models: dict[str, int]
    input_tokens: TokenSpread | None
    output_tokens: Range
    unbounded: int
    tier: Tier
    cost_usd: dict[Tier, Range]


class ProviderPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The work of one provider. ``seconds`` by what sets the pace: limits by name, and ``concurrency``.

    ``refused`` are rows it would not be sent, by error code.
    """

    rows: int
    refused: dict[str, int]
    concurrency: int
    seconds: dict[str, float]
    binding: str | None
    eta_s: float


class JobPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a job would come to if it were run from its beginning and nothing failed.

    ``shared`` rows ask what another row asks and are not sent. ``cost_usd`` is what the job costs as it is,
    ``cost_by_tier`` what it would cost all in that tier.
    """

    format_version: int = FORMAT_VERSION
    job: str
    rows: int
    bad_rows: dict[str, int]
    shared: int
    routes: tuple[RoutePlan, ...]
    providers: dict[str, ProviderPlan]
    cost_usd: Range
    cost_by_tier: dict[Tier, Range]
    batch_saves_usd: float | None
    batch_window_s: float = BATCH_WINDOW
    eta_s: float
    binding_provider: str | None
    prices: Edition | None
    assumed: dict[str, tuple[float, ...] | float | None]


class _RouteTally:
    """Adds up the rows of one route."""

    def __init__(self, tier: Tier, tariff: Tariff) -> None:
        self.tier = tier
        self.models: Counter[str] = Counter()
        self.inputs = array("q")
        self.outputs = [0, 0, 0]
        self.unbounded = 0
        self.cost = {tier: (Money(), Money(), Money()) for tier in TIERS}
        self._tariff = tariff

    def add(self, estimate: TokenEstimate, model: str | None) -> None:
        self.models[model or ""] += 1
        self.inputs.append(estimate.input_tokens)
        bound = estimate.output_tokens
        self.unbounded += bound is None
        for level, (input_share, output_share) in enumerate(zip(INPUT_SHARES, OUTPUT_SHARES, strict=True)):
            output = round(bound * output_share) if bound is not None else None if level else 0
            self.outputs[level] += output or 0
            usage = Usage(input_tokens=round(estimate.input_tokens * input_share), output_tokens=output)
            for tier in TIERS:
                self.cost[tier][level].add(self._tariff.cost(usage, model, tier))

    def plan(self, number: int, route: Route) -> RoutePlan:
        low, expected, high = self.outputs
        return RoutePlan(
            route=number,
            provider=route.to,
            fallback=route.fallback,
            rows=len(self.inputs),
            models=dict(self.models.most_common()),
            input_tokens=_spread(self.inputs),
            output_tokens=Range(low=low) if self.unbounded else Range(low=low, expected=expected, high=high),
            unbounded=self.unbounded,
            tier=self.tier,
            cost_usd={tier: _range(self.cost[tier]) for tier in TIERS},
        )


class _LaneTally:
    """Adds up the work of one provider, charged to its limits as a run would."""

    def __init__(self, options: ProviderOptions, provider: Provider, latency: float | None) -> None:
        limits = {name: limit for name, limit in options.limits.model_dump().items() if limit is not None}
        self.provider = provider
        self.refused: Counter[str] = Counter()
        self._rows = 0
        self._busy = 0.0
        self._latency = latency
        self._concurrency = options.max_concurrency or provider.concurrency or DEFAULT_CONCURRENCY
        self._rps: float | None = limits.pop("rps", None)
        self._pacer = Pacer(limits, VirtualClock())

    def admit(self, request: Request) -> TokenEstimate | None:
        """Count ``request``; None when it would not be sent."""
        if request.operation not in self.provider.operations:
            self.refused["unsupported_operation"] += 1
            return None
        estimate = self.provider.estimate(request)
        if self._pacer.oversized(estimate):
            self.refused["over_limit"] += 1
            return None
        self._pacer.charge(estimate)
        self._rows += 1
        self._busy += self._seconds(estimate) if self._latency is None else self._latency
        return estimate

    def plan(self) -> ProviderPlan:
        seconds = {"concurrency": self._busy / min(self._concurrency, max(self._rows, 1)), **self._pacer.owed()}
        if self._rps is not None:
            seconds["rps"] = self._rows / self._rps
        seconds = {name: round(value, 3) for name, value in seconds.items()}
        binding = max(seconds, key=lambda name: seconds[name])
        return ProviderPlan(
            rows=self._rows,
            refused=dict(self.refused),
            concurrency=self._concurrency,
            seconds=seconds,
            binding=binding if self._rows else None,
            eta_s=seconds[binding] if self._rows else 0.0,
        )

    def _seconds(self, estimate: TokenEstimate) -> float:
        bound = estimate.output_tokens
        tokens = UNBOUNDED_TOKENS if bound is None else bound * OUTPUT_SHARES[1]
        return FIRST_TOKEN_SECONDS + tokens / TOKENS_PER_SECOND


class _JobTally:
    """Sends every row on its route, in thought."""

    def __init__(self, job: Job, providers: Mapping[str, Provider], table: PriceTable, latency: float | None) -> None:
        self._job = job
        tariffs = {name: Tariff(providers[name], options.price, table) for name, options in job.providers.items()}
        self._uses_table = any(tariff.uses_table for tariff in tariffs.values())
        self._table = table
        self._latency = latency
        self._lanes = {name: _LaneTally(options, providers[name], latency) for name, options in job.providers.items()}
        self._routes = [_RouteTally(providers[route.to].tier, tariffs[route.to]) for route in job.routes]
        self._digests: set[int] = set()
        self._shared = 0

    def look(self, row: Request | BadRow, index: int) -> None:  # noqa: ARG002 - what JobInput.check calls
        if isinstance(row, BadRow):
            return
        if is_shared(row, self._job.dedupe):
            digest = short_digest(row)
            if digest in self._digests:
                self._shared += 1
                return
            self._digests.add(digest)
        at = next(at for at, route in enumerate(self._job.routes) if route.when is None or route.when.matches(row))
        lane = self._lanes[self._job.routes[at].to]
        estimate = lane.admit(row)
        if estimate is not None:
            self._routes[at].add(estimate, row.model or lane.provider.model)

    def plan(self, report: InputReport) -> JobPlan:
        lanes = {name: lane.plan() for name, lane in self._lanes.items()}
        slowest = max(lanes, key=lambda name: lanes[name].eta_s)
        by_tier = {tier: _summed([route.cost[tier] for route in self._routes if route.inputs]) for tier in TIERS}
        cost = _summed([route.cost[route.tier] for route in self._routes if route.inputs])
        batch = by_tier["batch"].expected
        saves = None if cost.expected is None or batch is None else round(cost.expected - batch, 9)
        return JobPlan(
            job=self._job.name,
            rows=report.rows,
            bad_rows=report.bad_rows,
            shared=self._shared,
            routes=tuple(
                tally.plan(at + 1, route)
                for at, (tally, route) in enumerate(zip(self._routes, self._job.routes, strict=True))
            ),
            providers=lanes,
            cost_usd=cost,
            cost_by_tier=by_tier,
            batch_saves_usd=saves,
            eta_s=lanes[slowest].eta_s,
            binding_provider=slowest if lanes[slowest].rows else None,
            prices=self._table.edition() if self._uses_table else None,
            assumed={"input_shares": INPUT_SHARES, "output_shares": OUTPUT_SHARES, "latency_s": self._latency},
        )


async def plan_job(
    path: Path, *, latency: float | None = None, clock: Clock | None = None, registry: Registry | None = None
) -> JobPlan:
    """Look at every row of a job file and say what running it would come to. Sends nothing and needs no key.

    Args:
        path: the job file.
        latency: seconds a call takes; default: assumed from the length of the answer.
        clock: what day it is, for the prices.
        registry: where components are found.

    Raises:
        JobError: the job file is wrong.
        InputError: the input is, or a template fails on a row.
    """
    job = load_job(path, registry or Registry())
    context = BuildContext(name="input", base_dir=job.base_dir, clock=clock or SystemClock())
    tally = _JobTally(job, planned(job.providers, context), PriceTable(context.clock), latency)
    job_input = JobInput(job, context)
    async with job_input.source:
        return tally.plan(await job_input.check(tally.look))


def _spread(tokens: array[int]) -> TokenSpread | None:
    if not tokens:
        return None
    ordered = sorted(tokens)

    def percentile(share: float) -> int:
        return ordered[max(math.ceil(len(ordered) * share), 1) - 1]

    return TokenSpread(p50=percentile(0.50), p95=percentile(0.95), max=ordered[-1], total=sum(ordered))


def _range(levels: Sequence[Money]) -> Range:
    low, expected, high = (level.total for level in levels)
    return Range(low=low, expected=expected, high=high)


def _summed(parts: Sequence[Sequence[Money]]) -> Range:
    """The sum of several routes; nothing to do costs nothing."""
    if not parts:
        return Range(low=0.0, expected=0.0, high=0.0)
    return _range([Money(levels) for levels in zip(*parts, strict=True)])
