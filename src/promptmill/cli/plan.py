"""``promptmill plan JOB``: what a job would come to, in tokens, money and time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from promptmill.cli.run import JobPath
from promptmill.cli.terminal import dollars, duration, emit, one_line
from promptmill.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from promptmill._plan import BatchPlan, BudgetPlan, DeadlinePlan, JobPlan, ProviderPlan, Range, RoutePlan
    from promptmill.options import RegisterCommand


def plan(
    job: JobPath,
    latency: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="How long a call takes, such as 2s; default: assumed from its max_tokens."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The plan as JSON on stdout.")] = False,
) -> None:
    """Say what a job would come to: rows, tokens, money and time. Looks at every row; sends nothing, needs no key.

    \b
    Examples:
      promptmill plan job.yaml
      promptmill plan job.yaml --latency 2s --json
    """
    import anyio

    from promptmill._plan import plan_job
    from promptmill.cli import warnings
    from promptmill.errors import UsageError
    from promptmill.jsontext import encode
    from promptmill.options import parse_duration

    try:
        seconds = None if latency is None else parse_duration(latency)
    except ValueError as error:
        raise UsageError(f"--latency {latency!r} is no duration: {error}", code="E0140") from error

    async def main() -> JobPlan:
        return await plan_job(job, latency=seconds)

    with warnings.log_told():
        found = anyio.run(main)
    if as_json:
        emit(encode(found).decode())
        return
    for line in lines_of(found):
        emit(one_line(line))


def lines_of(found: JobPlan) -> Iterator[str]:
    """The plan for people."""
    yield f"{found.job}: {found.rows:,} rows, nothing was sent"
    for note in found.notes:
        yield f"note: {note}"
    for code, count in found.bad_rows.items():
        yield f"warning: {count:,} rows cannot be used ({code}); they would end as failed records"
    for name, provider in found.providers.items():
        for code, count in provider.refused.items():
            yield f"warning: {count:,} rows would not be sent to {name} ({code})"
    if found.shared:
        yield f"{found.shared:,} rows ask what another row asks, and share its answer"
    yield ""
    yield from _table(
        ("route", "to", "rows", "tokens in p50", "p95", "max", "all", "tokens out low", "expected", "high"),
        [_tokens(route) for route in found.routes],
        words=2,
    )
    yield ""
    yield from _table(
        ("route", "to", "tier", "cost low", "expected", "high"),
        [line for route in found.routes for line in _costs(route)],
        words=3,
    )
    yield ""
    yield from _verdict(found)


def _tokens(route: RoutePlan) -> tuple[str, ...]:
    spread = route.input_tokens
    counts = (0, 0, 0, 0) if spread is None else (spread.p50, spread.p95, spread.max, spread.total)
    out = route.output_tokens
    return (
        str(route.route),
        route.provider,
        f"{route.rows:,}",
        *(f"{count:,}" for count in counts),
        *("?" if count is None else f"{count:,}" for count in (out.low, out.expected, out.high)),
    )


def _costs(route: RoutePlan) -> Iterator[tuple[str, ...]]:
    """A line for how the route is billed, and one for each other tier that is known to cost something else."""
    for tier, cost in route.cost_usd.items():
        planned = tier == route.tier
        if planned or (cost.low is not None and cost != route.cost_usd[route.tier]):
            yield (str(route.route), route.provider, f"{tier} *" if planned else tier, *map(_usd, _levels(cost)))


def _levels(cost: Range) -> tuple[float | None, ...]:
    return (cost.low, cost.expected, cost.high)


def _usd(amount: float | None) -> str:
    return "?" if amount is None else dollars(amount)


def _verdict(found: JobPlan) -> Iterator[str]:
    cost = found.cost_usd
    if cost.low is None:
        yield "cost   not known: no price for a model here (`price` of a provider in the job gives one)"
    elif cost.expected is None or cost.high is None:
        yield f"cost   {dollars(cost.low)} and more: without max_tokens nobody knows how long answers get"
    else:
        yield f"cost   {dollars(cost.expected)} expected, {dollars(cost.low)} to {dollars(cost.high)}"
    if found.prices is not None:
        yield f"       prices of genai-prices {found.prices.version}, the newest of {found.prices.newest}"
    yield from _budget("", found.budget)
    for route in found.routes:
        yield from _budget(f"route {route.route}: ", route.budget)
    if found.batch_saves_usd:
        hours = found.batch_window_s / 3600
        yield f"batch  saves {dollars(found.batch_saves_usd)} where it is offered, and may take {hours:.0f} h"
    for name, provider in found.providers.items():
        if provider.batch is not None and provider.rows:
            yield _batches(name, provider.rows, provider.batch)
    yield from _time(found)
    yield from _deadline("", found.deadline)
    for route in found.routes:
        if route.deadline is not None and (
            found.deadline is None or route.deadline.deadline_s < found.deadline.deadline_s
        ):
            yield from _deadline(f"route {route.route}: ", route.deadline)


def _budget(whose: str, budget: BudgetPlan | None) -> Iterator[str]:
    if budget is not None:
        reason = "" if budget.reason is None else f": {budget.reason}"
        yield f"budget {whose}{dollars(budget.usd)} {budget.verdict}{reason}"


def _batches(name: str, rows: int, batch: BatchPlan) -> str:
    rounds = "" if batch.rounds == 1 else f", {batch.rounds:,} rounds one after another"
    until = "" if batch.latest_finish is None else f", over by {_at(batch.latest_finish)} at the latest"
    return f"batch  {_count(batch.batches)} at {name} with {rows:,} rows{rounds}{until}"


def _count(batches: int) -> str:
    return "1 batch" if batches == 1 else f"{batches:,} batches"


def _at(time: str) -> str:
    return time.replace("T", " ").replace("Z", " UTC")


def _time(found: JobPlan) -> Iterator[str]:
    if found.binding_provider is None:
        return
    set_by = f"set by {_pace(found.providers[found.binding_provider])} of {found.binding_provider}"
    if found.eta_s is not None:
        yield f"time   {duration(found.eta_s)}, {set_by}"
    elif found.latest_finish_s is not None:
        yield f"time   up to {duration(found.latest_finish_s)}, {set_by}"
    else:
        yield f"time   not known, {set_by}"
    has_calls = any(one.rows and one.batch is None for one in found.providers.values())
    if found.assumed["latency_s"] is None and has_calls:
        yield "       calls are taken to last 1 s and 20 ms a token of their answer; --latency says better"


def _deadline(whose: str, deadline: DeadlinePlan | None) -> Iterator[str]:
    if deadline is None:
        return
    late = f"; {_count(deadline.batches)} with {deadline.rows:,} rows may take longer" if deadline.batches else ""
    stranded = f", and {deadline.stranded:,} of these rows have no fallback" if deadline.stranded else ""
    yield f"within {whose}{duration(deadline.deadline_s)}: {deadline.verdict}{late}{stranded}"


def _pace(provider: ProviderPlan) -> str:
    if provider.batch is not None:
        return "the batches"
    if provider.binding == "concurrency":
        return f"the {provider.concurrency} calls at once"
    return f"the {provider.binding} limit"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, words: int) -> Iterator[str]:
    """Lines of a table whose first ``words`` columns are words, and the others numbers."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        cells = [
            cell.ljust(width) if at < words else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


@hookimpl
def register_command(register: RegisterCommand) -> None:
    register("plan", plan)
