"""Takes batches through their states: validating, in_progress, finalizing and the ends."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self, TypeAlias

import anyio
import anyio.to_thread
import msgspec
from anyio.abc import TaskGroup

from promptmill.clock import Clock
from promptmill_simulator.apierror import ApiError
from promptmill_simulator.batch_input import Checked, Line, Span, check_input, read_lines
from promptmill_simulator.batch_lines import LineAnswers
from promptmill_simulator.batch_record import BatchRecord
from promptmill_simulator.batch_script import BatchProblem, BatchTimes
from promptmill_simulator.file_store import FileStore

Ending: TypeAlias = Literal["cancelled", "expired"]

_STEPS: Final = 20
_LINES_A_STEP: Final = 500


class BatchPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How a batch is to go: what its script, or the options, say."""

    times: BatchTimes
    stall_at: float | None = None
    fail_with: Sequence[BatchProblem] = ()


class BatchRunner:
    """Runs batches in the background while it is entered."""

    def __init__(self, lines: LineAnswers, store: FileStore, clock: Clock, speed: float, seed: int) -> None:
        self.lines = lines
        self.store = store
        self.clock = clock
        self.speed = speed
        self.seed = seed
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
        run = self._runs[record.id] = BatchRun(self, record, plan)
        self._group.start_soon(run.run)

    def cancel(self, record: BatchRecord) -> None:
        """Ask a batch that has not ended to stop."""
        record.enter("cancelling", self.clock.wall())
        self._runs[record.id].stop.set()


class BatchRun:
    """One batch on its way."""

    def __init__(self, runner: BatchRunner, record: BatchRecord, plan: BatchPlan) -> None:
        self.stop = anyio.Event()
        self._runner = runner
        self._record = record
        self._plan = plan
        self._clock = runner.clock
        self._deadline = self._clock.now() + plan.times.window / runner.speed
        self._output = runner.store.new_path()
        self._errors = runner.store.new_path()

    async def run(self) -> None:
        """Go from ``validating`` to an end."""
        try:
            await self._go()
        except OSError as error:
            self._fail("invalid_file", f"The input file cannot be read: {error.strerror or error}.")
        except Exception as error:  # noqa: BLE001
            # One batch must not take the server down with it.
            self._fail("simulator_bug", f"bug in the simulator: {type(error).__name__}: {error}")

    def _fail(self, code: str, message: str) -> None:
        self._record.fail([BatchProblem.model_validate({"code": code, "message": message})], self._clock.wall())

    async def _go(self) -> None:
        ending = await self._pause(self._plan.times.validating)
        if ending is not None:
            await self._end(ending)
            return
        path = self._input_path()
        checked = await anyio.to_thread.run_sync(check_input, path, self._record.order.endpoint, self._plan.times)
        problems = list(self._plan.fail_with) or checked.problems
        if problems:
            self._record.fail(problems, self._clock.wall())
            return
        self._record.model = checked.model
        self._record.total = len(checked.spans)
        self._record.enter("in_progress", self._clock.wall())
        ending = await self._work(path, checked)
        if ending is None:
            self._record.enter("finalizing", self._clock.wall())
            ending = await self._pause(self._plan.times.finalizing)
        await self._end(ending)

    def _input_path(self) -> Path:
        try:
            return self._runner.store.get(self._record.order.input_file_id).path
        except ApiError as error:
            raise FileNotFoundError(2, "the file is gone") from error

    async def _work(self, path: Path, checked: Checked) -> Ending | None:
        """Answer the lines, evenly over the time there is for them."""
        spans, stall_at = list(checked.spans), self._plan.stall_at
        if self._plan.times.shuffle:
            random.Random(self._runner.seed).shuffle(spans)  # noqa: S311
        doable = len(spans) if stall_at is None else int(len(spans) * stall_at)
        steps = max(min(len(spans), _STEPS), math.ceil(len(spans) / _LINES_A_STEP))
        started, pace = self._clock.now(), self._plan.times.in_progress / self._runner.speed / steps
        done, ending = 0, None
        for step in range(1, steps + 1):
            ending = await self._pause_until(started + step * pace)
            until = min(doable, len(spans) * step // steps)
            if ending is not None or done == doable:
                break
            await self._answer(path, spans[done:until])
            done = until
        if ending is None and doable < len(spans):
            ending = await self._pause_until(math.inf)
        if ending == "expired":
            await self._expire(path, spans[done:])
        return ending

    async def _answer(self, path: Path, spans: Sequence[Span]) -> None:
        lines = await anyio.to_thread.run_sync(_read, path, spans)
        good, bad = bytearray(), bytearray()
        for line in lines:
            fine, written = await self._runner.lines.answer(self._record, line)
            (good if fine else bad).extend(written)
        await anyio.to_thread.run_sync(_append, self._output, good, self._errors, bad)

    async def _expire(self, path: Path, spans: Sequence[Span]) -> None:
        for start in range(0, len(spans), _LINES_A_STEP):
            lines = await anyio.to_thread.run_sync(_read, path, spans[start : start + _LINES_A_STEP])
            bad = bytearray(b"".join(self._runner.lines.expired(self._record, line) for line in lines))
            await anyio.to_thread.run_sync(_append, self._output, bytearray(), self._errors, bad)

    async def _end(self, ending: Ending | None) -> None:
        """Show what there is as files and go to the last state."""
        if ending == "cancelled":
            await self._clock.sleep(self._plan.times.cancelling / self._runner.speed)
        self._record.output_file_id = self._published(self._output, "output")
        self._record.error_file_id = self._published(self._errors, "error")
        self._record.enter(ending or "completed", self._clock.wall())

    def _published(self, path: Path, word: str) -> str | None:
        """Enter a written file into the store; one that was never written does not exist for the API either."""
        if not path.exists():
            return None
        stored = self._runner.store.add(
            path,
            filename=f"{self._record.id}_{word}.jsonl",
            purpose="batch_output",
            lifetime=self._record.order.output_lifetime,
        )
        return stored.id

    async def _pause(self, seconds: float) -> Ending | None:
        return await self._pause_until(self._clock.now() + seconds / self._runner.speed)

    async def _pause_until(self, moment: float) -> Ending | None:
        """Wait; return early, saying why, when the batch is cancelled or its window ends."""
        seconds = max(0.0, min(moment, self._deadline) - self._clock.now())
        with anyio.move_on_after(seconds):
            await self.stop.wait()
        if self.stop.is_set():
            return "cancelled"
        return "expired" if self._clock.now() >= self._deadline else None


def _read(path: Path, spans: Sequence[Span]) -> list[Line]:
    with path.open("rb") as contents:
        return read_lines(contents, spans)


def _append(output: Path, good: bytearray, errors: Path, bad: bytearray) -> None:
    with ExitStack() as stack:
        for path, data in ((output, good), (errors, bad)):
            if data:
                stack.enter_context(path.open("ab")).write(data)
