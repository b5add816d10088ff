"""``promptmill check JOB``: everything a run would refuse, and nothing sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from promptmill.cli.run import AllowCode, JobPath
from promptmill.cli.terminal import emit, tell
from promptmill.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from promptmill._checkup import BadRowNote, Checkup
    from promptmill.errors import Problem
    from promptmill.options import RegisterCommand

MOST_ROWS = 20
"""Bad rows named on the terminal; --json has all."""


def check(
    job: JobPath,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON on stdout.")] = False,
    allow_code: AllowCode = False,
) -> None:
    """Check all that a run would refuse: job, keys, extras, every row, budget, outputs. Sends and writes nothing.

    \b
    Examples:
      promptmill check job.yaml
      promptmill check job.yaml --json
    """
    import anyio

    from promptmill import _app
    from promptmill._checkup import check_up
    from promptmill.cli import errors, warnings
    from promptmill.cli.keys import lines_about_keys
    from promptmill.jsontext import encode

    prepared = _app.prepare(job, allow_code=allow_code)
    for line in lines_about_keys(prepared.job, quiet=as_json):
        tell(line)
    with warnings.log_told():
        found = anyio.run(check_up, prepared, None if as_json else MOST_ROWS)
    if as_json:
        emit(encode(_as_json(prepared.job.name, found)).decode())
    for line in _lines(found):
        tell(line)
    for error in found.errors:
        errors.show(error)
    if found.errors:
        raise typer.Exit(found.exit_code)
    rows = found.input.rows if found.input else 0
    tell(f"{job}: ok, {rows:,} rows, {len(prepared.job.providers)} providers, nothing was sent")


def _lines(found: Checkup) -> Iterator[str]:
    for row in found.bad_rows[:MOST_ROWS]:
        yield f"{_place(row)}: {row.reason} ({row.code})"
    if found.bad_count > MOST_ROWS:
        yield f"... and {found.bad_count - MOST_ROWS:,} more; --json names all"
    if found.input is None:
        return
    for code, count in found.input.bad_rows.items():
        yield (
            f"warning: {count:,} of {found.input.rows:,} rows cannot be used ({code}); they would end as failed records"
        )
    for note in [*found.input.notes, *found.notes]:
        yield f"note: {note}"
    if found.input.unused:
        yield f"note: columns that nothing uses: {', '.join(map(repr, found.input.unused))}"


def _place(row: BadRowNote) -> str:
    where = row.file or "the input"
    return f"{where}:{row.line}" if row.line else f"{where}, row {row.row}"


def _as_json(name: str, found: Checkup) -> dict[str, Any]:
    report = found.input
    return {
        "format_version": 1,
        "job": name,
        "ok": not found.errors,
        "rows": report.rows if report else None,
        "bad_rows": report.bad_rows if report else {},
        "bad": found.bad_rows,
        "unused_columns": report.unused if report else [],
        "notes": [*(report.notes if report else []), *found.notes],
        "problems": [_problem(one) for one in found.problems],
    }


def _problem(problem: Problem) -> dict[str, Any]:
    where = problem.location
    return {
        "code": problem.code,
        "message": problem.message,
        "hint": problem.hint,
        "file": where.file if where else None,
        "line": where.line if where else None,
    }


@hookimpl
def register_command(register: RegisterCommand) -> None:
    register("check", check)
