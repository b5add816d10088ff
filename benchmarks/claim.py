"""The article's claim: a hundred calls of 200 ms, one at a time and all at once."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

from http_cases import Case, Cell, Comparison, aligned

_AT_ONCE = (
    Case("article", "the article's program", "asyncio"),
    Case("stream", "promptmill, Pipeline.stream", "uvloop"),
    Case("job", "promptmill, promptmill run (run phase)", "uvloop"),
)
_REQUESTS = 100


def measure(comparison: Comparison, rounds: int) -> dict[str, Any]:
    """Seconds of the run phase: the sequential program once, the others ``rounds`` times each."""
    one_by_one = comparison.case(_AT_ONCE[0], Cell(200, 1, _REQUESTS, ()))
    found: dict[str, list[float]] = {case.key: [] for case in _AT_ONCE}
    for _ in range(rounds):
        for case in _AT_ONCE:
            found[case.key].append(comparison.case(case, Cell(200, _REQUESTS, _REQUESTS, ()))["wall_s"])
    return {
        "one_by_one_s": one_by_one["wall_s"],
        "at_once_s": {key: statistics.median(all_) for key, all_ in found.items()},
    }


def table(found: dict[str, Any]) -> Iterator[str]:
    yield f"{_REQUESTS} calls of 200 ms"
    rows = [("case", "loop", "seconds", "times as fast")]
    rows.append(("one by one", "asyncio", f"{found['one_by_one_s']:.2f}", "1"))
    for case in _AT_ONCE:
        seconds = found["at_once_s"][case.key]
        rows.append((case.label, case.loop, f"{seconds:.3f}", f"{found['one_by_one_s'] / seconds:.0f}"))
    yield from aligned(rows)
