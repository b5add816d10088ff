"""The comparison over HTTP: which cases, against which paths of the server, and what is made of their figures."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import processes
import wrk
from available import why_not
from jobs import openai_chat, questions, write_job
from servers import Server

Figures = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One way to make the calls. ``share`` of the requests is enough for the slow ones."""

    name: str
    label: str
    loop: str
    share: float = 1.0
    needs: tuple[str, ...] = ()
    """What may not be installed, as in ``available.missing``."""
    backend: str = "aiohttp"
    """The HTTP client underneath: a case is compared with the bare one over the same."""

    @property
    def key(self) -> str:
        return f"{self.name}/{self.loop}"

    @property
    def bare(self) -> str:
        """The key of the bare client it is compared with."""
        return f"{'bare' if self.backend == 'aiohttp' else f'bare_{self.backend}'}/{self.loop}"


@dataclass(frozen=True)
class Cell:
    """Where every case is measured: the server's delay, calls at once, and how many in all."""

    delay_ms: int
    concurrency: int
    requests: int
    cases: tuple[Case, ...]

    @property
    def key(self) -> str:
        return f"{self.delay_ms} ms, {self.concurrency} at once"


_PLAIN = (
    Case("bare", "bare aiohttp", "asyncio"),
    Case("stream", "promptmill, Pipeline.stream", "asyncio"),
    Case("job", "promptmill, promptmill run", "asyncio"),
)
_UV = tuple(Case(one.name, one.label, "uvloop", needs=("uvloop",)) for one in _PLAIN)
_PYREQWEST = (
    Case("bare_pyreqwest", "bare pyreqwest", "uvloop", 1.0, ("uvloop", "pyreqwest"), "pyreqwest"),
    *(
        Case(f"{name}_pyreqwest", label, "uvloop", 1.0, ("uvloop", "pyreqwest", "backend pyreqwest"), "pyreqwest")
        for name, label in (
            ("stream", "promptmill, Pipeline.stream, pyreqwest backend"),
            ("job", "promptmill, promptmill run, pyreqwest backend"),
        )
    ),
)
_ARTICLE = Case("article", "the article's program", "asyncio")
_ARTICLE_WAITING = Case("article", "the article's program", "asyncio", 0.25)
"""It opens 100 connections only, so that many calls of a slow server take it long."""
_SLOW = (
    Case("stream_httpx", "promptmill, Pipeline.stream, httpx backend", "asyncio", 0.1, backend="httpx"),
    Case("openai_sdk", "the official SDK, gather", "asyncio", 0.1, ("openai",), "httpx"),
)
_WRK = Case("wrk", "wrk, the physical limit", "", needs=("wrk",))

_EVERY = (*_UV, *_PYREQWEST, _ARTICLE, _WRK)
_SLOWLY = (*_UV, *_PYREQWEST, _ARTICLE_WAITING, _WRK)
CELLS = (
    Cell(0, 64, 16_000, (*_PLAIN, *_EVERY, *_SLOW)),
    Cell(0, 256, 16_000, (*_PLAIN, *_EVERY, *_SLOW)),
    Cell(0, 1000, 15_000, _EVERY),
    Cell(20, 64, 8_000, _EVERY),
    Cell(20, 256, 12_000, _EVERY),
    Cell(20, 1000, 12_000, _EVERY),
    Cell(200, 64, 3_840, _SLOWLY),
    Cell(200, 256, 3_840, _SLOWLY),
    Cell(200, 1000, 10_000, _SLOWLY),
)


def left_out() -> dict[str, str]:
    """The labels of cases that cannot be run here, and why."""
    cases = {case.label: case for cell in CELLS for case in cell.cases}
    return {label: reason for label, case in cases.items() if (reason := why_not(case.needs))}


class Comparison:
    """Runs cases against one server, clients on one core."""

    def __init__(self, server: Server, core: int | None, prompt: Callable[[int], str]) -> None:
        self._server = server
        self._core = core
        self._prompt = prompt

    def cell(self, cell: Cell, scale: float) -> dict[str, Figures]:
        """Every case of ``cell`` that can be run here once, one after the other, by their keys."""
        found = {case.key: self.case(case, cell, scale) for case in cell.cases if not why_not(case.needs)}
        for case in cell.cases:
            if case.name != "wrk" and case.bare in found and case.key in found:
                found[case.key]["above_bare_us"] = found[case.key]["cpu_us"] - found[case.bare]["cpu_us"]
        return found

    def case(self, case: Case, cell: Cell, scale: float = 1.0) -> Figures:
        requests = max(int(cell.requests * case.share * scale), cell.concurrency)
        if case.name == "wrk":
            url = self._server.url(cell.delay_ms)
            return wrk.measure(url, cell.concurrency, wrk.SECONDS * scale, self._core)
        if case.name.startswith("job"):
            return self._job(case, cell, requests)
        args = {"url": self._server.url(cell.delay_ms), "requests": requests, "concurrency": cell.concurrency}
        words = [word for name, value in (args | {"loop": case.loop}).items() for word in (f"--{name}", value)]
        figures = processes.run(f"case_{case.name}.py", *words, core=self._core)
        return figures | {"cpu_us": 1e6 * figures["cpu_s"] / requests, "rate": requests / figures["wall_s"]}

    def _job(self, case: Case, cell: Cell, requests: int) -> Figures:
        """The job, and the same job with one row: what is left is what the rows cost, checked, sent and stored."""
        one, all_rows = (self._run_job(case, cell, rows) for rows in (1, requests))
        cpu = all_rows["process_cpu_s"] - one["process_cpu_s"]
        return all_rows | {
            "requests": requests,
            "start_up_cpu_s": one["process_cpu_s"],
            "cpu_us": 1e6 * cpu / requests,
            "rate": all_rows["requests_per_s"],
            "wall_s": all_rows["elapsed_s"],
            "p50_s": all_rows["latency_s"]["p50"],
            "p99_s": all_rows["latency_s"]["p99"],
        }

    def _run_job(self, case: Case, cell: Cell, rows: int) -> Figures:
        with tempfile.TemporaryDirectory(prefix="promptmill-bench-", dir=processes.scratch()) as name:
            provider = openai_chat(self._server.url(cell.delay_ms), cell.concurrency, case.backend)
            job = write_job(Path(name), provider, questions(self._prompt, rows))
            figures = processes.run("case_job.py", case.loop, "run", job, "--json", "--quiet", core=self._core)
        if figures["succeeded"] != rows:
            raise processes.CaseFailed(f"{figures['succeeded']} of {rows} requests of the job were answered")
        return figures


def medians(rounds: Sequence[dict[str, Figures]]) -> dict[str, Figures]:
    """The median of every figure over the rounds, and the lowest and highest CPU time a request took."""
    return {key: _median([one[key] for one in rounds]) for key in rounds[0]}


def _median(figures: Sequence[Figures]) -> Figures:
    numbers = {name for name, value in figures[0].items() if isinstance(value, int | float)}
    found: Figures = {name: statistics.median(one[name] for one in figures) for name in sorted(numbers)}
    for name in numbers & {"cpu_us", "above_bare_us"}:
        each = [one[name] for one in figures]
        found |= {f"{name}_lowest": min(each), f"{name}_highest": max(each)}
    return found | {"runs": len(figures)}


_HEAD = (
    "case",
    "loop",
    "CPU us",
    "lowest-highest",
    "above bare us",
    "lowest-highest",
    "requests/s",
    "p50 ms",
    "p99 ms",
    "peak MiB",
)


def table(cell: Cell, found: dict[str, Figures]) -> Iterator[str]:
    """One cell for people. "Above bare": above the bare client over the same backend, in the same round."""
    yield f"server answers after {cell.delay_ms} ms, {cell.concurrency} calls at once"
    rows = [_HEAD]
    for case in cell.cases:
        if (one := found.get(case.key)) is None:
            continue
        above, spread = "", ""
        if one.get("above_bare_us"):
            above = f"{one['above_bare_us']:+,.0f}"
            spread = f"{one['above_bare_us_lowest']:+,.0f}..{one['above_bare_us_highest']:+,.0f}"
        rows.append(
            (
                case.label,
                case.loop,
                f"{one['cpu_us']:,.0f}",
                f"{one['cpu_us_lowest']:,.0f}-{one['cpu_us_highest']:,.0f}",
                above,
                spread,
                f"{one['rate']:,.0f}",
                f"{1000 * one['p50_s']:,.1f}",
                f"{1000 * one['p99_s']:,.1f}",
                f"{one['peak_mib']:.0f}",
            )
        )
    yield from aligned(rows)


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows of cells in columns; the first two to the left."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.ljust(width) if at < 2 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  " + "  ".join(cells).rstrip()
