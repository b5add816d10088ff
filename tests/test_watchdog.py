"""The watchdog tells what holds up the event loop, and keeps quiet about everything else."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from promptmill import _watchdog
from promptmill._watchdog import watching
from promptmill.clock import VirtualClock

pytestmark = pytest.mark.alone

BLOCK = 0.2


def loops() -> list[Any]:
    uvloop = pytest.importorskip("uvloop") if sys.platform != "win32" else None
    return [asyncio.SelectorEventLoop, *([uvloop.Loop] if uvloop else [])]


@pytest.fixture(params=loops(), ids=lambda loop: loop.__module__.split(".")[0])
def watched(request: pytest.FixtureRequest) -> Callable[[Callable[[], Awaitable[None]]], list[str]]:
    """Runs this on a loop of each kind and returns what was reported."""

    def run(main: Callable[[], Awaitable[None]]) -> list[str]:
        said: list[str] = []

        async def body() -> None:
            with watching(said.append):
                await asyncio.sleep(0.1)
                await main()
                await asyncio.sleep(0.1)

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(body())
        return said

    return run


async def stuck(seconds: float = BLOCK) -> None:
    time.sleep(seconds)


def test_what_blocks_is_named_with_its_stack(watched: Any) -> None:
    async def caller() -> None:
        await stuck()

    (said,) = watched(caller)
    assert said.startswith("the event loop stood still for ")
    assert "in stuck (test_watchdog.py:" in said
    assert "    await stuck()\n" in said
    assert said.endswith("    time.sleep(seconds)")
    # The loop's own frames and those of whoever started it say nothing.
    assert not any(name in said for name in ("runners.py", "base_events.py", "events.py", "in run\n"))


def test_how_long_it_stood_still(watched: Any) -> None:
    (said,) = watched(stuck)
    milliseconds = int(said.split(" still for ")[1].split(" ms")[0])
    assert (BLOCK - _watchdog.BEAT) * 1000 - 20 <= milliseconds <= 10_000


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="nobody says what a thread got of the machine")
def test_a_call_that_does_not_let_go_of_the_interpreter_is_found_too(watched: Any) -> None:
    """The watchdog's thread cannot run meanwhile either."""

    async def computing() -> None:
        for _ in range(5):  # on a machine with too much to do it is not always known that this was the loop's doing
            sum(range(20_000_000))
            await asyncio.sleep(0.01)

    assert "in computing (test_watchdog.py:" in watched(computing)[0]


def test_a_busy_loop_is_not_a_blocked_one(watched: Any) -> None:
    async def busy() -> None:
        end = time.monotonic() + 1
        while time.monotonic() < end:
            time.sleep(0.005)
            await asyncio.sleep(0)

    assert watched(busy) == []


def test_an_idle_loop_is_not_a_blocked_one(watched: Any) -> None:
    async def idle() -> None:
        await asyncio.sleep(0.5)

    assert watched(idle) == []


def test_time_without_a_core_does_not_count(watched: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with too much to do."""
    monkeypatch.setattr(_watchdog._Usage, "read", lambda self: _watchdog.Shares(0.0, time.monotonic()))
    assert watched(stuck) == []


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="nobody says what a thread got of the machine")
def test_a_watchdog_that_waits_for_a_core_says_nothing(watched: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot know what the loop did meanwhile."""
    real = _watchdog._Usage.read

    def starved(usage: Any) -> Any:
        found = real(usage)
        own = threading.current_thread().name == "promptmill-watchdog" and usage is watchdogs_own()
        return found._replace(waited=time.monotonic()) if own else found

    def watchdogs_own() -> Any:
        return threading.current_thread()._target.__self__._own  # type: ignore[attr-defined]

    monkeypatch.setattr(_watchdog._Usage, "read", starved)

    async def computing() -> None:
        sum(range(20_000_000))

    assert watched(computing) == []


def test_a_place_is_told_of_once_in_a_while(watched: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def often() -> None:
        for _ in range(4):
            await stuck()
            await asyncio.sleep(0.01)

    said, total = watched(often)
    assert "in stuck " in said
    # A machine with too much to do may hide one.
    assert re.fullmatch(r"the event loop stood still [234] times, \d+ ms at the longest; not all are told above", total)

    monkeypatch.setattr(_watchdog, "SILENCE", 2.5 * BLOCK)
    assert any(" more times since that was last told)" in said for said in watched(often))


def test_other_places_are_told_of_meanwhile(watched: Any) -> None:
    async def elsewhere() -> None:
        time.sleep(BLOCK)

    async def both() -> None:
        await stuck()
        await asyncio.sleep(0.01)
        await elsewhere()

    first, second = watched(both)
    assert "in stuck " in first
    assert "in elsewhere " in second


def test_what_may_never_end_is_told_of_while_it_lasts(watched: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_watchdog, "LASTING", 0.3)
    told = threading.Event()
    said: list[str] = []

    def report(text: str) -> None:
        said.append(text)
        told.set()

    async def main() -> None:
        with watching(report):
            await asyncio.sleep(0.1)
            assert told.wait(20)
            await asyncio.sleep(0.1)

    asyncio.run(main())
    first, last = said
    assert first.startswith("the event loop stands still since 0.")
    assert "    assert told.wait(20)\n" in first
    assert last.startswith("the event loop goes on, after 0.")


def test_nothing_is_watched_in_virtual_time() -> None:
    async def main() -> tuple[Any, int]:
        with watching() as watchdog:
            return watchdog, len(watchdogs())

    assert VirtualClock().run(main) == (None, 0)


def watchdogs() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "promptmill-watchdog"]


def test_the_thread_ends_with_the_watch(watched: Any) -> None:
    async def failing() -> None:
        assert len(watchdogs()) == 1
        raise KeyError("made up")

    with pytest.raises(KeyError):
        watched(failing)
    assert watchdogs() == []


STOPPED = """\
import asyncio, time
from promptmill._watchdog import watching
async def main():
    with watching(lambda text: print(text, flush=True)):
        await asyncio.sleep(0.2)
        print("ready", flush=True)
        end = time.monotonic() + 2
        while time.monotonic() < end:
            sum(range(20_000))
            await asyncio.sleep(0)
asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="signals of POSIX systems")
def test_a_stopped_process_blocks_nothing() -> None:
    """Neither does a machine that sleeps: the watchdog itself did not run."""
    with subprocess.Popen([sys.executable, "-c", STOPPED], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for _ in range(4):
            process.send_signal(signal.SIGSTOP)
            time.sleep(0.3)
            process.send_signal(signal.SIGCONT)
            time.sleep(0.05)
        out, _ = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "")
