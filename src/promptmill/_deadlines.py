"""When the deadlines of a job and of its routes are: counted from the beginning of its run, over all its processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from promptmill._journal import Journal
from promptmill._routing import Route
from promptmill.clock import Clock

_META: Final = "deadline_from"


class Deadlines(msgspec.Struct, frozen=True):
    """Seconds since the epoch: of the job, and of routes by their number, none later than the job's."""

    job: float | None
    routes: dict[int, float]


async def deadlines_of(journal: Journal, job: float | None, routes: Sequence[Route], clock: Clock) -> Deadlines:
    """Work out the deadlines. ``job`` is the job's in seconds; once it is over, the time begins anew.

    Raises:
        StorageError: the beginning cannot be noted.
    """
    given = [one for one in (job, *(route.deadline_s for route in routes)) if one is not None]
    if not given:
        return Deadlines(None, {})
    begin = await journal.meta(_META)
    if not isinstance(begin, float) or begin + max(given) <= clock.wall():
        begin = clock.wall()
        await journal.put_meta(_META, begin)
    due = None if job is None else begin + job
    own = {
        number: min(one for one in (route.deadline_s, job) if one is not None) + begin
        for number, route in enumerate(routes)
        if route.deadline_s is not None or job is not None
    }
    return Deadlines(due, own)
