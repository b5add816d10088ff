"""The end of a run, for people."""

from __future__ import annotations

from collections.abc import Iterator

from promptmill._concurrency import FIRST
from promptmill._report import ProviderSummary, Summary, Tally
from promptmill.cli.terminal import dollars, duration

MOST_CODES = 10

LIMIT_NAMES = {
    "rpm": "requests a minute",
    "tpm": "tokens a minute",
    "itpm": "input tokens a minute",
    "otpm": "output tokens a minute",
}


def lines_of(summary: Summary, tally: Tally) -> Iterator[str]:
    """The closing lines: succeeded, failed, total time, average latency, throughput, and what went where."""
    yield f"succeeded    {summary.succeeded:,} of {summary.total:,}"
    yield f"failed       {summary.failed:,}"
    for code, count in tally.errors.most_common(MOST_CODES):
        yield f"             {count:,} x {code}"
    left = summary.total - summary.succeeded - summary.failed - summary.skipped
    if left:
        yield f"not done     {left:,}"
    yield f"total time   {duration(summary.elapsed_s)}"
    latency = summary.latency_s
    if latency.mean is not None and latency.p95 is not None:
        yield f"latency      {duration(latency.mean)} on average, 95 % within {duration(latency.p95)}"
    yield f"throughput   {summary.requests_per_s:,.1f} requests/s"
    if summary.succeeded:
        yield f"cost         {_cost(summary)}"
    for name, one in summary.by_provider.items():
        yield from _pace(name, one)
    yield from _table(summary.by_provider, with_savings=bool(summary.saved_usd))


def _pace(name: str, one: ProviderSummary) -> Iterator[str]:
    """What was found out about limits and concurrency, and what to write into the job for it."""
    if one.throttled:
        yield f"throttled    {one.throttled:,} calls of {name}; each was sent again later"
    for limit in one.learned_limits:
        how = "as the provider says" if limit.source == "provider" else "found out by its refusals"
        yield f"limit        {name}: about {limit.limit:,.0f} {LIMIT_NAMES[limit.name]}, {how}"
    if one.max_in_flight:
        yield f"cap          {name}: {one.max_in_flight:,} calls in flight at most, found out by its refusals"
    if one.max_concurrency and one.max_concurrency > FIRST:
        most = one.max_concurrency
        yield f"concurrency  {name}: up to {most:,} at once; with `max_concurrency: {most}` it begins with as many"


def _cost(summary: Summary) -> str:
    unpriced = sum(one.unpriced for one in summary.by_provider.values())
    if summary.cost_usd is None:
        return f"not known for {unpriced:,} of {summary.succeeded:,} answers"
    if not summary.saved_usd or not summary.cost_all_realtime_usd:
        return dollars(summary.cost_usd)
    share = summary.saved_usd / summary.cost_all_realtime_usd
    return f"{dollars(summary.cost_usd)}, {dollars(summary.saved_usd)} ({100 * share:.0f} %) less than all in realtime"


def _table(providers: dict[str, ProviderSummary], *, with_savings: bool) -> Iterator[str]:
    """A line for each provider; where something was saved, also by what tier and against what."""
    if not providers:
        return
    head: tuple[str, ...] = ("provider", "ok", "failed", "calls", "tokens in", "tokens out", "cost")
    rows = [head, *(_row(name, one) for name, one in providers.items())]
    if with_savings:
        more = [("all realtime", "saved", "tier"), *map(_savings, providers.values())]
        rows = [row + added for row, added in zip(rows, more, strict=True)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    yield ""
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        yield "  ".join(cells)


def _row(name: str, one: ProviderSummary) -> tuple[str, ...]:
    numbers = (one.succeeded, one.failed, one.attempts, one.input_tokens, one.output_tokens)
    cost = "-" if one.cost_usd is None else dollars(one.cost_usd)
    return (name, *("-" if number is None else f"{number:,}" for number in numbers), cost)


def _savings(one: ProviderSummary) -> tuple[str, ...]:
    amounts = (one.cost_all_realtime_usd, one.saved_usd)
    return (*("-" if amount is None else dollars(amount) for amount in amounts), ", ".join(one.by_tier))
