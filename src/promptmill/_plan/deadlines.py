"""Whether deadlines can be met: batches promise a time for all of them, other calls have an estimate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias, get_args

import msgspec

from promptmill._plan.batches import Batch, BatchTally, Group
from promptmill._plan.lanes import LaneTally
from promptmill._plan.records import DeadlinePlan, DeadlineVerdict, ProviderPlan

AnyTally: TypeAlias = LaneTally | BatchTally

_MILDEST_FIRST: Final[tuple[DeadlineVerdict, ...]] = get_args(DeadlineVerdict)


class Part(msgspec.Struct, frozen=True):
    """A provider's work under a deadline: its batches of ``group``, or all; ``rows`` of it are meant."""

    tally: AnyTally
    plan: ProviderPlan
    rows: int
    group: Group | None = None


def deadline_plan(deadline_s: float | None, parts: Sequence[Part]) -> DeadlinePlan | None:
    """The verdict on a deadline; None without one."""
    if deadline_s is None:
        return None
    late = [batch for part in parts for batch in _late(part, deadline_s)]
    return DeadlinePlan(
        deadline_s=deadline_s,
        verdict=max((_verdict(part, deadline_s) for part in parts), key=_MILDEST_FIRST.index, default="fits"),
        batches=len(late),
        rows=sum(batch.requests for batch in late),
        stranded=sum(batch.requests for batch in late if _is_stranded(batch)),
    )


def _late(part: Part, deadline_s: float) -> Iterator[Batch]:
    if isinstance(part.tally, BatchTally):
        yield from part.tally.late(deadline_s, part.group)


def _is_stranded(batch: Batch) -> bool:
    return len(batch.group.chain) == 1


def _verdict(part: Part, deadline_s: float) -> DeadlineVerdict:
    if late := list(_late(part, deadline_s)):
        return "may be missed" if any(_is_stranded(batch) for batch in late) else "may need the fallback"
    if not part.rows or part.plan.eta_s is None or part.plan.eta_s <= deadline_s:
        return "fits"
    # Which rows come first is not known when others share the provider.
    return "will be missed" if part.rows == part.plan.rows else "may be missed"
