"""Several processes that make the calls of one run.

The process that coordinates keeps the queue, the limits, the money and the journal, and hands out calls that may go
now: each to the worker with the fewest. So limits hold as exactly as they do without workers, and a worker that dies
takes nothing with it but the calls it was making, which fail as any lost connection does.
"""

from __future__ import annotations

import asyncio
import pickle
import sys
from contextlib import suppress
from typing import Final

import anyio

from promptmill._coordinator import Coordinator, Reporting
from promptmill._workers.messages import NOT_ENCODED, Setup
from promptmill._workers.process import WorkerProcess
from promptmill.errors import NeverSent, PromptmillError, RunStopped, StartError
from promptmill.interfaces import RealtimeProvider
from promptmill.models import Request, Response, TokenEstimate
from promptmill.options import BuildContext, ProviderOptions

MOST_DEATHS: Final = 5
"""Workers that may die one after the other with no call answered in between."""


class Fleet(Coordinator):
    """``count`` workers. Providers that are given as objects, or that want to be in one process, stay in this one."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._built_from: list[tuple[ProviderOptions, BuildContext]] = []
        self._workers: list[WorkerProcess] = []
        self._came = anyio.Event()
        self._deaths = 0
        self._gave_up = False
        self._replacing: set[asyncio.Task[None]] = set()
        self._run: Reporting | None = None
        self._setup = Setup([], b"")

    def placed(
        self, provider: RealtimeProvider, options: ProviderOptions | None, context: BuildContext
    ) -> RealtimeProvider:
        if options is None or provider.in_one_process:
            return provider
        self._built_from.append((options, context))
        return _Elsewhere(provider, self, len(self._built_from) - 1)

    def report_to(self, run: Reporting | None) -> None:
        self._run = run

    async def aopen(self) -> None:
        """Start the workers. Raises StartError."""
        if not self._built_from:
            return
        self._setup = Setup([str(one) for one in sys.path], pickle.dumps(self._built_from))
        started = await asyncio.gather(*(self._start() for _ in range(self._count)), return_exceptions=True)
        failures = [one for one in started if one is not None]
        if failures:
            await self.aclose()
            raise failures[0]

    async def aclose(self) -> None:
        for task in tuple(self._replacing):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        workers, self._workers = self._workers, []
        await asyncio.gather(*(worker.stop() for worker in workers))

    @property
    def idlest(self) -> WorkerProcess | None:
        """The worker with the fewest calls; None when there is none at present."""
        return min((one for one in self._workers if one.is_alive), key=_load, default=None)

    async def worker(self) -> WorkerProcess:
        """:attr:`idlest`, when there is one. Raises NeverSent: there will be none (``no_worker``)."""
        while (worker := self.idlest) is None:
            if self._gave_up:
                raise NeverSent("there is no worker process to make the call", code="no_worker")
            if self._came.is_set():
                self._came = anyio.Event()
            await self._came.wait()
        return worker

    async def _start(self) -> None:
        worker = WorkerProcess(self._answered, self._lost)
        await worker.start(self._setup)
        self._workers.append(worker)
        self._came.set()

    def _answered(self) -> None:
        self._deaths = 0

    def _lost(self, worker: WorkerProcess) -> None:
        if worker in self._workers:
            self._workers.remove(worker)
            task = asyncio.get_running_loop().create_task(self._replace(worker))
            self._replacing.add(task)
            task.add_done_callback(self._replacing.discard)

    async def _replace(self, worker: WorkerProcess) -> None:
        reason = await worker.exit_reason()
        self._deaths += 1
        if self._deaths > MOST_DEATHS:
            self._give_up(f"worker processes die one after the other ({reason})")
            return
        if self._run:
            self._run.warn(f"a worker process died ({reason}) and is replaced; the calls it was making are made again")
        try:
            await self._start()
        except StartError as error:
            self._give_up(error.message)
        except (OSError, PromptmillError) as error:
            self._give_up(f"a worker process cannot be started: {error}")

    def _give_up(self, why: str) -> None:
        self._gave_up = True
        self._came.set()
        if self._run:
            hint = "see what it says on stderr, or run the job without `workers`; nothing that has finished is lost"
            self._run.stop(RunStopped(why, code="E0561", exit_code=70, hint=hint))


def _load(worker: WorkerProcess) -> int:
    return worker.load


class _Elsewhere(RealtimeProvider):
    """Stands for a provider whose calls others make; all else is asked of the one in this process."""

    def __init__(self, provider: RealtimeProvider, fleet: Fleet, number: int) -> None:
        self._here = provider
        self._fleet = fleet
        self._number = number
        self._describe()

    def _describe(self) -> None:
        provider = self._here
        self.model = provider.model
        self.operations = provider.operations
        self.charging = provider.charging
        self.admission = provider.admission
        self.queues = provider.queues
        self.concurrency = provider.concurrency
        self.price_vendor = provider.price_vendor
        self.free = provider.free
        self.tier = provider.tier

    async def aopen(self) -> None:
        await self._here.aopen()
        self._describe()  # it may know more of itself now

    async def aclose(self) -> None:
        await self._here.aclose()

    def estimate(self, request: Request) -> TokenEstimate:
        return self._here.estimate(request)

    async def complete(self, request: Request, *, timeout: float) -> Response:
        try:
            worker = self._fleet.idlest or await self._fleet.worker()
            return await worker.call(self._number, request, timeout)
        except NOT_ENCODED:
            return await self._here.complete(request, timeout=timeout)
