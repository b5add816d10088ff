"""Ctrl-C in stages: first finish what is paid, then cancel it, then leave."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

from promptmill._run import Run
from promptmill._stops import counted
from promptmill.cli.terminal import tell
from promptmill.errors import RunStopped

INTERRUPT_GRACE: Final = 30.0
TERMINATE_GRACE: Final = 25.0
"""Seconds: container schedulers send SIGKILL 30 s after SIGTERM."""

_GRACE: Final = {"SIGINT": INTERRUPT_GRACE, "SIGTERM": TERMINATE_GRACE, "SIGHUP": TERMINATE_GRACE}


class StagedStop:
    """Turns signals into stages of stopping a run. ``call`` runs a function in the event loop's thread."""

    def __init__(self, run: Run, call: Callable[[Callable[[], None]], object]) -> None:
        self._run = run
        self._call = call
        self._count = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of a handler
        self._count += 1
        name = signal.Signals(number).name
        # A process that ended by SIGTERM or SIGHUP reports 143, one that was interrupted 130.
        exit_code = 130 if name == "SIGINT" else 143
        reason = RunStopped(f"stopped by {name}", code="E0530", exit_code=exit_code)
        if self._count == 1:
            now = self._run.progress()
            grace, flight = _GRACE[name], now.in_flight
            tell(f"stopping: waiting up to {grace:.0f} s for {flight} calls in flight; again to cancel them")
            if now.away:
                batches = counted(now.batches, "batch", "batches")
                tell(f"{now.away} requests are in {batches}, to go on without this process; the next run collects them")
            self._call(lambda: self._run.stop(reason, grace=_GRACE[name]))
        elif self._count == 2:
            tell("cancelling the calls in flight; again to leave at once")
            self._call(lambda: self._run.abort(reason))
        else:
            os._exit(exit_code)


@contextmanager
def handled(handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """Install ``handler`` for the signals that end a run; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in _GRACE if hasattr(signal, name)]
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
