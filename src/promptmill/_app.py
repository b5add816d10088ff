"""The composition root: a job file in, a finished run out."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Final

import anyio
import msgspec
from anyio import to_thread

from promptmill import _stops as stops
from promptmill._affordable import has_budget, refuse_unknown_costs
from promptmill._cache import ResponseCache
from promptmill._causes import only_cause
from promptmill._config import Job, load_job
from promptmill._cursors import CommitOrder, Cursor, InputOrder
from promptmill._deadlines import deadlines_of
from promptmill._engine_spec import Entry, StopWhen
from promptmill._feed import feed
from promptmill._input import InputReport, JobInput
from promptmill._journal import DATABASE, Journal, Store
from promptmill._locations import state_directory
from promptmill._pricing import tariffs
from promptmill._projection import Projection
from promptmill._registry import Registry
from promptmill._report import Summary, Tally
from promptmill._resume import Plan, plan
from promptmill._routing import Router
from promptmill._run import Run, new_run_id
from promptmill._shelf import JournalShelf, open_shelf
from promptmill._statepaths import is_file
from promptmill._twins import Twins
from promptmill._work import Pricer
from promptmill.clock import Clock, SystemClock
from promptmill.errors import RunStopped, StorageError, UsageError
from promptmill.interfaces import Observer, Sink
from promptmill.models import Result
from promptmill.options import BuildContext
from promptmill.pipeline import Pipeline, RunPlan

_READ_ROWS: Final = 5000

_decode = msgspec.json.Decoder(Result).decode


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a run of a job ended. ``stopped`` is None when every request has its record in every sink."""

    summary: Summary
    tally: Tally
    stopped: RunStopped | None
    rejected: int
    """Rows that some sink does not take, those of earlier processes too."""


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """How to run a job.

    ``fresh`` sets the earlier run and its outputs aside; ``retry_failed`` sends failed requests again; ``detach``
    leaves as soon as all that is left is in batches; ``cancel_batches`` sends nothing, ends the batches there are and
    keeps what has finished of them.
    """

    fresh: bool = False
    retry_failed: bool = False
    detach: bool = False
    cancel_batches: bool = False


class PreparedJob:
    """A job that is read and checked: it can look at its input, then run."""

    def __init__(self, job: Job, *, clock: Clock | None = None, allow_code: bool = False) -> None:
        self.job = job
        self._clock = clock or SystemClock()
        self._allow_code = allow_code
        self._input = JobInput(job, self._context("input"))

    @property
    def job_input(self) -> JobInput:
        return self._input

    def context(self, name: str, run_id: str = "") -> BuildContext:
        """What a component of the job may know of it."""
        return self._context(name, run_id)

    async def check(self) -> InputReport:
        """Look at every row. Sends nothing. Raises InputError."""
        async with self._input.source:
            return await self._input.check()

    async def run(
        self,
        orders: Orders | None = None,
        *,
        observers: Sequence[Observer] = (),
        on_plan: Callable[[Plan, int], None] = lambda *_: None,
        on_start: Callable[[Run], None] = lambda _: None,
    ) -> Outcome:
        """Run the job, or go on where its last run stopped.

        Args:
            orders: how to run it.
            observers: told of what happens.
            on_plan: handed what is left to do, and how many requests a killed process had in flight.
            on_start: handed the run before its first call.

        Raises:
            RunLocked: another process has this run.
            UsageError: the input is wrong, or it or the job has changed; nothing was sent.
            StorageError: the journal or a sink cannot be opened; nothing was sent.
        """
        orders = orders or Orders()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._input.source)
            directory = state_directory(self.job.base_dir) / self.job.name
            if orders.fresh:
                await to_thread.run_sync(self._refuse_to_forget, directory)
            journal = await stack.enter_async_context(Journal(directory, self._clock, fresh=orders.fresh))
            run_id = await _run_id(journal, self._clock)
            sinks = [sink.build(self._context(f"sink {at + 1}", run_id)) for at, sink in enumerate(self.job.sinks)]
            if orders.fresh:
                for sink in sinks:
                    await sink.set_aside()
            if orders.retry_failed:
                await journal.ask(Store.supersede_failed)
            shelf = await open_shelf(journal, run_id)
            if has_budget(self.job):
                await refuse_unknown_costs(self.job, self._input, self._context("prices"))
            todo = await plan(journal, self._input, self.job.identity, shelf, self.job.where_only)
            on_plan(todo, len(journal.unknown))
            await self._keep_order(journal)
            projections = await self._projections(sinks, journal, stack)
            run = Execution(self.job, journal, todo, projections, self._price_of)
            if todo.pending and not (shelf.is_empty and orders.cancel_batches):
                twins = await self._twins(todo, journal, shelf)
                cache = await self._cache(stack)
                pipeline = self._pipeline([*observers, twins, *([cache] if cache else [])])
                run_plan = await self._run_plan(orders, journal, run_id, todo, shelf, twins)
                await run.mill(pipeline, self._entries(run_plan, todo, journal, twins, cache), run_plan, on_start)
            else:
                await run.deliver()
            outcome = await run.outcome(run_id)
            if orders.cancel_batches and outcome.stopped is None and (left := todo.pending) and shelf.is_empty:
                # Nothing was there to be ended, and that does not make the rest done.
                return msgspec.structs.replace(outcome, stopped=stops.batches_cancelled(left))
            return outcome

    def _entries(
        self, run_plan: RunPlan, todo: Plan, journal: Journal, twins: Twins, cache: ResponseCache | None
    ) -> AsyncIterator[Sequence[Entry]]:
        """What is to be sent: nothing when batches are only to be ended."""
        if run_plan.cancel:
            return _nothing()
        router = Router(self.job.routes, list(self.job.providers))
        rows = self._input.entries(todo.input, todo.settled)
        return feed(rows, twins, cache, router, lambda request, one: journal.received(request, one, b""))

    async def _run_plan(
        self, orders: Orders, journal: Journal, run_id: str, todo: Plan, shelf: JournalShelf, twins: Twins
    ) -> RunPlan:
        deadlines = await deadlines_of(journal, self.job.deadline_s, self.job.routes, self._clock)
        return RunPlan(
            run_id=run_id,
            total=todo.pending,
            journal=journal,
            shelf=shelf,
            due=deadlines.job,
            dues=deadlines.routes,
            detach=orders.detach,
            all_read=lambda: twins.all_read,
            cancel=orders.cancel_batches,
        )

    def _refuse_to_forget(self, directory: Path) -> None:
        """A run that is set aside is never looked at again, and what is in its batches would be paid for nothing."""
        count = 0
        if not is_file(directory / DATABASE):
            return
        with suppress(StorageError):  # starting over is the way out of a journal that cannot be read
            count = _open_batches(directory / DATABASE)
        if count:
            batches = stops.counted(count, "batch", "batches")
            raise UsageError(
                f"{batches} of this run not collected yet, which `--fresh` would set aside unseen",
                code="E0343",
                hint="run the job without `--fresh` to collect them, or with `--cancel-batches` to end them first",
            )

    async def _projections(self, sinks: Sequence[Sink], journal: Journal, stack: AsyncExitStack) -> list[Projection]:
        projections = []
        for sink, name in zip(sinks, self.job.sink_names, strict=True):
            projection = Projection(sink, name, journal, self._clock, await self._cursor(journal))
            projections.append(projection)
            stack.push_async_callback(projection.aclose)
            await projection.open()
        return projections

    async def _keep_order(self, journal: Journal) -> None:
        """When the order has changed, how far a sink has come in the old one says nothing: all start over."""
        if await journal.meta("order") not in (None, self.job.order):
            await journal.ask(Store.restart_sinks)
        await journal.put_meta("order", self.job.order)

    async def _cursor(self, journal: Journal) -> Cursor:
        if self.job.order == "completion":
            return CommitOrder(journal)
        return InputOrder(journal)

    async def _twins(self, todo: Plan, journal: Journal, shelf: JournalShelf) -> Twins:
        twins = Twins(todo.input.twins, self.job.dedupe)
        if twins and todo.finished:
            await journal.ask(lambda store: twins.remember(store.answers()))
        if twins and not shelf.is_empty:
            await to_thread.run_sync(lambda: twins.sent(item.request for item in shelf.items()))
        return twins

    async def _cache(self, stack: AsyncExitStack) -> ResponseCache | None:
        if self.job.cache is None:
            return None
        return await stack.enter_async_context(ResponseCache(self.job.cache, self.job.identity["providers"]))

    def _pipeline(self, observers: Sequence[Observer]) -> Pipeline:
        job = self.job
        return Pipeline(
            job.providers,
            job.routes,
            retry=job.retry.build(self._context("retry")),
            observers=observers,
            budget_usd=job.budget_usd,
            workers=job.workers,
            stop_when=StopWhen(job.stop_when.failure_rate, job.stop_when.after) if job.stop_when else None,
            clock=self._clock,
            base_dir=job.base_dir,
            allow_code=self._allow_code,
        )

    def _price_of(self, provider: str) -> Pricer:
        """The prices of a provider that is not open."""
        return tariffs({provider: self.job.providers[provider]}, self._context("prices"))[provider].cost

    def _context(self, name: str, run_id: str = "") -> BuildContext:
        return BuildContext(
            name=name, base_dir=self.job.base_dir, clock=self._clock, allow_code=self._allow_code, run_id=run_id
        )


class Execution:
    """One process's share of a run: the engine that fills the journal, and the sinks that follow it."""

    def __init__(
        self,
        job: Job,
        journal: Journal,
        todo: Plan,
        projections: Sequence[Projection],
        price_of: Callable[[str], Pricer | None],
    ) -> None:
        self._job = job
        self._price_of = price_of
        self._journal = journal
        self._todo = todo
        self._projections = projections
        self._run: Run | None = None

    async def mill(
        self,
        pipeline: Pipeline,
        entries: AsyncIterator[Sequence[Entry]],
        run_plan: RunPlan,
        on_start: Callable[[Run], None],
    ) -> None:
        """Run what is left to do and deliver it."""

        async def work() -> None:
            async with pipeline.prepare(run_plan, consumer=self._offer) as run:
                self._run = run
                self._journal.on_full = run.storage_failed
                on_start(run)
                await run.mill(entries)

        await self._with_sinks(work)

    async def deliver(self) -> None:
        """Bring the sinks up to date; no provider is opened and nobody is called."""
        await self._with_sinks(anyio.lowlevel.checkpoint)

    async def outcome(self, run_id: str) -> Outcome:
        """How it ended. Counts every record of the run, those of earlier processes too."""
        run, todo = self._run, self._todo
        tally = run.tally if run and not todo.finished else await self._recount()
        behind = [projection.failure for projection in self._projections if projection.failure]
        stopped = run.stopped if run else None
        if stopped is None and behind:
            stopped = stops.sink_behind(behind[0])
        if stopped is None:
            stopped = next(filter(None, map(_rejected, self._projections)), None)
        finished = tally.succeeded + tally.failed + tally.skipped
        summary = tally.summary(
            run_id=run_id,
            total=todo.input.rows,
            done_before=todo.finished,
            elapsed=run.elapsed if run else 0.0,
            resumable=stopped is not None or finished < todo.input.rows,
            traffic=run.traffic() if run else None,
        )
        summary = msgspec.structs.replace(summary, missing_in_sinks=await self._missing())
        rejected = sum(len(projection.rejected) for projection in self._projections)
        return Outcome(summary=summary, tally=tally, stopped=stopped, rejected=rejected)

    async def _missing(self) -> dict[str, int]:
        if self._journal.failed:
            return {}
        counts = {projection.name: await projection.missing() for projection in self._projections}
        return {name: count for name, count in counts.items() if count}

    async def _recount(self) -> Tally:
        """Count every record of the journal: those of earlier processes too."""
        tally = Tally(functools.cache(self._price_of))
        await self._journal.ask(lambda store: _count(store, tally))
        return tally

    async def _offer(self, results: Sequence[Result]) -> None:
        if self._journal.failed:
            return
        for projection in self._projections:
            projection.offer(results, self._journal.last_seq)

    async def _with_sinks(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            async with anyio.create_task_group() as group:
                for projection in self._projections:
                    group.start_soon(projection.run)
                await work()
                for projection in self._projections:
                    projection.close()
        except BaseExceptionGroup as errors:
            raise only_cause(errors) from None


def prepare(path: Path, *, allow_code: bool = False, registry: Registry | None = None) -> PreparedJob:
    """Read and check a job file. Raises JobError and PluginError."""
    return PreparedJob(load_job(path, registry or Registry()), allow_code=allow_code)


async def _run_id(journal: Journal, clock: Clock) -> str:
    """The name of the run, which stays the same however often it is resumed."""
    saved = await journal.meta("run_id")
    if saved is None:
        saved = new_run_id(clock)
        await journal.put_meta("run_id", saved)
    return str(saved)


def _open_batches(database: Path) -> int:
    store = Store.read(database)
    try:
        return sum(shard.is_open for shard in store.shards())
    finally:
        store.close()


async def _nothing() -> AsyncIterator[Sequence[Entry]]:
    return
    yield


def _count(store: Store, tally: Tally) -> None:
    after = 0
    while rows := store.records(after, _READ_ROWS):
        for _, record in rows:
            tally.add_finished(_decode(record))
        after = rows[-1][0]


def _rejected(projection: Projection) -> RunStopped | None:
    if not (rejected := projection.rejected):
        return None
    return stops.rows_rejected(projection.name, len(rejected), rejected[0].id, rejected[0].reason)
