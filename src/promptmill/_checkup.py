"""All that a run would refuse, found out beforehand: nothing is sent, and nothing is written."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from anyio import to_thread

from promptmill._affordable import has_budget, refuse_unknown_costs
from promptmill._app import PreparedJob
from promptmill._findings import FATAL
from promptmill._input import InputReport
from promptmill._journal import DATABASE, RunLock, Store
from promptmill._locations import state_directory
from promptmill._resume import plan
from promptmill._shelf import look_at_shelf
from promptmill.errors import InputError, Problem, PromptmillError, RunLocked
from promptmill.jsontext import JSON
from promptmill.models import BadRow, Request

T = TypeVar("T")


class BadRowNote(msgspec.Struct, frozen=True, kw_only=True):
    """A row that would end as a failed record. ``row`` is its 1-based number."""

    row: int
    file: str | None
    line: int | None
    code: str
    reason: str


class Checkup(msgspec.Struct, kw_only=True):
    """What was found. ``input`` is None when it could not be read, or a run with it would be refused.

    ``bad_rows`` would end as failed records; ``bad_count`` is how many there are, of which the first are kept.
    """

    input: InputReport | None = None
    bad_rows: list[BadRowNote] = []
    bad_count: int = 0
    errors: list[PromptmillError] = []
    notes: list[str] = []

    @property
    def problems(self) -> list[Problem]:
        return [problem for error in self.errors for problem in error.problems]

    @property
    def exit_code(self) -> int:
        """That of the first thing that a run would be refused for; 0 when there is none."""
        return self.errors[0].exit_code if self.errors else 0


async def check_up(prepared: PreparedJob, most_rows: int | None = None) -> Checkup:
    """Look at the job, its surroundings, every row of its input, its outputs, and the run it would go on with.

    ``most_rows`` bad rows are kept; None: all.
    """
    found = Checkup()
    job = prepared.job
    for name, options in job.providers.items():
        for member in options.members():
            with _noted(found):
                member.build(prepared.context(name))
    with _noted(found):
        job.retry.build(prepared.context("retry"))
    directory = state_directory(job.base_dir) / job.name
    run = _EarlierRun(directory) if (directory / DATABASE).exists() else None
    try:
        await _look_at_sinks(prepared, run, found)
        with _noted(found):
            async with prepared.job_input.source:
                await _look_at_rows(prepared, run, found, most_rows)
    finally:
        if run is not None:
            run.close()
    return found


async def _look_at_sinks(prepared: PreparedJob, run: _EarlierRun | None, found: Checkup) -> None:
    run_id = "" if run is None else str(await run.meta("run_id") or "")
    for at, (sink, name) in enumerate(zip(prepared.job.sinks, prepared.job.sink_names, strict=True)):
        state = None if run is None else await run.ask(partial(Store.sink, name=name))
        with _noted(found):
            built = sink.build(prepared.context(f"sink {at + 1}", run_id))
            await built.probe(None if state is None else state.position)


async def _look_at_rows(prepared: PreparedJob, run: _EarlierRun | None, found: Checkup, most_rows: int | None) -> None:
    def look(entry: Request | BadRow, index: int) -> None:
        if not isinstance(entry, BadRow) or entry.code in FATAL:  # the latter are told together
            return
        found.bad_count += 1
        if most_rows is None or found.bad_count <= most_rows:
            origin = entry.origin
            found.bad_rows.append(
                BadRowNote(row=index + 1, file=origin.file, line=origin.line, code=entry.code, reason=entry.message)
            )

    found.input = report = await prepared.job_input.check(look)
    if report.rows and sum(report.bad_rows.values()) == report.rows:
        first = found.bad_rows[0]
        raise InputError(f"no row of the input can be used; the first: {first.reason}", code="E0313", hint=_NO_ROW)
    if has_budget(prepared.job):
        await refuse_unknown_costs(prepared.job, prepared.job_input, prepared.context("prices"))
    if run is not None:
        run.refuse_when_held()
        journal: Any = run
        job, shelf = prepared.job, await look_at_shelf(journal)
        left = await plan(journal, prepared.job_input, job.identity, shelf, job.where_only)
        found.notes += [f"changed since this run began: {one}" for one in left.moved]
        found.notes.append(f"a run would go on: {left.finished:,} rows have their answer, {left.pending:,} to do")


_NO_ROW = "is it the right file? JSON Lines has one object a line, CSV a header and rows"


class _EarlierRun:
    """The journal of an earlier run, to look at only."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._store = Store.read(directory / DATABASE)

    async def meta(self, key: str) -> JSON:
        return await self.ask(lambda store: store.meta(key))

    async def put_meta(self, key: str, value: JSON) -> None:
        """Nothing: it is looked at only."""

    async def ask(self, question: Callable[[Store], T]) -> T:
        return await to_thread.run_sync(question, self._store)

    def refuse_when_held(self) -> None:
        """Raise RunLocked when a process is at it."""
        if RunLock(self.directory / "lock").is_held():
            raise RunLocked("another process has this run now", hint="`promptmill status` says who")

    def close(self) -> None:
        self._store.close()


@contextlib.contextmanager
def _noted(found: Checkup) -> Iterator[None]:
    """Take note of what is refused, and go on with the rest."""
    try:
        yield
    except PromptmillError as error:
        found.errors.append(error)
