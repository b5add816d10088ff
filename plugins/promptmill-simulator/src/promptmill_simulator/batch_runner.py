"""Runs batches in the background."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import anyio
from anyio.abc import TaskGroup

from promptmill.clock import Clock
from promptmill_simulator.batch_lines import LineAnswers
from promptmill_simulator.batch_plan import BatchPlan
from promptmill_simulator.batch_record import BatchRecord
from promptmill_simulator.batch_run import BatchRun, Workshop
from promptmill_simulator.enqueued_tokens import EnqueuedTokens
from promptmill_simulator.file_store import FileStore
from promptmill_simulator.options import SimulatorOptions


class BatchRunner:
    """Runs batches while it is entered."""

    def __init__(self, lines: LineAnswers, store: FileStore, clock: Clock, options: SimulatorOptions) -> None:
        queue = EnqueuedTokens(options.enqueued_tokens)
        self._workshop = Workshop(lines, store, clock, queue, options.speed, options.seed)
        self._runs: dict[str, BatchRun] = {}
        self._group: TaskGroup = anyio.create_task_group()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._group.cancel_scope.cancel()
        await self._group.__aexit__(kind, error, trace)

    def start(self, record: BatchRecord, plan: BatchPlan) -> None:
        """Take a new batch on its way."""
        run = self._runs[record.id] = BatchRun(self._workshop, record, plan.times)
        self._group.start_soon(run.run)

    def cancel(self, record: BatchRecord) -> None:
        """Ask a batch that has not ended to stop."""
        record.enter("cancelling", self._workshop.clock.wall())
        self._runs[record.id].stop.set()
