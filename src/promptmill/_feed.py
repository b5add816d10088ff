"""What the engine is fed: requests, less those whose answer is known already or on its way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Final, TypeAlias

from promptmill._cache import ResponseCache
from promptmill._engine_spec import Entry
from promptmill._routing import Router
from promptmill._twins import Twins, shared_result
from promptmill.models import Request, Result

MOST_WAITING: Final = 50_000
"""Requests that may wait in memory for the answer of an identical one, which may be hours away in a batch."""


Note: TypeAlias = Callable[[Request, Result], None]
"""Takes note of a result that was not asked for, and of the request it is for."""


async def feed(
    entries: AsyncIterator[Sequence[Entry]], twins: Twins, cache: ResponseCache | None, router: Router, note: Note
) -> AsyncIterator[Sequence[Entry]]:
    """Pass ``entries`` on, with what ``cache`` knows and what identical requests share put in as results.

    ``note`` hears of each of these before it is passed on: only here is it known what was asked.
    """
    async for group in entries:
        ready = [taken for entry in group if (taken := _taken(entry, twins, note)) is not None]
        if cache is not None:
            ready = await _looked_up(ready, cache, router, note)
        yield ready
        while twins.waiting >= MOST_WAITING:
            await twins.news()
            yield _noted(twins.ready(), note)
        yield _noted(twins.ready(), note)
    twins.all_read = True
    while twins.waiting:
        await twins.news()
        yield _noted(twins.ready(), note)


def _taken(entry: Entry, twins: Twins, note: Note) -> Entry | None:
    if not twins or isinstance(entry, Result):
        return entry
    taken = twins.take(entry)
    if isinstance(taken, Result):
        note(entry, taken)
    return taken


def _noted(shared: Iterable[tuple[Request, Result]], note: Note) -> list[Result]:
    results = []
    for request, result in shared:
        note(request, result)
        results.append(result)
    return results


async def _looked_up(entries: Sequence[Entry], cache: ResponseCache, router: Router, note: Note) -> list[Entry]:
    await cache.save()
    requests = [(entry, router.chain(entry)[0]) for entry in entries if isinstance(entry, Request)]
    found = await cache.find(requests)
    return [_reused(entry, found, note) if isinstance(entry, Request) else entry for entry in entries]


def _reused(request: Request, found: dict[int, Result], note: Note) -> Entry:
    answer = found.get(request.index)
    if answer is None:
        return request
    shared = shared_result(answer, request)
    note(request, shared)
    return shared
