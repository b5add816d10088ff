"""Sends every row of a job on its route, in thought."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from promptmill._config import Job, load_job
from promptmill._input import InputReport, JobInput
from promptmill._plan.batches import BatchTally, Group, at_time
from promptmill._plan.budgets import Worst, budget_plan, refusal_of_fallback
from promptmill._plan.deadlines import AnyTally, Part, deadline_plan
from promptmill._plan.lanes import LaneTally
from promptmill._plan.records import JobPlan, ProviderPlan, RoutePlan
from promptmill._plan.routes import INPUT_SHARES, OUTPUT_SHARES, TIERS, RouteTally, summed
from promptmill._pricing import PriceTable, Tariff, planned
from promptmill._registry import Registry
from promptmill._routing import Route, Router
from promptmill._twins import is_shared, short_digest
from promptmill.batch import BatchProvider
from promptmill.clock import Clock, SystemClock
from promptmill.interfaces import Provider
from promptmill.models import BadRow, Request
from promptmill.options import BuildContext, ProviderOptions


class _JobTally:
    def __init__(self, job: Job, providers: Mapping[str, Provider], table: PriceTable, latency: float | None) -> None:
        self._job = job
        self._clock = table.clock
        self._providers = providers
        self._tariffs = {name: Tariff(providers[name], options.price, table) for name, options in job.providers.items()}
        self._table = table
        self._latency = latency
        self._lanes = {name: self._tally(providers[name], options) for name, options in job.providers.items()}
        self._routes = [self._route(route) for route in job.routes]
        self._groups = [Group(route.chain, _soonest(route.deadline_s, job.deadline_s)) for route in job.routes]
        self._router = Router(job.routes, list(providers))
        self._digests: set[int] = set()
        self._shared = 0

    def _tally(self, provider: Provider, options: ProviderOptions) -> AnyTally:
        if isinstance(provider, BatchProvider):
            return BatchTally(options, provider, self._clock)
        return LaneTally(options, provider, self._latency)

    def _route(self, route: Route) -> RouteTally:
        tier, tariff = self._providers[route.to].tier, self._tariffs[route.to]
        has_budget = self._job.budget_usd is not None or route.budget_usd is not None
        return RouteTally(tier, tariff, Worst(tier, tariff) if has_budget else None)

    def look(self, row: Request | BadRow, index: int) -> None:  # noqa: ARG002 - what JobInput.check calls
        if isinstance(row, BadRow):
            return
        if is_shared(row, self._job.dedupe):
            digest = short_digest(row)
            if digest in self._digests:
                self._shared += 1
                return
            self._digests.add(digest)
        at = self._router.number(row)
        lane = self._lanes[self._job.routes[at].to]
        estimate = lane.admit(row, self._groups[at]) if isinstance(lane, BatchTally) else lane.admit(row)
        if estimate is not None:
            self._routes[at].add(row, estimate, row.model or lane.provider.model)

    def plan(self, report: InputReport) -> JobPlan:
        lanes = {name: lane.plan() for name, lane in self._lanes.items()}
        used = [route for route in self._routes if route.inputs]
        by_tier = {tier: summed([route.cost[tier] for route in used]) for tier in TIERS}
        cost = summed([route.cost[route.tier] for route in used])
        batch = by_tier["batch"].expected
        has_batches = any(one.batch is not None and one.rows for one in lanes.values())
        latest = _latest(lanes)
        slowest = max(lanes, key=lambda name: _seconds(lanes[name]))
        parts = [Part(lane, lanes[name], lane.rows) for name, lane in self._lanes.items()]
        excess = max((route.worst.excess for route in used if route.worst is not None), default=0.0)
        refusals = [self._refusal(at) for at in range(len(self._routes))]
        return JobPlan(
            job=self._job.name,
            rows=report.rows,
            bad_rows=report.bad_rows,
            notes=report.notes,
            shared=self._shared,
            routes=tuple(self._route_plan(at, lanes) for at in range(len(self._routes))),
            providers=lanes,
            cost_usd=cost,
            cost_by_tier=by_tier,
            batch_saves_usd=None if cost.expected is None or batch is None else round(cost.expected - batch, 9),
            eta_s=None if has_batches else lanes[slowest].eta_s,
            latest_finish_s=latest,
            latest_finish=at_time(self._clock, latest),
            binding_provider=slowest if lanes[slowest].rows else None,
            budget=budget_plan(self._job.budget_usd, cost, excess, refusals),
            deadline=deadline_plan(self._job.deadline_s, parts),
            prices=self._table.edition() if any(one.uses_table for one in self._tariffs.values()) else None,
            assumed={"input_shares": INPUT_SHARES, "output_shares": OUTPUT_SHARES, "latency_s": self._latency},
        )

    def _route_plan(self, at: int, lanes: Mapping[str, ProviderPlan]) -> RoutePlan:
        route, tally, group = self._job.routes[at], self._routes[at], self._groups[at]
        cost = summed([tally.cost[tally.tier]] if tally.inputs else [])
        excess = 0.0 if tally.worst is None else tally.worst.excess
        part = Part(self._lanes[route.to], lanes[route.to], len(tally.inputs), group)
        return tally.plan(
            at + 1,
            route,
            budget_plan(route.budget_usd, cost, excess, [self._refusal(at)]),
            deadline_plan(group.deadline_s, [part]),
        )

    def _refusal(self, at: int) -> str | None:
        route, tally = self._job.routes[at], self._routes[at]
        if tally.worst is None or not tally.inputs:
            return None
        return tally.worst.refusal() or refusal_of_fallback(route, self._providers, self._tariffs)


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


def _soonest(*seconds: float | None) -> float | None:
    return min((one for one in seconds if one is not None), default=None)


def _seconds(lane: ProviderPlan) -> float:
    """How long a provider needs: as estimated, or, with batches, at most."""
    if lane.eta_s is not None:
        return lane.eta_s
    if not lane.rows or lane.batch is None:
        return 0.0
    return math.inf if lane.batch.latest_finish_s is None else lane.batch.latest_finish_s


def _latest(lanes: Mapping[str, ProviderPlan]) -> float | None:
    """When all is over that has rows; None without batches, or when one has no promise."""
    if not any(lane.batch is not None and lane.rows for lane in lanes.values()):
        return None
    latest = max(map(_seconds, lanes.values()))
    return None if math.isinf(latest) else latest
