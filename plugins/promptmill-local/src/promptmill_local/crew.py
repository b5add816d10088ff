"""A few daemon threads that take jobs from one queue."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable


class Crew:
    """Runs jobs in threads of its own, in the order they came.

    Not anyio's worker threads: those are no daemons, so that a model that hangs would keep the process from ending,
    and anyio gives a limiter's token back when a call is abandoned, although its thread is still in the model.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def hire(self, count: int) -> None:
        """Start ``count`` more threads."""
        for _ in range(count):
            name = f"{self._name}-{len(self._threads) + 1}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def submit(self, job: Callable[[], None]) -> None:
        """Queue ``job``. It must not raise."""
        self._jobs.put(job)

    def dismiss(self) -> None:
        """Let every thread end once it has done the jobs queued so far. Does not wait."""
        for _ in self._threads:
            self._jobs.put(None)

    def join(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for the threads to end; whether all did. Call :meth:`dismiss` first."""
        until = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            # An idle thread must not keep the last job, and with it a request and its answer, alive.
            del job
