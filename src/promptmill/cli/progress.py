"""How a run goes, on stderr: a live line on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Final

import anyio

from promptmill._run import Progress
from promptmill.cli.terminal import duration, tell

REDRAW_SECONDS: Final = 0.2
LINE_SECONDS: Final = 30.0
TOLD_REST_SECONDS: Final = 10.0


def is_live() -> bool:
    """Whether stderr is a terminal that can redraw a line."""
    return (
        sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("CI")
    )


async def show(progress: Callable[[], Progress]) -> None:
    """Show ``progress()`` until cancelled."""
    if is_live():
        await _redraw(progress)
    else:
        await _line_by_line(progress)


async def _redraw(progress: Callable[[], Progress]) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(stderr=True, highlight=False)
    with Live(Text(""), console=console, auto_refresh=False, transient=True) as live:
        while True:
            live.update(Text(line_of(progress()), no_wrap=True, overflow="ellipsis"), refresh=True)
            await anyio.sleep(REDRAW_SECONDS)


async def _line_by_line(progress: Callable[[], Progress]) -> None:
    while True:
        await anyio.sleep(LINE_SECONDS)
        tell(line_of(progress()))


def line_of(now: Progress) -> str:
    """One line: done, failed, in flight, rate, time left, tokens."""
    done = f"{now.finished:,}" if now.total is None else f"{now.finished:,}/{now.total:,}"
    parts = [f"done {done}", f"failed {now.failed:,}"]
    if now.retrying:
        parts.append(f"retrying {now.retrying:,}")
    if now.away:
        parts.append(f"in batches {now.away:,} ({now.batches:,})")
    room = f" of {now.concurrency:,}" if now.concurrency else ""
    parts += [f"in flight {now.in_flight:,}{room}", f"{now.rate:.1f}/s"]
    if now.rests_for >= TOLD_REST_SECONDS:
        parts.append(f"resting for {duration(now.rests_for)}")
    if now.eta is not None:
        parts.append(f"ETA {duration(now.eta)}")
    if now.tokens:
        parts.append(f"{now.tokens:,} tokens")
    return "  ".join(parts)
