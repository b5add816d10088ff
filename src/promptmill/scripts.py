"""Jobs from scripts and notebooks: no event loop needed, none disturbed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio

from promptmill.errors import RunStopped

if TYPE_CHECKING:
    from promptmill._report import Summary
    from promptmill._run import Run

__all__ = ["run"]

WAKE_SECONDS: Final = 0.5


def run(
    job: str | Path,
    *,
    fresh: bool = False,
    retry_failed: bool = False,
    detach: bool = False,
    cancel_batches: bool = False,
    allow_code: bool = False,
) -> Summary:
    """Run a job file, or go on where its last run stopped, and return the summary.

    Works in a thread and an event loop of its own, so also where a loop is running already, as in a notebook. An
    interrupt stops the run in stages: first the calls in flight may finish, a second one cancels them.

    Args:
        job: path of the job file.
        fresh: set the earlier run and its outputs aside and start over.
        retry_failed: send failed requests again.
        detach: leave as soon as all that is left is in batches; the next run collects them.
        cancel_batches: send nothing, end the batches of earlier runs and keep what has finished of them.
        allow_code: allow providers that run Python code named in the job file.

    Raises:
        JobError, InputError, PluginError: something is wrong with the job; nothing was sent.
        RunStopped: the run ended early.
    """
    orders = {"fresh": fresh, "retry_failed": retry_failed, "detach": detach, "cancel_batches": cancel_batches}
    worker = _Worker(Path(job), orders, allow_code=allow_code)
    worker.thread.start()
    ended = False
    while not ended:
        try:
            # Not without end: Windows sees an interrupt only when the wait is over. And not with join(), which takes
            # a thread for dead once it was interrupted.
            ended = worker.ended.wait(WAKE_SECONDS)
        except KeyboardInterrupt:
            worker.interrupt()
    return worker.summary()


class _Worker:
    def __init__(self, job: Path, orders: Mapping[str, bool], *, allow_code: bool) -> None:
        self.thread = threading.Thread(target=self._work, args=(job, orders, allow_code), name="promptmill")
        self.ended = threading.Event()
        self._outcome: Callable[[], Summary] | None = None
        self._run: Run | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._beginning: anyio.CancelScope | None = None
        self._interrupts = 0

    def interrupt(self) -> None:
        """Bring the run nearer to its end; returns at once."""
        self._interrupts += 1
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has closed: the run has just ended
                self._loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        reason = RunStopped("stopped by the caller", code="E0530", exit_code=130)
        if self._run is None:
            if self._beginning is not None:
                self._beginning.cancel()
        elif self._interrupts == 1:
            self._run.stop(reason)
        else:
            self._run.abort(reason)

    def summary(self) -> Summary:
        """How the run ended. Raises what it raised, and KeyboardInterrupt when it was stopped before it began."""
        if self._outcome is None:
            raise KeyboardInterrupt
        return self._outcome()

    def _work(self, job: Path, orders: Mapping[str, bool], allow_code: bool) -> None:
        try:
            finished = anyio.run(self._main, job, orders, allow_code)
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            raised = error

            def fail() -> Summary:
                raise raised

            self._outcome = fail
        else:
            self._outcome = None if finished is None else lambda: finished
        finally:
            self.ended.set()

    async def _main(self, job: Path, orders: Mapping[str, bool], allow_code: bool) -> Summary | None:
        """Run the job; None when it was stopped before it began."""
        from promptmill import _app

        def started(run: Run) -> None:
            self._run = run

        with anyio.CancelScope() as self._beginning:
            self._loop = asyncio.get_running_loop()
            if self._interrupts:
                return None
            prepared = _app.prepare(job, allow_code=allow_code)
            outcome = await prepared.run(_app.Orders(**orders), on_start=started)
            if outcome.stopped:
                raise outcome.stopped
            return outcome.summary
        return None
