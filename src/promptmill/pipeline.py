"""The engine as a library: prompts in, results out, as they complete or in input order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeAlias

import anyio
import msgspec
from anyio import to_thread

from promptmill._batch_lane import BatchLaneSpec
from promptmill._batching import Forgetful, Shelf
from promptmill._budget import Budget
from promptmill._coordinator import Coordinator
from promptmill._delivery import Consumer
from promptmill._engine_spec import EngineSpec, Entry, StopWhen
from promptmill._entries import entries_of
from promptmill._journal import Journal
from promptmill._lane import LaneSpec
from promptmill._lanes import Given, lane_of
from promptmill._limit_groups import with_shared_limits
from promptmill._observers import Audience
from promptmill._pricing import PriceTable, Tariff
from promptmill._purse import RUN, Purse, route_scope
from promptmill._registry import Registry
from promptmill._report import Summary
from promptmill._routing import Route, Router
from promptmill._run import Run, new_run_id
from promptmill._work import Pricer
from promptmill.clock import Clock, SystemClock
from promptmill.errors import JobError
from promptmill.interfaces import Observer, Provider, RetryPolicy, Sink
from promptmill.models import Request, Result
from promptmill.options import BuildContext, ProviderOptions

Prompt: TypeAlias = str | Mapping[str, Any] | Request
"""A prompt as text, a mapping with ``prompt`` or ``messages`` (and ``id``), or a finished request."""

Prompts: TypeAlias = Iterable[Prompt] | AsyncIterable[Prompt]
"""Any number of prompts. A data frame (pandas, polars, PyArrow) is taken for its rows."""

__all__ = ["Pipeline", "Prompt", "Prompts"]


class RunPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What one run of a pipeline is to be.

    ``total`` is the number of inputs, when it is known; ``dues`` are the deadlines of routes by their number, and
    ``due`` that of the run (seconds since the epoch); ``detach`` stops when all that is left is in batches, for
    which ``all_read`` tells whether the input is at its end; ``cancel`` ends the batches of earlier processes and sends
    nothing.
    """

    run_id: str | None = None
    total: int | None = None
    journal: Journal | None = None
    shelf: Shelf | None = None
    dues: Mapping[int, float] = {}
    due: float | None = None
    detach: bool = False
    all_read: Callable[[], bool] = lambda: False
    cancel: bool = False


class Pipeline:
    """Providers, routes and everything around them, ready to run prompts.

    Args:
        providers: by name, either options, as a plugin offers them, or a provider object.
        routes: which requests go where; may be left out with one provider.
        retry: what to do after a failed attempt; default: exponential backoff, 5 attempts.
        sinks: take the results as well, before they are yielded.
        observers: told of every attempt that failed and every result.
        stop_when: the failure rate that ends a run.
        budget_usd: the most a run may cost, in US dollars.
        workers: processes that make the calls of providers given as options; 1: this one. Limits, retries and the
            journal are seen to here all the same.
        clock: the source of time, for tests and rehearsals.
        base_dir: where relative paths in options start; default: the current directory.
        allow_code: whether options may name Python code to run.

    Each call of :meth:`stream`, :meth:`gather` or :meth:`run` opens the providers and closes them again; inside
    ``async with pipeline:`` they stay open from call to call.

    Raises:
        JobError: the routes do not fit the providers.
    """

    def __init__(
        self,
        providers: Mapping[str, Given],
        routes: Sequence[Route] | None = None,
        *,
        retry: RetryPolicy | None = None,
        sinks: Sequence[Sink] = (),
        observers: Sequence[Observer] = (),
        stop_when: StopWhen | None = None,
        budget_usd: float | None = None,
        workers: int = 1,
        clock: Clock | None = None,
        base_dir: Path | None = None,
        allow_code: bool = True,
    ) -> None:
        if not providers:
            raise JobError("there is no provider", code="E0204")
        if routes is None and len(providers) > 1:
            raise JobError(f"there are {len(providers)} providers and no routes", code="E0230")
        self._providers = dict(providers)
        self._prices = PriceTable(clock or SystemClock())
        self._router = Router(routes or [Route(next(iter(providers)))], list(providers))
        self._context = BuildContext(
            name="retry", base_dir=base_dir or Path.cwd(), clock=clock or SystemClock(), allow_code=allow_code
        )
        self._policy = retry or Registry().get("policy", "exponential")().build(self._context)
        self._sinks = sinks
        self._observers = observers
        self._stop_when = stop_when
        self._budget_usd = budget_usd
        if workers < 1:
            raise JobError(f"there cannot be {workers} workers; 1 is this process alone", code="E0233")
        self._workers = workers
        self._stack: AsyncExitStack | None = None
        self._opened = _Opened([], Coordinator())

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._opened = await self._open(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stack, self._stack = self._stack, None
        if stack is not None:
            await stack.aclose()

    async def stream(self, prompts: Prompts) -> AsyncGenerator[Result, None]:
        """Yield each result as soon as it is there. Closing the generator early cancels the calls in flight.

        Raises:
            RunStopped: after the last result, when the run ended early.
        """
        send, receive = anyio.create_memory_object_stream[Sequence[Result]](1)
        scope = anyio.CancelScope()

        async def mill() -> Run:
            with scope:
                async with send:
                    return await self._mill(entries_of(prompts), consumer=send.send)
            raise asyncio.CancelledError

        # A task of its own rather than a task group around the yields: the consumer may close this generator from
        # anywhere, and a cancel scope must not be left from another task.
        task = asyncio.create_task(mill())
        try:
            async with receive:
                async for group in receive:
                    for result in group:
                        yield result
            run = await task
            if run.stopped:
                raise run.stopped
        finally:
            scope.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # seen by the consumer above, or of no interest to one that has left

    async def gather(self, prompts: Prompts) -> list[Result]:
        """Run all prompts and return their results in input order.

        Raises:
            RunStopped: the run ended early; its ``results`` are those that finished.
        """
        results: list[Result] = []

        async def collect(group: Sequence[Result]) -> None:
            results.extend(group)

        run = await self._mill(entries_of(prompts), consumer=collect)
        results.sort(key=lambda result: result.index)
        if run.stopped:
            run.stopped.results = tuple(results)
            raise run.stopped
        return results

    async def run(self, prompts: Prompts) -> Summary:
        """Run all prompts into the sinks and return the summary.

        Raises:
            RunStopped: the run ended early.
        """
        run = await self._mill(entries_of(prompts))
        if run.stopped:
            raise run.stopped
        return run.summary()

    @asynccontextmanager
    async def prepare(self, plan: RunPlan | None = None, *, consumer: Consumer | None = None) -> AsyncIterator[Run]:
        """Open everything and give a run that can be started, watched and stopped.

        With an open journal results go there and to ``consumer``, and nowhere else. Without one the batches of a batch
        provider are forgotten when the process ends.
        """
        plan = plan or RunPlan()
        run_id = plan.run_id or new_run_id(self._context.clock)
        async with AsyncExitStack() as stack:
            opened = self._opened if self._stack else await self._open(stack)
            for sink in self._sinks:
                await stack.enter_async_context(sink)
                await sink.start(None)
            shelf = plan.shelf
            if shelf is None:
                shelf = Forgetful(Path(stack.enter_context(TemporaryDirectory(prefix="promptmill-"))))
            spec = EngineSpec(
                lanes=with_shared_limits(
                    [_placed(lane, shelf, run_id, plan.cancel) for lane in opened.lanes], self._context.clock
                ),
                router=self._router,
                policy=self._policy,
                clock=self._context.clock,
                ledger=plan.journal,
                sinks=[plan.journal] if plan.journal else self._sinks,
                observers=self._observers,
                stop_when=self._stop_when,
                dues=plan.dues,
                due=plan.due,
                detach=plan.detach,
                all_read=plan.all_read,
                purse=self._purse(plan.journal),
            )
            run = Run(spec, total=plan.total, run_id=run_id, consumer=consumer)
            opened.coordinator.report_to(run)
            stack.callback(opened.coordinator.report_to, None)
            yield run

    def _purse(self, journal: Journal | None) -> Purse | None:
        caps = {} if self._budget_usd is None else {RUN: self._budget_usd}
        for number, route in enumerate(self._router.routes):
            if route.budget_usd is not None:
                caps[route_scope(number)] = route.budget_usd
        if not caps:
            return None
        audience = Audience(self._observers)

        def warn(message: str) -> None:
            audience.tell(lambda observer: observer.warned(message))

        return Purse(Budget(caps, spent=journal.spent_before if journal else None, warn=warn), self._router)

    async def _mill(self, entries: AsyncIterator[Sequence[Entry]], consumer: Consumer | None = None) -> Run:
        async with self.prepare(consumer=consumer) as run:
            await run.mill(entries)
        return run

    async def _open(self, stack: AsyncExitStack) -> _Opened:
        coordinator = _coordinator(self._workers)
        lanes = []
        for name, given in self._providers.items():
            lane = lane_of(name, given, self._context, len(self._providers), coordinator)
            await stack.enter_async_context(lane.provider)
            if isinstance(lane, LaneSpec):
                for key in lane.others:
                    await stack.enter_async_context(key.provider)
            lanes.append(msgspec.structs.replace(lane, price=await self._pricer(lane.provider, given)))
        await stack.enter_async_context(coordinator)
        return _Opened(lanes, coordinator)

    async def _pricer(self, provider: Provider, given: Given) -> Pricer:
        tariff = Tariff(provider, given.price if isinstance(given, ProviderOptions) else None, self._prices)
        if tariff.uses_table:
            await to_thread.run_sync(tariff.load)
        return tariff.cost


class _Opened(NamedTuple):
    lanes: list[LaneSpec | BatchLaneSpec]
    coordinator: Coordinator


def _coordinator(workers: int) -> Coordinator:
    if workers == 1:
        return Coordinator()
    from promptmill._workers import Fleet

    return Fleet(workers)


def _placed(lane: LaneSpec | BatchLaneSpec, shelf: Shelf, run_id: str, cancel: bool) -> LaneSpec | BatchLaneSpec:
    if isinstance(lane, BatchLaneSpec):
        return msgspec.structs.replace(lane, shelf=shelf, run_id=run_id, cancel=cancel)
    return lane
