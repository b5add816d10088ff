"""The input of a job: rows of its source made into requests by its templates, checked as a whole before anything is
sent, then fed to the engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence, Set
from typing import Final

import msgspec

from promptmill._config import Job
from promptmill._engine_spec import Entry
from promptmill._repeats import Repeats
from promptmill._twins import is_shared, short_digest
from promptmill.errors import InputError, Location, Problem
from promptmill.interfaces import Source
from promptmill.models import BadRow, ErrorInfo, Origin, Request, Result
from promptmill.options import BuildContext

MOST_PROBLEMS: Final = 5
"""Rows quoted when many have the same trouble."""

_FATAL_ROWS: Final = frozenset({"template", "template_null", "missing_column"})
"""Codes of bad rows that mean the job is wrong rather than the row: they refuse the run before anything is sent."""


class InputReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a look at every row found. ``bad_rows`` by code will end as failed records, whose ids are their row numbers
    with ``bad_row_prefix`` before them."""

    rows: int
    bad_rows: dict[str, int]
    fingerprint: str
    bad_row_prefix: str = ""
    twins: list[int] = []
    """Short digests of requests that occur more than once and may share an answer."""
    notes: list[str] = []
    """What is worth saying about the input, for people."""


class JobInput:
    """Rows, requests and entries of one job. Use it as ``async with job_input.source:`` around everything else."""

    def __init__(self, job: Job, context: BuildContext) -> None:
        self._dedupe = job.dedupe
        self.source: Source = job.source.build(context)
        self._template = job.template

    async def check(self, look: Callable[[Request | BadRow, int], None] = lambda *_: None) -> InputReport:
        """Look at every row: read it, render its templates, compare its id with all others. Sends nothing.

        ``look`` is called with every request or bad row and its index.

        Raises:
            InputError: the input cannot be read, a template fails on a row, or an id occurs twice.
        """
        rows, bad = 0, Counter[str]()
        fatal: list[BadRow] = []
        ids, bad_ids, digests = Repeats(), Repeats(), Repeats()
        async for group in self._requests():
            for entry in group:
                look(entry, rows)
                rows += 1
                if isinstance(entry, Request):
                    ids.add(hash(entry.id))
                    if is_shared(entry, self._dedupe):
                        digests.add(short_digest(entry))
                    continue
                bad[entry.code] += 1
                bad_ids.add(hash(str(rows)))
                if entry.code in _FATAL_ROWS and len(fatal) < MOST_PROBLEMS:
                    fatal.append(entry)
        notes = list(self.source.notes())
        if fatal:
            raise _template_error(fatal, sum(bad[code] for code in _FATAL_ROWS), rows)
        if suspects := await ids.found():
            await self._refuse_twins(suspects)
        return InputReport(
            rows=rows,
            bad_rows=dict(bad),
            fingerprint=await self.source.fingerprint(),
            bad_row_prefix="row-" if await ids.meets(bad_ids) else "",
            twins=sorted(await digests.found()),
            notes=notes,
        )

    async def entries(self, report: InputReport, done: bytearray) -> AsyncIterator[Sequence[Entry]]:
        """What the engine is to run: every row whose index is not marked in ``done``.

        Rows that have come since ``report`` was made are left for the next run.

        Raises:
            InputError: the input cannot be read any more, or has fewer rows than it had.
        """
        index = 0
        async for group in self.source.rows():
            entries: list[Entry] = []
            for row in group[: report.rows - index]:
                if not done[index]:
                    made = row if isinstance(row, BadRow) else self._template.request_of(row, index)
                    entries.append(made if isinstance(made, Request) else _failed_row(made, index, report))
                index += 1
            if entries:
                yield entries
            if index == report.rows:
                return
        if index < report.rows:
            raise InputError(
                f"the input had {report.rows} rows when it was checked, and now it has {index}",
                code="E0342",
                hint="do not change the input while a run reads it; put the rows back to go on with this run",
            )

    async def _requests(self) -> AsyncIterator[Sequence[Request | BadRow]]:
        index = 0
        async for group in self.source.rows():
            made: list[Request | BadRow] = []
            for row in group:
                made.append(row if isinstance(row, BadRow) else self._template.request_of(row, index))
                index += 1
            yield made

    async def _refuse_twins(self, suspects: Set[int]) -> None:
        """Look again for the ids behind hashes that occur twice."""
        first: dict[str, int] = {}
        problems: list[Problem] = []
        async for group in self._requests():
            for entry in group:
                if isinstance(entry, BadRow) or hash(entry.id) not in suspects:
                    continue
                if entry.id in first:
                    message = f"the id {entry.id!r} of row {entry.index + 1} is that of row {first[entry.id] + 1} too"
                    hint = "give every row an id of its own, or name another column with `input.id`"
                    problems.append(Problem("E0320", message, None, hint))
                first.setdefault(entry.id, entry.index)
        if problems:
            raise InputError(f"{len(problems)} ids occur twice", problems=tuple(problems[:MOST_PROBLEMS]))


def _failed_row(row: BadRow, index: int, report: InputReport) -> Result:
    """The record of a row that could not become a request; nothing was sent for it."""
    error = ErrorInfo(code=row.code, message=f"{row.origin}: {row.message}")
    return Result(id=f"{report.bad_row_prefix}{index + 1}", index=index, status="failed", error=error)


def _template_error(rows: Sequence[BadRow], count: int, total: int) -> InputError:
    hint = "correct the template in the job file, or the row"
    problems = tuple(Problem("E0310", row.message, _place(row.origin), hint) for row in rows)
    return InputError(f"the templates fail on {count} of {total} rows", problems=problems)


def _place(origin: Origin) -> Location | None:
    return Location(origin.file, origin.line) if origin.file else None
