"""One piece of work on its way through a thread and back to the task that waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeAlias, TypeVar

import anyio

T = TypeVar("T")

Outcome: TypeAlias = Callable[[], T]
"""What came of some work: calling it returns the value or raises the failure."""


def attempt(work: Callable[[], T]) -> Outcome[T]:
    """Do ``work`` now and keep what comes of it. Never raises."""
    try:
        value = work()
    except Exception as error:  # noqa: BLE001 - it is raised where the outcome is asked for
        return _raiser(error)
    except BaseException as error:  # noqa: BLE001
        # SystemExit in a model, or the panic of a native library: not a wish of the user to end the program.
        return _raiser(RuntimeError(f"the model raised {type(error).__name__}: {error}"))
    return lambda: value


def _raiser(error: Exception) -> Outcome[T]:
    def fail() -> T:
        raise error

    return fail


class Call(Generic[T]):
    """What a task waits for while a thread works. Make it on the event loop.

    ``abandoned`` turns true when the waiting task was cancelled; the thread may read it at any time. ``ended`` is
    called on the event loop when the thread is done, whether anybody still waits or not.
    """

    def __init__(self, ended: Callable[[Call[T]], None] | None = None) -> None:
        self.abandoned = False
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._done = anyio.Event()
        self._outcome: Outcome[T] | None = None

    async def result(self) -> T:
        """Wait for the thread. A cancellation ends the wait at once and abandons the call."""
        try:
            await self._done.wait()
        except BaseException:
            self.abandoned = True
            raise
        if self._outcome is None:
            raise RuntimeError("the call was dropped, yet somebody waits for it")
        return self._outcome()

    def deliver(self, outcome: Outcome[T] | None) -> None:
        """Called in the thread when it is done; None when an abandoned call was never begun."""
        try:
            self._loop.call_soon_threadsafe(self._arrive, outcome)
        except RuntimeError:
            # The loop has been closed behind an abandoned call: there is nobody left to tell.
            return

    def _arrive(self, outcome: Outcome[T] | None) -> None:
        self._outcome = outcome
        self._done.set()
        if self._ended is not None:
            self._ended(self)
