"""Whether a job with a budget can be kept to it: what every row may cost has to be known before anything is sent."""

from __future__ import annotations

from typing import Final

import msgspec

from promptmill._config import Job
from promptmill._input import JobInput
from promptmill._pricing import PriceTable, Tariff, planned
from promptmill._purse import worst_cost
from promptmill._routing import Router
from promptmill._work import Pricer
from promptmill.errors import InputError, Problem, ProviderError
from promptmill.interfaces import Provider
from promptmill.models import BadRow, Request
from promptmill.options import BuildContext

MOST_NAMED: Final = 5

_HINTS: Final = {
    "no_price": "give it a `price` in the job file, or remove the budget",
    "unbounded_cost": "set `params: {max_tokens: ...}` and leave out images and hosted tools, or remove the budget",
}


class _Priced(msgspec.Struct, frozen=True):
    provider: Provider
    price: Pricer


def has_budget(job: Job) -> bool:
    """Whether the job, or one of its routes, has a budget."""
    return job.budget_usd is not None or any(route.budget_usd is not None for route in job.routes)


async def refuse_unknown_costs(job: Job, job_input: JobInput, context: BuildContext) -> None:
    """Look at what every row may cost at each provider of its route.

    Raises:
        InputError: nobody knows what some row may cost (E0345).
    """
    table = PriceTable(context.clock)
    providers = planned(job.providers, context)
    lanes = {
        name: _Priced(provider, Tariff(provider, job.providers[name].price, table).cost)
        for name, provider in providers.items()
    }
    router = Router(job.routes, list(job.providers))
    reasons: dict[tuple[str, str, str], list[int]] = {}

    def look(entry: Request | BadRow, index: int) -> None:
        if isinstance(entry, BadRow):
            return
        for name in router.chain(entry):
            worst = worst_cost(lanes[name].provider, lanes[name].price, entry)
            if isinstance(worst, ProviderError):
                first_and_count = reasons.setdefault((name, worst.message, worst.code), [index + 1, 0])
                first_and_count[1] += 1
                return

    await job_input.check(look)
    problems = [
        Problem("E0345", _told(f"row {first} at provider {name!r}: {message}", count), None, _HINTS[code])
        for (name, message, code), (first, count) in reasons.items()
    ]
    if problems:
        rows = sum(count for _, count in reasons.values())
        raise InputError(
            f"the job has a budget, and nobody knows what {rows} rows may cost", problems=tuple(problems[:MOST_NAMED])
        )


def _told(message: str, count: int) -> str:
    return message if count == 1 else f"{message} (and so for {count - 1:,} more rows)"
