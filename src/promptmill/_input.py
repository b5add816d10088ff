"""The input of a job: rows of its source made into requests by its templates, checked as a whole before anything is
sent, then fed to the engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence, Set

import msgspec

from promptmill._config import Job
from promptmill._engine_spec import Entry
from promptmill._findings import MOST_PROBLEMS, Findings
from promptmill._repeats import Repeats
from promptmill._twins import is_shared, short_digest
from promptmill.errors import InputError, Problem
from promptmill.interfaces import Source
from promptmill.models import BadRow, ErrorInfo, Request, Result, Row
from promptmill.options import BuildContext


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
    first_bad: dict[str, str] = {}
    """By code: place and reason of the first of ``bad_rows``."""
    unused: list[str] = []
    """Columns that nothing uses."""


class JobInput:
    """Rows, requests and entries of one job. Use it as ``async with job_input.source:`` around everything else."""

    def __init__(self, job: Job, context: BuildContext) -> None:
        self._dedupe = job.dedupe
        self.source: Source = job.source.build(context)
        self._template = job.template
        self._places = job.places

    async def check(self, look: Callable[[Request | BadRow, int], None] = lambda *_: None) -> InputReport:
        """Look at every row: read it, render its templates, compare its id with all others. Sends nothing.

        ``look`` is called with every request or bad row and its index.

        Raises:
            InputError: the input cannot be read, a template fails on a row, or an id occurs twice.
        """
        rows, bad = 0, Counter[str]()
        findings = Findings(self._template, self._places)
        ids, bad_ids, digests = Repeats(), Repeats(), Repeats()
        async for group in self._requests():
            for row, entry in group:
                look(entry, rows)
                findings.look(row, entry)
                rows += 1
                if isinstance(entry, Request):
                    ids.add(hash(entry.id))
                    if is_shared(entry, self._dedupe):
                        digests.add(short_digest(entry))
                    continue
                bad[entry.code] += 1
                bad_ids.add(hash(str(rows)))
        notes = list(self.source.notes())
        findings.refuse(rows)
        if suspects := await ids.found():
            await self._refuse_twins(suspects)
        return InputReport(
            rows=rows,
            bad_rows=dict(bad),
            fingerprint=await self.source.fingerprint(),
            bad_row_prefix="row-" if await ids.meets(bad_ids) else "",
            twins=sorted(await digests.found()),
            notes=[*notes, *findings.notes(rows)],
            first_bad=findings.first_bad,
            unused=findings.unused(),
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

    async def _requests(self) -> AsyncIterator[Sequence[tuple[Row | BadRow, Request | BadRow]]]:
        index = 0
        async for group in self.source.rows():
            made: list[tuple[Row | BadRow, Request | BadRow]] = []
            for row in group:
                made.append((row, row if isinstance(row, BadRow) else self._template.request_of(row, index)))
                index += 1
            yield made

    async def _refuse_twins(self, suspects: Set[int]) -> None:
        """Look again for the ids behind hashes that occur twice."""
        first: dict[str, int] = {}
        problems: list[Problem] = []
        async for group in self._requests():
            for _, entry in group:
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
