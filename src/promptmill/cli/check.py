"""``promptmill check JOB``: everything a run would check, and nothing sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from promptmill.cli.run import AllowCode, JobPath
from promptmill.cli.terminal import emit, tell
from promptmill.hookspecs import hookimpl

if TYPE_CHECKING:
    from promptmill.options import RegisterCommand


def check(
    job: JobPath,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON on stdout.")] = False,
    allow_code: AllowCode = False,
) -> None:
    """Check a job file and every row of its input. Sends nothing.

    \b
    Examples:
      promptmill check job.yaml
      promptmill check job.yaml --json
    """
    import anyio

    from promptmill import _app
    from promptmill.cli.keys import lines_about_keys
    from promptmill.jsontext import encode

    prepared = _app.prepare(job, allow_code=allow_code)
    for line in lines_about_keys(prepared.job, quiet=as_json):
        tell(line)
    report = anyio.run(prepared.check)
    if as_json:
        emit(
            encode(
                {"format_version": 1, "job": prepared.job.name, "rows": report.rows, "bad_rows": report.bad_rows}
            ).decode()
        )
        return
    tell(f"{job}: ok, {report.rows:,} rows, {len(prepared.job.providers)} providers, nothing was sent")
    for code, count in report.bad_rows.items():
        tell(f"warning: {count} of {report.rows} rows cannot be used ({code}); they would end as failed records")


@hookimpl
def register_command(register: RegisterCommand) -> None:
    register("check", check)
