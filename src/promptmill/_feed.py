"""What the engine is fed: requests, less those whose answer is known already or on its way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final

from promptmill._cache import ResponseCache
from promptmill._engine import Entry
from promptmill._routing import Router
from promptmill._twins import Twins, shared_result
from promptmill.models import Request, Result

MOST_WAITING: Final = 10_000
"""Requests that may wait in memory for the answer of an identical one."""


async def feed(
    entries: AsyncIterator[Sequence[Entry]], twins: Twins, cache: ResponseCache | None, router: Router
) -> AsyncIterator[Sequence[Entry]]:
    """Pass ``entries`` on, with what ``cache`` knows and what identical requests share put in as results."""
    async for group in entries:
        ready = [taken for entry in group if (taken := _taken(entry, twins)) is not None]
        if cache is not None:
            ready = await _looked_up(ready, cache, router)
        yield ready
        while twins.waiting >= MOST_WAITING:
            await twins.news()
            yield list(twins.ready())
        yield list(twins.ready())
    while twins.waiting:
        await twins.news()
        yield list(twins.ready())


def _taken(entry: Entry, twins: Twins) -> Entry | None:
    return twins.take(entry) if twins and isinstance(entry, Request) else entry


async def _looked_up(entries: Sequence[Entry], cache: ResponseCache, router: Router) -> list[Entry]:
    await cache.save()
    requests = [(entry, router.chain(entry)[0]) for entry in entries if isinstance(entry, Request)]
    found = await cache.find(requests)
    return [_reused(entry, found) if isinstance(entry, Request) else entry for entry in entries]


def _reused(request: Request, found: dict[int, Result]) -> Entry:
    answer = found.get(request.index)
    return request if answer is None else shared_result(answer, request)
