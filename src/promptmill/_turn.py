"""One at a time, at next to no cost while it is free."""

from __future__ import annotations

from collections import deque

import anyio


class Turn:
    """For tasks of which it does not matter whose turn it is.

    A lock is handed to whoever has waited the longest, and is locked until that task runs: all who come in between have
    to wait as well, and so on, until there is one turn in each round of the event loop. Here it is free at once, and
    who is woken for it may find it taken again.
    """

    __slots__ = ("_waiting", "taken")

    def __init__(self) -> None:
        self.taken = False
        """Set this to take it; only while it is not, and before anything else is waited for."""
        self._waiting: deque[anyio.Event] = deque()

    async def wait(self) -> None:
        """Return when it is not taken."""
        while self.taken:
            free = anyio.Event()
            self._waiting.append(free)
            try:
                await free.wait()
            except BaseException:
                if free.is_set():
                    self._tell()
                else:
                    self._waiting.remove(free)
                raise

    def leave(self) -> None:
        self.taken = False
        self._tell()

    def _tell(self) -> None:
        """Wake one of those who wait."""
        if self._waiting and not self.taken:
            self._waiting.popleft().set()
