"""``promptmill status JOB``: how a run stands, also while another process runs it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptmill._stops import counted
from promptmill.cli.terminal import emit, one_line
from promptmill.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from promptmill._status import RunStatus
    from promptmill.options import RegisterCommand


def status(
    job: Annotated[Path | None, typer.Argument(metavar="[JOB]", help="The job file; default: every run here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Show how runs stand: done, failed, and how far each sink has come. Looks only; disturbs nobody.

    Example: promptmill status job.yaml
    """
    from promptmill._locations import run_directory, state_directory
    from promptmill._status import run_status, runs_in
    from promptmill.jsontext import encode

    found = runs_in(state_directory(Path.cwd())) if job is None else [run_status(run_directory(job))]
    if as_json:
        emit(encode(found if job is None else found[0]).decode())
        return
    for one in found:
        for line in _lines(one):
            emit(one_line(line))
    if not found:
        emit("no runs here")


def _lines(one: RunStatus) -> Iterator[str]:
    total = "?" if one.total is None else f"{one.total:,}"
    done = one.succeeded + one.failed + one.skipped
    yield f"{one.job}: {one.state}, {done:,} of {total} done, {one.failed:,} failed"
    for code, count in sorted(one.errors.items(), key=lambda item: -item[1]):
        yield f"  {count:,} x {code}"
    if one.state == "running" and one.owner:
        yield f"  in the hands of {one.owner}"
    for batches in one.batches:
        number = len(batches.handles)
        yield f"  {batches.requests:,} requests are in {counted(number, 'batch', 'batches')} of {batches.provider}"
    for sink in one.sinks:
        if sink.behind:
            yield f"  {sink.name}: {sink.behind:,} results behind"
        for id_, reason in sink.rejected.items():
            yield f"  {sink.name} does not take {id_!r}: {reason}"


@hookimpl
def register_command(register: RegisterCommand) -> None:
    register("status", status)
