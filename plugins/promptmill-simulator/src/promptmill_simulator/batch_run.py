"""Takes one batch through its states: validating, in_progress, finalizing and the ends."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias

import anyio
import anyio.to_thread
import msgspec

from promptmill.clock import Clock
from promptmill_simulator.apierror import ApiError
from promptmill_simulator.batch_input import Checked, Line, Span, check_input, read_lines
from promptmill_simulator.batch_lines import LineAnswers
from promptmill_simulator.batch_output import NO_TROUBLE, BatchOutput
from promptmill_simulator.batch_problem import TOKEN_LIMIT, BatchProblem
from promptmill_simulator.batch_record import BatchRecord
from promptmill_simulator.batch_script import BatchTimes, Stage
from promptmill_simulator.batch_troubles import Fates
from promptmill_simulator.enqueued_tokens import EnqueuedTokens
from promptmill_simulator.file_store import FileStore

Ending: TypeAlias = Literal["cancelled", "expired"]

_STEPS: Final = 20
_LINES_A_STEP: Final = 500


class Workshop(msgspec.Struct, frozen=True):
    """What all batches are worked on with."""

    lines: LineAnswers
    store: FileStore
    clock: Clock
    queue: EnqueuedTokens
    speed: float
    seed: int


class BatchRun:
    """One batch on its way."""

    def __init__(self, workshop: Workshop, record: BatchRecord, times: BatchTimes) -> None:
        self.stop = anyio.Event()
        self._workshop = workshop
        self._lines = workshop.lines
        self._clock = workshop.clock
        self._record = record
        self._script = record.script
        self._times = times
        self._deadline = self._clock.now() + times.window / workshop.speed
        self._output = BatchOutput(workshop.store, record)

    async def run(self) -> None:
        """Go from ``validating`` to an end."""
        try:
            await self._go()
        except OSError as error:
            self._fail("invalid_file", f"The input file cannot be read: {error.strerror or error}.")
        except Exception as error:  # noqa: BLE001
            # One batch must not take the server down with it.
            self._fail("simulator_bug", f"bug in the simulator: {type(error).__name__}: {error}")
        finally:
            self._workshop.queue.release(self._record.id)
        self._lines.ledger.batch_ended(self._record.status)

    def _fail(self, code: str, message: str) -> None:
        self._record.fail([BatchProblem.model_validate({"code": code, "message": message})], self._clock.wall())

    async def _go(self) -> None:
        ending = await self._stay("validating", self._times.validating)
        if ending is None:
            path = self._input_path()
            checked = await self._validated(path)
            if checked is None:
                return
            ending = await self._work(path, checked)
            if ending is None:
                self._record.enter("finalizing", self._clock.wall())
                ending = await self._stay("finalizing", self._times.finalizing)
        await self._end(ending)

    def _input_path(self) -> Path:
        try:
            return self._workshop.store.get(self._record.order.input_file_id).path
        except ApiError as error:
            raise FileNotFoundError(2, "the file is gone") from error

    async def _validated(self, path: Path) -> Checked | None:
        """The batch, now in progress; None when it failed instead."""
        checked = await anyio.to_thread.run_sync(check_input, path, self._record.order.endpoint, self._times)
        problems = list(self._script.fail_with) or checked.problems or await self._over_limit(path, checked)
        if problems:
            limit = self._workshop.queue.limit
            self._record.fail([problem.told(checked.model, limit) for problem in problems], self._clock.wall())
            return None
        self._record.model = checked.model
        self._record.total = len(checked.spans)
        self._record.enter("in_progress", self._clock.wall())
        return checked

    async def _over_limit(self, path: Path, checked: Checked) -> list[BatchProblem]:
        """The problem that the batch does not fit among those that wait, if so; else it waits among them."""
        if self._workshop.queue.limit is None:
            return []
        tokens = 0
        for lines in _portions(checked.spans):
            read = await anyio.to_thread.run_sync(_read, path, lines)
            tokens += self._lines.input_tokens(self._record.order.endpoint, read)
        if self._workshop.queue.admit(self._record.id, checked.model, tokens):
            return []
        return [BatchProblem.model_validate({"code": TOKEN_LIMIT})]

    async def _work(self, path: Path, checked: Checked) -> Ending | None:
        """Answer the lines, evenly over the time there is for them; None: the batch is to be finalized."""
        spans, script = list(checked.spans), self._script
        if self._times.shuffle:
            random.Random(self._workshop.seed).shuffle(spans)  # noqa: S311
        doable = int(len(spans) * script.share + 1e-9)
        done, ending = await self._answer_until(path, spans, doable)
        if ending is None and "in_progress" in script.stuck:
            ending = await self._cancelled()
        if ending is None and script.stall_at is not None and doable < len(spans):
            ending = await self._pause_until(math.inf)
        if ending is None and script.ending in ("cancelled", "expired"):
            ending = script.ending
        if script.lists_undone(ending):
            await self._list_undone(path, spans[done:], ending)
        return ending

    async def _answer_until(self, path: Path, spans: Sequence[Span], doable: int) -> tuple[int, Ending | None]:
        """Answer the first ``doable`` of the lines; return how many were, and what stopped that."""
        fates = Fates(self._script.lines, len(spans), self._workshop.seed)
        steps = max(min(len(spans), _STEPS), math.ceil(len(spans) / _LINES_A_STEP))
        started, pace = self._clock.now(), self._times.in_progress / self._workshop.speed / steps
        done = 0
        for step in range(1, steps + 1):
            ending = await self._pause_until(started + step * pace)
            if ending is not None or done == doable:
                return done, ending
            until, began = min(doable, len(spans) * step // steps), self._clock.now()
            lines = await anyio.to_thread.run_sync(_read, path, spans[done:until])
            fated = [(fates.of(index), line) for index, line in enumerate(lines, done)]
            await self._output.write(
                [(fate, await self._lines.answer(self._record, line, fate.status)) for fate, line in fated]
            )
            # A simulator that is slow to make its answers must not make the batch expire.
            self._deadline += self._clock.now() - began
            done = until
        return done, None

    async def _list_undone(self, path: Path, spans: Sequence[Span], ending: Ending | None) -> None:
        for portion in _portions(spans):
            lines = await anyio.to_thread.run_sync(_read, path, portion)
            await self._output.write((NO_TROUBLE, self._lines.undone(self._record, line, ending)) for line in lines)

    async def _end(self, ending: Ending | None) -> None:
        """Show what there is as files and go to the last state."""
        if ending == "cancelled":
            if self._record.status != "cancelling":
                self._record.enter("cancelling", self._clock.wall())
            if "cancelling" in self._script.stuck:
                await anyio.sleep_forever()
            await self._clock.sleep(self._times.cancelling / self._workshop.speed)
        await self._output.publish()
        self._record.enter(ending or "completed", self._clock.wall())

    async def _stay(self, stage: Stage, seconds: float) -> Ending | None:
        if stage in self._script.stuck:
            return await self._cancelled()
        return await self._pause_until(self._clock.now() + seconds / self._workshop.speed)

    async def _cancelled(self) -> Ending:
        """Wait beyond the window until the batch is cancelled."""
        await self.stop.wait()
        return "cancelled"

    async def _pause_until(self, moment: float) -> Ending | None:
        """Wait; return early, saying why, when the batch is cancelled or its window ends."""
        expires = self._deadline <= moment  # asked afterwards too late: timers may fire a little before their time
        seconds = max(0.0, min(moment, self._deadline) - self._clock.now())
        with anyio.move_on_after(seconds):
            await self.stop.wait()
        if self.stop.is_set():
            return "cancelled"
        return "expired" if expires or self._clock.now() >= self._deadline else None


def _portions(spans: Sequence[Span]) -> list[Sequence[Span]]:
    return [spans[start : start + _LINES_A_STEP] for start in range(0, len(spans), _LINES_A_STEP)]


def _read(path: Path, spans: Sequence[Span]) -> list[Line]:
    with path.open("rb") as contents:
        return read_lines(contents, spans)
