"""``promptmill run JOB``: run a job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from promptmill.cli.terminal import emit, tell
from promptmill.hookspecs import hookimpl

if TYPE_CHECKING:
    import asyncio

    from promptmill._app import Orders
    from promptmill._resume import Plan
    from promptmill._run import Run
    from promptmill.options import RegisterCommand

JobPath = Annotated[Path, typer.Argument(metavar="JOB", help="The job file.")]
AllowCode = Annotated[
    bool, typer.Option("--allow-code", help="Allow providers that run Python code named in the job file.")
]


def run(
    job: JobPath,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over: set the earlier run aside.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Send failed requests again.")] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Leave when all that is left is in batches; the next run collects them.")
    ] = False,
    cancel_batches: Annotated[
        bool, typer.Option("--cancel-batches", help="Send nothing: end all batches and keep what has finished.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary object on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary for people.")] = False,
    allow_code: AllowCode = False,
) -> None:
    """Run a job, or go on where its last run stopped. Every row is checked before the first prompt is sent.

    \b
    Examples:
      promptmill run job.yaml
      promptmill run job.yaml --quiet --json > summary.json
      promptmill run job.yaml --retry-failed
      promptmill run job.yaml --detach
    """
    import asyncio

    from promptmill._descriptors import allow_more
    from promptmill._eventloop import loop_factory
    from promptmill.errors import UsageError

    if cancel_batches and (fresh or retry_failed or detach):
        raise UsageError("--cancel-batches sends nothing, so it goes with no other way of running", code="E0141")
    allow_more()
    settings = _Settings(fresh, retry_failed, detach, cancel_batches, as_json, quiet, allow_code)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        exit_code = runner.run(_run(job, settings))
    if exit_code:
        raise typer.Exit(exit_code)


class _Settings(NamedTuple):
    fresh: bool
    retry_failed: bool
    detach: bool
    cancel_batches: bool
    as_json: bool
    quiet: bool
    allow_code: bool


async def _run(path: Path, settings: _Settings) -> int:
    import asyncio
    from contextlib import AsyncExitStack

    from promptmill import _app, _watchdog
    from promptmill._garbage import seldom_collected
    from promptmill._readers import shut_out_others
    from promptmill.cli import errors, progress, signals, summary, warnings
    from promptmill.cli.keys import lines_about_keys
    from promptmill.errors import RowRejected
    from promptmill.jsontext import encode

    prepared = _app.prepare(path, allow_code=settings.allow_code)
    for line in lines_about_keys(prepared.job, quiet=settings.quiet):
        tell(line)
    shut_out_others(getattr(prepared.job.source, "paths", ()), prepared.job.base_dir)
    async with AsyncExitStack() as stack:
        stack.enter_context(warnings.log_told())

        def started(run: Run) -> None:
            call = asyncio.get_running_loop().call_soon_threadsafe
            stack.enter_context(signals.handled(signals.StagedStop(run, call)))
            stack.enter_context(seldom_collected())
            # Not before: reading the input and importing what the job names may block, since nothing waits for it.
            stack.enter_context(_watchdog.watching())
            if not settings.quiet:
                task = asyncio.create_task(progress.show(run.progress))
                stack.push_async_callback(_cancelled, task)

        outcome = await prepared.run(
            _orders(settings), observers=[warnings.TellWarnings()], on_plan=_tell_plan, on_start=started
        )
    if not settings.quiet:
        for line in summary.lines_of(outcome.summary, outcome.tally):
            tell(line)
        for sink, name in zip(prepared.job.sinks, prepared.job.sink_names, strict=True):
            where = getattr(sink, "path", None)
            tell(f"answers      {name if where is None else prepared.job.base_dir / str(where)}")
    if outcome.rejected and not (outcome.stopped and outcome.stopped.code == RowRejected.default_code):
        tell(f"warning: {outcome.rejected} rows are not in every sink; `promptmill status {path}` names them")
    if settings.as_json:
        emit(encode(outcome.summary).decode())
    if outcome.stopped:
        errors.show(outcome.stopped)
        tell(f"to go on: promptmill run {path}")
        return outcome.stopped.exit_code
    return 1 if outcome.summary.failed else 0


def _orders(settings: _Settings) -> Orders:
    from promptmill._app import Orders

    return Orders(
        fresh=settings.fresh,
        retry_failed=settings.retry_failed,
        detach=settings.detach,
        cancel_batches=settings.cancel_batches,
    )


def _tell_plan(plan: Plan, unknown: int) -> None:
    """Say what is special about this run before it starts."""
    for note in plan.input.notes:
        tell(f"note: {note}")
    for code, count in plan.input.bad_rows.items():
        tell(f"warning: {count} of {plan.input.rows} rows cannot be used ({code}); they end as failed records")
        if code in plan.input.first_bad:
            tell(f"  the first: {plan.input.first_bad[code]}")
    for change in plan.moved:
        tell(f"warning: changed since this run began: {change}; the run goes on there")
    if plan.added:
        change = "been added to" if plan.added > 0 else "gone from"
        tell(f"{abs(plan.added)} rows have {change} the input since this run began")
    if plan.finished:
        tell(f"going on: {plan.finished} of {plan.input.rows} rows have their answer, {plan.pending} to do")
    if held := sum(plan.held):
        tell(f"{held} rows are in batches of an earlier run, which are collected and not paid again")
    if unknown:
        tell(f"{unknown} requests were in flight when the last process died; they are sent again and may be paid twice")


async def _cancelled(task: asyncio.Task[None]) -> None:
    import asyncio

    task.cancel()
    await asyncio.wait({task})


@hookimpl
def register_command(register: RegisterCommand) -> None:
    register("run", run)
