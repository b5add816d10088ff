"""From a provider as the user gives it to the lane the engine makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from promptmill._batch_lane import BatchLaneSpec
from promptmill._batching import Forgetful
from promptmill._concurrency import MOST
from promptmill._coordinator import Coordinator
from promptmill._descriptors import most_connections
from promptmill._lane import Key, LaneSpec
from promptmill.batch import BatchProvider
from promptmill.errors import JobError
from promptmill.interfaces import RealtimeProvider
from promptmill.options import BatchProviderOptions, BuildContext, ProviderOptions

DEFAULT_TIMEOUT: Final = 600.0
"""Seconds a call may take when its provider was given without options."""

Given: TypeAlias = ProviderOptions | RealtimeProvider | BatchProvider
"""A provider, or the options that make one."""

_NOWHERE: Final = Forgetful(Path())
"""Stands in until it is known where the shards of a run lie."""


def lane_of(
    name: str, given: Given, context: BuildContext, lanes: int, coordinator: Coordinator
) -> LaneSpec | BatchLaneSpec:
    """The lane of one provider of ``lanes``. Its provider is not open yet, and it has no prices.

    ``coordinator`` says where its calls are made.

    Raises:
        JobError: the provider is neither a realtime nor a batch provider.
    """
    options = given if isinstance(given, ProviderOptions) else None
    members = options.members() if options else []
    context = msgspec.structs.replace(context, name=name)
    built = [one.build(context) for one in members]
    provider = built[0] if isinstance(given, ProviderOptions) else given
    if isinstance(provider, BatchProvider):
        return _batch_lane(name, provider, options)
    if not isinstance(provider, RealtimeProvider):
        raise JobError(f"provider {name!r} is neither a realtime nor a batch provider", code="E0232")
    first = members[0] if members else None
    lane = _realtime_lane(name, coordinator.placed(provider, first, context), first, lanes * max(len(members), 1))
    others = tuple(
        Key(coordinator.placed(other, one, context), _limits_of(one))
        for one, other in zip(members[1:], built[1:], strict=True)
        if isinstance(other, RealtimeProvider)
    )
    return msgspec.structs.replace(lane, others=others)


def _realtime_lane(name: str, provider: RealtimeProvider, options: ProviderOptions | None, lanes: int) -> LaneSpec:
    most = _possible(MOST, lanes)
    if options is None:
        concurrency = provider.concurrency
        return LaneSpec(name=name, provider=provider, concurrency=concurrency, most=most, timeout=DEFAULT_TIMEOUT)
    wanted = options.max_concurrency or provider.concurrency
    return LaneSpec(
        name=name,
        provider=provider,
        concurrency=None if wanted is None else _possible(wanted, lanes),
        most=most,
        timeout=options.timeout,
        calls_per_second=options.limits.rps,
        limits=_limits_of(options),
        hedge=options.hedge,
        limit_group=options.limit_group,
    )


def _limits_of(options: ProviderOptions) -> dict[str, float]:
    limits = options.limits.model_dump(exclude={"rps"}, exclude_none=True)
    return {name: float(limit) for name, limit in limits.items()}


def _batch_lane(name: str, provider: BatchProvider, options: ProviderOptions | None) -> BatchLaneSpec:
    spec = BatchLaneSpec(name=name, provider=provider, shelf=_NOWHERE, run_id="")
    if not isinstance(options, BatchProviderOptions):
        return spec
    return msgspec.structs.replace(
        spec,
        timeout=options.timeout,
        poll_interval=options.poll_interval,
        linger=options.linger,
        max_batches=options.max_batches,
        enqueued_tokens=options.enqueued_tokens,
    )


def _possible(concurrency: int, lanes: int) -> int:
    """No more than this lane's share of the file descriptors: running out of them only makes calls fail."""
    most = most_connections()
    return concurrency if most is None else max(min(concurrency, most // lanes), 1)
