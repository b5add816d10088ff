"""How a run goes, on stderr: a live line on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import Final

import anyio

from promptmill._binding import Binding
from promptmill._run import Progress
from promptmill.cli.terminal import duration, tell

REDRAW_SECONDS: Final = 0.2
LINE_SECONDS: Final = 30.0
TOLD_REST_SECONDS: Final = 5.0


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
    parts += _reasons(now)
    if now.eta is not None:
        parts.append(f"ETA {duration(now.eta)}")
    if now.tokens:
        parts.append(f"{now.tokens:,} tokens")
    return "  ".join(parts)


def _reasons(now: Progress) -> Iterator[str]:
    """Why no more calls are made: whenever none is in flight, and else where it is more than our own concurrency."""
    rests = {name for name, one in now.bindings.items() if one.what == "rest"}
    if now.rests_for >= TOLD_REST_SECONDS and not rests:
        yield f"resting for {duration(now.rests_for)}"
    for name, one in now.bindings.items():
        text = _reason(one)
        passing = one.what in ("concurrency", "retries", "input") or (one.seconds or 0.0) < TOLD_REST_SECONDS
        if text and (not now.in_flight or one.what in ("limit", "cap") or not passing):
            yield text if len(now.bindings) == 1 else f"{name}: {text}"


def _reason(one: Binding) -> str:
    wait = "" if one.seconds is None else f" for {duration(one.seconds)}"
    found = "" if one.certainty in (None, "told") else " found" if one.certainty == "sure" else " found, not sure"
    match one.what:
        case "rest":
            return f"resting{wait}"
        case "limit":
            return f"at {one.value:,.0f} {one.name}{found}" if one.value else "at a limit"
        case "cap":
            return f"at {one.value:,.0f} in flight{found}" if one.value else "at a cap"
        case "retries":
            return f"waiting to retry{wait}"
        case "input":
            return "waiting for input"
        case "budget":
            return "waiting for money set aside"
        case _:
            return ""
