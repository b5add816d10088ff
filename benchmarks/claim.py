"""The article's claim: a hundred calls of 200 ms, one at a time and all at once."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

from available import why_not
from http_cases import Case, Cell, Comparison, aligned

_AT_ONCE = (
    Case("article", "the article's program", "asyncio"),
    Case("stream", "promptmill, Pipeline.stream", "uvloop", needs=("uvloop",)),
    Case("job", "promptmill, promptmill run (run phase)", "uvloop", needs=("uvloop",)),
)
_REQUESTS = 100


def measure(comparison: Comparison, rounds: int) -> dict[str, Any]:
    """Seconds of the run phase: the sequential program once, the others ``rounds`` times each."""
    one_by_one = comparison.case(_AT_ONCE[0], Cell(200, 1, _REQUESTS, ()))
    cases = [case for case in _AT_ONCE if not why_not(case.needs)]
    found: dict[str, list[float]] = {case.key: [] for case in cases}
    for _ in range(rounds):
        for case in cases:
            found[case.key].append(comparison.case(case, Cell(200, _REQUESTS, _REQUESTS, ()))["wall_s"])
    return {
        "one_by_one_s": one_by_one["wall_s"],
        "at_once_s": {key: statistics.median(all_) for key, all_ in found.items()},
        "rounds": found,
    }


def table(found: dict[str, Any]) -> Iterator[str]:
    yield f"{_REQUESTS} calls of 200 ms"
    rows = [("case", "loop", "seconds", "times as fast")]
    rows.append(("one by one", "asyncio", f"{found['one_by_one_s']:.2f}", "1"))
    for case in _AT_ONCE:
        if (seconds := found["at_once_s"].get(case.key)) is None:
            continue
        rows.append((case.label, case.loop, f"{seconds:.3f}", f"{found['one_by_one_s'] / seconds:.0f}"))
    yield from aligned(rows)
