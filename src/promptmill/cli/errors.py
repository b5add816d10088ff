"""Errors in the shape people can act on: what, where, what to do, and whether anything was sent."""

from __future__ import annotations

import unicodedata

from promptmill.cli.terminal import safe, tell
from promptmill.errors import Location, Problem, PromptmillError, UsageError

MOST_SHOWN = 20

MARGIN = "    "

SHOWN_BEFORE = 80
"""Characters of the user's line shown before the place in question."""

SHOWN_BEHIND = 80


def show(error: PromptmillError) -> None:
    """Print every problem of ``error`` on stderr."""
    for problem in error.problems[:MOST_SHOWN]:
        for line in lines_of(problem):
            tell(line)
    if len(error.problems) > MOST_SHOWN:
        tell(f"... and {len(error.problems) - MOST_SHOWN} more")
    if error.calls_made:
        tell("what was answered before is kept: the same command goes on from there.")
    elif isinstance(error, UsageError):
        tell("nothing was sent; no cost.")


def lines_of(problem: Problem) -> list[str]:
    """One problem as lines, rustc's way: a line that stands alone, the user's own source, help, note."""
    # Only what begins with our own margin is a line of its own; any other newline came with foreign text.
    first, *further = problem.message.split(f"\n{MARGIN}")
    lines = [f"error[{problem.code}]: {first}", *(MARGIN + line for line in further)]
    where = problem.location
    gutter = " " * len(str(where.line)) if where and where.line else " "
    if where:
        lines.append(f"{gutter}--> {where}")
        lines += _window(where, gutter)
    if problem.hint:
        lines.append(f"{gutter} = help: {problem.hint}")
    if problem.note:
        lines.append(f"{gutter} = note: {problem.note}")
    return lines


def _window(where: Location, gutter: str) -> list[str]:
    if where.source is None or where.line is None or where.column is None:
        return []
    at = where.column - 1
    first = max(at - SHOWN_BEFORE, 0)
    last = at + SHOWN_BEHIND
    shown_before = ("..." if first else "") + safe(where.source[first:at])
    target = safe(where.source[at : min(at + where.length, last)])
    rest = safe(where.source[at + where.length : last]) + ("..." if last < len(where.source) else "")
    # A tab stays one, so that the caret stays below its target however wide the terminal makes it.
    margin = "".join("\t" if char == "\t" else " " * _columns(char) for char in shown_before)
    carets = "^" * max(sum(_columns(char) for char in target), 1)
    return [
        f"{gutter} |",
        f"{where.line} | {shown_before}{target}{rest}",
        f"{gutter} | {margin}{carets}",
    ]


def _columns(char: str) -> int:
    """How many columns of a terminal a character takes."""
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
