"""Notices when the event loop stands still, and says in the log what it stood still in.

A thread asks the loop for a beat again and again and looks at the loop's stack when one does not come. It keeps apart
who is to blame: a process that is stopped, or a thread that waits for a core, blocks nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import PurePath
from types import FrameType
from typing import Final, NamedTuple

LONGEST: Final = 0.05
"""Seconds the loop may stand still unseen."""

BEAT: Final = 0.04
"""Seconds between two beats, and so what a block may be longer than ``LONGEST`` before it is surely seen."""

LATE: Final = 0.025
"""Seconds this thread may be late before it asks why."""

LASTING: Final = 1.0
"""Seconds after which a block is told of while it lasts; it may have no end."""

SILENCE: Final = 10.0
"""Seconds in which one place is told of once."""

MOST_FRAMES: Final = 12

_log = logging.getLogger("promptmill")


class Place(NamedTuple):
    """A line of the program that was being run."""

    file: str
    line: int
    function: str


@contextmanager
def watching(report: Callable[[str], None] = _log.warning) -> Iterator[Watchdog | None]:
    """Watch the running loop, unless its time is not real: a virtual clock says nothing about blocking."""
    loop = asyncio.get_running_loop()
    if abs(loop.time() - time.monotonic()) > LASTING:
        yield None
        return
    watchdog = Watchdog(loop, report)
    try:
        yield watchdog
    finally:
        watchdog.stop()


class Watchdog:
    """Watches the loop it is made in until :meth:`stop`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, report: Callable[[str], None]) -> None:
        self.blocks = 0
        self.longest = 0.0
        self._loop = loop
        self._log = _Log(report)
        self._watched = threading.get_ident()
        self._usage = _Usage()
        self._own = self._usage
        self._depth = 0
        self._beaten = self._looked = time.monotonic()
        self._back = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="promptmill-watchdog", daemon=True)
        loop.call_soon(self._beat)  # known before the first task that may block
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and say how much was not told."""
        self._ended.set()
        self._back.set()
        self._thread.join(LASTING)
        if not self._thread.is_alive():
            self._usage.close()
            self._own.close()
        if self._log.left_out:
            most = f"{self.longest * 1000:.0f} ms at the longest"
            self._log.report(f"the event loop stood still {self.blocks} times, {most}; not all are told above")

    def _beat(self) -> None:
        """Run by the loop. What stands below this call stands below everything the loop runs."""
        if not self._depth:
            self._depth = sum(1 for _ in traceback.walk_stack(sys._getframe(1)))
        self._beaten = time.monotonic()
        self._back.set()

    def _watch(self) -> None:
        self._own = _Usage()
        with suppress(RuntimeError):  # the loop was closed first
            while not self._ended.is_set():
                due, before = self._looked + BEAT, self._usage.read()
                fair = self._wait(self._ended, BEAT)
                places = self._places()
                if self._depth and not places:  # a loop that waits is not woken for this
                    continue
                held = fair and self._looked - due >= LONGEST
                if held:
                    self._ask(due, before, places)
                else:
                    self._ask(self._looked, self._usage.read(), [])

    def _ask(self, since: float, before: Shares, places: list[Place]) -> None:
        """Ask for a beat and wait until it comes. ``places``: what the loop does since ``since``, if that is known.

        ``before``: what its thread had got of the machine by then.
        """
        self._back.clear()
        if self._ended.is_set():
            return
        self._loop.call_soon_threadsafe(self._beat)
        fair, lasts, told = True, False, False
        while fair and not self._back.is_set():
            fair = self._wait(self._back, LONGEST)
            if not self._back.is_set():
                places = places or self._places()
                if fair and places and not lasts and self._looked - since >= LASTING:
                    lasts, told = True, self._log.tell(places, f"stands still since {self._looked - since:.1f} s")
        self._back.wait()
        lasted = self._beaten - since - self._usage.since(before).waited
        if not (fair and places and lasted >= LONGEST):
            return
        self.blocks += 1
        self.longest = max(self.longest, lasted)
        if told:
            self._log.report(f"the event loop goes on, after {lasted:.1f} s")
        elif not lasts:
            self._log.tell(places, f"stood still for {lasted * 1000:.0f} ms")

    def _wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait for the event; False when nobody can say what the loop did meanwhile, since this thread came late.

        A call into C that does not let go of the interpreter keeps this thread waiting too. Then the loop's thread was
        at work, or would have been had it had a core, and this one did not wait for a core.
        """
        due, loop, own = self._looked + seconds, self._usage.read(), self._own.read()
        event.wait(seconds)
        self._looked = time.monotonic()
        late = self._looked - due
        if late < LATE:
            return True
        loop, own = self._usage.since(loop), self._own.since(own)
        return own.waited < late / 2 and loop.worked + loop.waited >= 0.9 * late

    def _places(self) -> list[Place]:
        """What the loop runs right now, the innermost last; nothing when it only waits for events."""
        frame: FrameType | None = sys._current_frames().get(self._watched) if self._depth else None
        places = []
        while frame is not None:
            places.append(Place(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
            frame = frame.f_back
        return places[: -self._depth][::-1] if self._depth else []


class Shares(NamedTuple):
    """Seconds a thread had a core, and seconds it waited for one."""

    worked: float
    waited: float


class _Usage:
    """What the thread that makes this gets of the machine; nothing at all where the system does not say."""

    def __init__(self) -> None:
        self._file = -1
        with suppress(OSError):
            self._file = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY)

    def read(self) -> Shares:
        """Since the thread was started."""
        try:
            worked, waited, _ = os.pread(self._file, 100, 0).split() if self._file >= 0 else (0, 0, 0)
        except (OSError, ValueError):
            return Shares(0.0, 0.0)
        return Shares(int(worked) / 1e9, int(waited) / 1e9)

    def since(self, before: Shares) -> Shares:
        now = self.read()
        return Shares(now.worked - before.worked, now.waited - before.waited)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)


class _Log:
    """Tells of blocks, of each place once in a while."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self.report = report
        self.left_out = 0
        self._told: dict[tuple[str, str], tuple[float, int]] = {}

    def tell(self, places: list[Place], how_long: str) -> bool:
        """Tell of a block, unless its place was told of a moment ago: then it is counted."""
        file, line, function = places[-1]
        now = time.monotonic()
        at, more = self._told.get((file, function), (-SILENCE, 0))
        if now - at < SILENCE:
            self._told[file, function] = (at, more + 1)
            self.left_out += 1
            return False
        self._told[file, function] = (now, 0)
        shown = [place for place in places if not place.file.startswith("<frozen importlib")]
        stack = traceback.format_list([traceback.FrameSummary(*place) for place in shown[-MOST_FRAMES:]])
        again = f" (and {more} more times since that was last told)" if more else ""
        self.report(
            f"the event loop {how_long} in {function} ({PurePath(file).name}:{line}){again}; nothing else went on\n"
            + "".join(stack).rstrip()
        )
        return True
