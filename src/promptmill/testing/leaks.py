"""What a component may leave behind: tasks, threads and sockets, counted before and after."""

from __future__ import annotations

import asyncio
import gc
import threading
from pathlib import Path
from typing import Final

import anyio

# Idle worker threads of anyio and asyncio belong to the event loop, not to the component.
_POOLED: Final = ("AnyIO worker thread", "asyncio_")
_PATIENCE_S: Final = 5.0
_DESCRIPTORS: Final = Path("/proc/self/fd")


class Leftovers:
    """Take one before the component opens; :meth:`none` after it closed waits until all it started is gone."""

    def __init__(self) -> None:
        self._tasks = asyncio.all_tasks()
        self._threads = set(threading.enumerate())
        self._sockets = _sockets()

    async def none(self) -> None:
        """Raise AssertionError when something is still there after a few seconds."""
        with anyio.move_on_after(_PATIENCE_S):
            while self._found():
                gc.collect()
                await anyio.sleep(0.01)
        assert not self._found(), f"left behind after closing: {self._found()}"

    def _found(self) -> list[str]:
        tasks = [repr(task) for task in asyncio.all_tasks() - self._tasks if task is not asyncio.current_task()]
        threads = [
            repr(thread) for thread in set(threading.enumerate()) - self._threads if not thread.name.startswith(_POOLED)
        ]
        return tasks + threads + sorted(_sockets() - self._sockets)


def _sockets() -> set[str]:
    """The open sockets of this process where the system tells (Linux); elsewhere none are seen."""
    found = set()
    for entry in _DESCRIPTORS.iterdir() if _DESCRIPTORS.is_dir() else ():
        try:
            target = str(entry.readlink())
        except OSError:
            continue  # the descriptor of the listing itself, already closed
        if target.startswith("socket:"):
            found.add(target)
    return found
