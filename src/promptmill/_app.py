"""The composition root: a checked job in, a finished run out."""

from __future__ import annotations

import itertools
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from promptmill._config import Job, load_job
from promptmill._engine import Entry, StopWhen
from promptmill._registry import Registry
from promptmill._run import Run
from promptmill._template import InputTemplate
from promptmill.clock import Clock, SystemClock
from promptmill.errors import InputError, Location, Problem
from promptmill.interfaces import Observer, Source
from promptmill.models import BadRow, ErrorInfo, Origin, Request, Result
from promptmill.options import BuildContext
from promptmill.pipeline import Pipeline

MOST_PROBLEMS: Final = 5
"""Rows quoted when many have the same trouble."""

_FATAL_ROWS: Final = frozenset({"template", "template_null", "missing_column"})
"""Codes of bad rows that mean the job is wrong rather than the row: they refuse the run before anything is sent."""


class InputReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a look at every row found. ``bad_rows`` by code will end as failed records."""

    rows: int
    bad_rows: dict[str, int]
    fingerprint: str


class PreparedJob:
    """A job with its source and template built: it can be checked, then run."""

    def __init__(self, job: Job, *, clock: Clock | None = None, allow_code: bool = False) -> None:
        self.job = job
        self._clock = clock or SystemClock()
        self._allow_code = allow_code
        self._bad_row_prefix = ""
        self._source: Source = job.source.build(self._context("input"))
        self._template = InputTemplate(
            prompt=job.template.prompt,
            messages=[(one.role, one.content) for one in job.template.messages or ()],
            id=job.template.id,
            priority=job.template.priority,
            tags=job.template.tags,
            keep=job.template.keep,
            params=job.params,
        )

    async def check(self) -> InputReport:
        """Look at every row: read it, render its templates, compare its id with all others. Sends nothing.

        Raises:
            InputError: the input cannot be read, a template fails on a row, or an id occurs twice.
        """
        rows, bad = 0, Counter[str]()
        fatal: list[BadRow] = []
        hashes, bad_hashes = array("q"), array("q")
        async with self._source:
            async for group in self._requests():
                for entry in group:
                    rows += 1
                    if isinstance(entry, Request):
                        hashes.append(hash(entry.id))
                        continue
                    bad[entry.code] += 1
                    bad_hashes.append(hash(_row_number_id(rows - 1)))
                    if entry.code in _FATAL_ROWS:
                        fatal.append(entry) if len(fatal) < MOST_PROBLEMS else None
            if fatal:
                raise _template_error(fatal, sum(bad[code] for code in _FATAL_ROWS), rows)
            if _has_twins(hashes):
                await self._refuse_twins(hashes)
            if bad_hashes and not set(bad_hashes).isdisjoint(hashes):
                self._bad_row_prefix = "row-"
            fingerprint = await self._source.fingerprint()
        return InputReport(rows=rows, bad_rows=dict(bad), fingerprint=fingerprint)

    async def run(
        self,
        *,
        total: int | None = None,
        fresh: bool = False,
        observers: Sequence[Observer] = (),
        on_start: Callable[[Run], None] = lambda _: None,
    ) -> Run:
        """Run the job and return the run, finished or stopped. ``on_start`` is handed it before the first call."""
        job = self.job
        pipeline = Pipeline(
            job.providers,
            job.routes,
            retry=job.retry.build(self._context("retry")),
            sinks=[sink.build(self._context(f"sink {at + 1}")) for at, sink in enumerate(job.sinks)],
            observers=observers,
            stop_when=StopWhen(job.stop_when.failure_rate, job.stop_when.after) if job.stop_when else None,
            clock=self._clock,
            base_dir=job.base_dir,
            allow_code=self._allow_code,
        )
        async with self._source, pipeline.prepare(total=total, order=job.order, fresh=fresh) as run:
            on_start(run)
            await run.mill(self._entries())
        return run

    async def _requests(self) -> AsyncIterator[Sequence[Request | BadRow]]:
        index = 0
        async for group in self._source.rows():
            made: list[Request | BadRow] = []
            for row in group:
                made.append(row if isinstance(row, BadRow) else self._template.request_of(row, index))
                index += 1
            yield made

    async def _entries(self) -> AsyncIterator[Sequence[Entry]]:
        index = 0
        async for group in self._requests():
            entries: list[Entry] = []
            for entry in group:
                entries.append(entry if isinstance(entry, Request) else self._failed_row(entry, index))
                index += 1
            yield entries

    async def _refuse_twins(self, hashes: array[int]) -> None:
        """Look again for the ids behind equal hashes."""
        suspects = {one for one, count in Counter(hashes).items() if count > 1}
        first: dict[str, int] = {}
        problems: list[Problem] = []
        async for group in self._requests():
            for entry in group:
                if isinstance(entry, BadRow) or hash(entry.id) not in suspects:
                    continue
                if entry.id in first:
                    message = f"the id {entry.id!r} of row {entry.index + 1} is that of row {first[entry.id] + 1} too"
                    problems.append(
                        Problem(
                            "E0320",
                            message,
                            None,
                            "give every row an id of its own, or name another column with `input.id`",
                        )
                    )
                first.setdefault(entry.id, entry.index)
        if problems:
            raise InputError(f"{len(problems)} ids occur twice", problems=tuple(problems[:MOST_PROBLEMS]))

    def _failed_row(self, row: BadRow, index: int) -> Result:
        """The record of a row that could not become a request; nothing was sent for it.

        Its id is its row number, or ``row-`` and the number when a good row has such an id.
        """
        error = ErrorInfo(code=row.code, message=f"{row.origin}: {row.message}")
        return Result(id=self._bad_row_prefix + _row_number_id(index), index=index, status="failed", error=error)

    def _context(self, name: str) -> BuildContext:
        return BuildContext(name=name, base_dir=self.job.base_dir, clock=self._clock, allow_code=self._allow_code)


def prepare(path: Path, *, allow_code: bool = False, registry: Registry | None = None) -> PreparedJob:
    """Read and check a job file. Raises JobError and PluginError."""
    return PreparedJob(load_job(path, registry or Registry()), allow_code=allow_code)


def _has_twins(hashes: array[int]) -> bool:
    ordered = sorted(hashes)
    return any(one == other for one, other in itertools.pairwise(ordered))


def _row_number_id(index: int) -> str:
    return str(index + 1)


def _template_error(rows: Sequence[BadRow], count: int, total: int) -> InputError:
    problems = tuple(
        Problem("E0310", row.message, _place(row.origin), "correct the template in the job file, or the row")
        for row in rows
    )
    return InputError(f"the templates fail on {count} of {total} rows", problems=problems)


def _place(origin: Origin) -> Location | None:
    return Location(origin.file, origin.line) if origin.file else None
