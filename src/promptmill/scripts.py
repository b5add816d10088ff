"""Jobs from scripts and notebooks: no event loop needed, none disturbed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from anyio.lowlevel import EventLoopToken

from promptmill.errors import RunStopped

if TYPE_CHECKING:
    from promptmill._report import Summary
    from promptmill._run import Run

__all__ = ["run"]


def run(job: str | Path, *, fresh: bool = False, retry_failed: bool = False, allow_code: bool = False) -> Summary:
    """Run a job file, or go on where its last run stopped, and return the summary.

    Works in a thread and an event loop of its own, so also where a loop is running already, as in a notebook. An
    interrupt stops the run in stages: first the calls in flight may finish, a second one cancels them.

    Args:
        job: path of the job file.
        fresh: set the earlier run and its outputs aside and start over.
        retry_failed: send failed requests again.
        allow_code: allow providers that run Python code named in the job file.

    Raises:
        JobError, InputError, PluginError: something is wrong with the job; nothing was sent.
        RunStopped: the run ended early.
    """
    worker = _Worker(Path(job), fresh=fresh, retry_failed=retry_failed, allow_code=allow_code)
    worker.thread.start()
    while worker.thread.is_alive():
        try:
            worker.thread.join()
        except KeyboardInterrupt:
            worker.interrupt()
    return worker.summary()


class _Worker:
    def __init__(self, job: Path, *, fresh: bool, retry_failed: bool, allow_code: bool) -> None:
        self.thread = threading.Thread(
            target=self._work, args=(job, fresh, retry_failed, allow_code), name="promptmill"
        )
        self._outcome: Callable[[], Summary] | None = None
        self._run: Run | None = None
        self._loop_token: EventLoopToken | None = None
        self._interrupts = 0

    def interrupt(self) -> None:
        self._interrupts += 1
        run, reason = self._run, RunStopped("stopped by the caller", code="E0530", exit_code=130)
        if run is None:
            raise KeyboardInterrupt
        stop = run.stop if self._interrupts == 1 else run.abort
        anyio.from_thread.run_sync(stop, reason, token=self._loop_token)

    def summary(self) -> Summary:
        if self._outcome is None:
            raise KeyboardInterrupt
        return self._outcome()

    def _work(self, job: Path, fresh: bool, retry_failed: bool, allow_code: bool) -> None:
        try:
            finished = anyio.run(self._main, job, fresh, retry_failed, allow_code)
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            raised = error

            def fail() -> Summary:
                raise raised

            self._outcome = fail
        else:
            self._outcome = lambda: finished

    async def _main(self, job: Path, fresh: bool, retry_failed: bool, allow_code: bool) -> Summary:
        from promptmill import _app

        self._loop_token = anyio.lowlevel.current_token()
        prepared = _app.prepare(job, allow_code=allow_code)

        def started(run: Run) -> None:
            self._run = run

        outcome = await prepared.run(fresh=fresh, retry_failed=retry_failed, on_start=started)
        if outcome.stopped:
            raise outcome.stopped
        return outcome.summary
