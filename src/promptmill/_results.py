"""The one result of a request, made of how its last attempt went."""

from __future__ import annotations

from promptmill._work import AnyLane, Work
from promptmill.errors import ProviderError
from promptmill.models import Response, Result


def ok_result(lane: AnyLane, work: Work, response: Response, latency: float) -> Result:
    """What a response comes to."""
    model = response.model or work.request.model or lane.provider.model
    return Result(
        id=work.request.id,
        index=work.request.index,
        status="ok",
        text=response.text,
        finish_reason=response.finish_reason,
        provider=lane.name,
        model=model,
        tier=response.tier,
        attempts=work.attempts,
        latency_s=latency,
        usage=response.usage,
        cost_usd=lane.cost(response.usage, model, response.tier),
        meta=work.request.meta,
    )


def failed_result(lane: AnyLane, work: Work, failure: ProviderError, latency: float | None) -> Result:
    """What a failure comes to that is not tried again. ``latency`` is None when nothing was sent."""
    return Result(
        id=work.request.id,
        index=work.request.index,
        status="failed",
        provider=lane.name,
        model=work.request.model or lane.provider.model,
        tier=None if latency is None else lane.provider.tier,
        attempts=work.attempts,
        latency_s=latency,
        error=failure.info(),
        meta=work.request.meta,
    )
