"""``promptmill run JOB``: run a job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptmill.cli.terminal import emit, tell
from promptmill.hookspecs import hookimpl

if TYPE_CHECKING:
    import asyncio

    from promptmill._run import Run
    from promptmill.options import RegisterCommand

JobPath = Annotated[Path, typer.Argument(metavar="JOB", help="The job file.")]
AllowCode = Annotated[
    bool, typer.Option("--allow-code", help="Allow providers that run Python code named in the job file.")
]


def run(
    job: JobPath,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over: set earlier outputs aside first.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary object on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary for people.")] = False,
    allow_code: AllowCode = False,
) -> None:
    """Run a job: check every row first, then send the prompts and write the answers."""
    exit_code = _run_loop(job, fresh=fresh, as_json=as_json, quiet=quiet, allow_code=allow_code)
    if exit_code:
        raise typer.Exit(exit_code)


def _run_loop(job: Path, *, fresh: bool, as_json: bool, quiet: bool, allow_code: bool) -> int:
    import asyncio

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_run(job, fresh=fresh, as_json=as_json, quiet=quiet, allow_code=allow_code))


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    """uvloop when it is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop


async def _run(path: Path, *, fresh: bool, as_json: bool, quiet: bool, allow_code: bool) -> int:
    import asyncio
    from contextlib import AsyncExitStack

    from promptmill import _app
    from promptmill.cli import errors, progress, signals, summary
    from promptmill.jsontext import encode

    prepared = _app.prepare(path, allow_code=allow_code)
    report = await prepared.check()
    for code, count in report.bad_rows.items():
        tell(f"warning: {count} of {report.rows} rows cannot be used ({code}); they end as failed records")
    async with AsyncExitStack() as stack:

        def started(run: Run) -> None:
            call = asyncio.get_running_loop().call_soon_threadsafe
            stack.enter_context(signals.handled(signals.StagedStop(run, call)))
            if not quiet:
                task = asyncio.create_task(progress.show(run.progress))
                stack.push_async_callback(_cancelled, task)

        run = await prepared.run(total=report.rows, fresh=fresh, on_start=started)
    outcome = run.summary()
    if not quiet:
        for line in summary.lines_of(outcome, run.tally):
            tell(line)
        for sink in prepared.job.sinks:
            tell(f"answers      {getattr(sink, 'path', type(sink).__name__)}")
    if as_json:
        emit(encode(outcome).decode())
    if run.stopped:
        errors.show(run.stopped)
        return run.stopped.exit_code
    return 1 if outcome.failed else 0


async def _cancelled(task: asyncio.Task[None]) -> None:
    import asyncio

    task.cancel()
    await asyncio.wait({task})


@hookimpl
def register_command(register: RegisterCommand) -> None:
    register("run", run)
