"""The plan as it is told; its fields are the JSON of ``promptmill plan --json``."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

from promptmill._pricing import Edition
from promptmill.models import Tier

FORMAT_VERSION: Final = 1

BATCH_WINDOW: Final = 86400.0
"""Seconds within which most providers finish a batch."""

BudgetVerdict: TypeAlias = Literal["fits", "may be reached", "will be reached", "would be refused"]

DeadlineVerdict: TypeAlias = Literal["fits", "may need the fallback", "may be missed", "will be missed"]


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


class BudgetPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a budget is enough. ``reason`` says why it would be refused, and what to do."""

    usd: float
    verdict: BudgetVerdict
    reason: str | None = None


class DeadlinePlan(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a deadline can be met. ``batches``, with ``rows`` in them, may take longer than that, and ``stranded``
    rows of them have no fallback."""

    deadline_s: float
    verdict: DeadlineVerdict
    batches: int = 0
    rows: int = 0
    stranded: int = 0


class BatchPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The work of a batch provider. ``enqueued_tokens`` is the limit of tokens that wait in batches at once; with it,
    and with as many batches as may be under way, all have their turn after so many ``rounds``.

    ``latest_finish_s`` seconds from now, at the time ``latest_finish`` (UTC), all rounds are over when each takes
    ``window_s``. None: the provider promises nothing.
    """

    batches: int
    bytes: int
    tokens: int
    enqueued_tokens: int | None
    rounds: int
    window_s: float | None
    latest_finish_s: float | None
    latest_finish: str | None


class RoutePlan(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of one route, all at its first provider. ``unbounded`` rows have no ``max_tokens``.

    ``budget`` is that of the route; ``deadline`` that of the route or the job, whichever comes first.
    """

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
    budget: BudgetPlan | None
    deadline: DeadlinePlan | None


class ProviderPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The work of one provider. ``seconds`` by what sets the pace: limits by name, and ``concurrency``.

    ``refused`` are rows it would not be sent, by error code. A batch provider has a ``batch`` and no ``concurrency``,
    and nobody knows its ``eta_s``.
    """

    rows: int
    refused: dict[str, int]
    concurrency: int | None = None
    seconds: dict[str, float] = {}
    binding: str | None = None
    eta_s: float | None = None
    batch: BatchPlan | None = None


class JobPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a job would come to if it were run from its beginning and nothing failed.

    ``shared`` rows ask what another row asks and are not sent. ``cost_usd`` is what the job costs as it is,
    ``cost_by_tier`` what it would cost all in that tier. ``eta_s`` is None when rows go to a batch provider;
    ``latest_finish_s`` (seconds from now) and ``latest_finish`` (UTC) say then when all is over, if that is promised.
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
    eta_s: float | None
    latest_finish_s: float | None
    latest_finish: str | None
    binding_provider: str | None
    budget: BudgetPlan | None
    deadline: DeadlinePlan | None
    prices: Edition | None
    notes: list[str] = []
    """What is worth saying about the input, for people."""
    assumed: dict[str, tuple[float, ...] | float | None]
