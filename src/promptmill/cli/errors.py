"""Errors in the shape people can act on: what, where, what to do, and whether anything was sent."""

from __future__ import annotations

from promptmill.cli.terminal import safe, tell
from promptmill.errors import Location, Problem, PromptmillError, UsageError

MOST_SHOWN = 20


def show(error: PromptmillError) -> None:
    """Print every problem of ``error`` on stderr."""
    for problem in error.problems[:MOST_SHOWN]:
        for line in lines_of(problem):
            tell(line)
    if len(error.problems) > MOST_SHOWN:
        tell(f"... and {len(error.problems) - MOST_SHOWN} more")
    if isinstance(error, UsageError):
        tell("nothing was sent; no cost.")


def lines_of(problem: Problem) -> list[str]:
    """One problem as lines, rustc's way: a line that stands alone, the user's own source, help, note."""
    lines = [f"error[{problem.code}]: {problem.message}"]
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
    # Columns count characters of the line as it is; a tab stays one so that the caret stays below its target.
    source = safe(where.source)
    margin = "".join("\t" if char == "\t" else " " for char in where.source[: where.column - 1])
    return [
        f"{gutter} |",
        f"{where.line} | {source}",
        f"{gutter} | {margin}{'^' * where.length}",
    ]
