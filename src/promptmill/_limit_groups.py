"""Providers that count against the same limits of one account share one pacer."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from promptmill._batch_lane import BatchLaneSpec
from promptmill._lane import LaneSpec, pacer_of
from promptmill.clock import Clock


def with_shared_limits(lanes: Sequence[LaneSpec | BatchLaneSpec], clock: Clock) -> list[LaneSpec | BatchLaneSpec]:
    """The same lanes, those of a limit group with one pacer for them all. Of a limit that several of them name, the
    lowest counts."""
    groups: dict[str, list[LaneSpec]] = {}
    for lane in lanes:
        if isinstance(lane, LaneSpec) and lane.limit_group is not None:
            groups.setdefault(lane.limit_group, []).append(lane)
    pacers = {}
    for name, members in groups.items():
        limits: dict[str, float] = {}
        for member in members:
            for limit, value in member.limits.items():
                limits[limit] = min(value, limits.get(limit, value))
        pacers[name] = pacer_of(members[0].provider, limits, clock)
    return [
        msgspec.structs.replace(lane, shared_pacer=pacers[lane.limit_group])
        if isinstance(lane, LaneSpec) and lane.limit_group is not None
        else lane
        for lane in lanes
    ]
