"""The parts alone, each in a fresh process: the engine without a network, sources, templates, sink, journal, resume.

``python benchmarks/parts.py`` prints them; ``--rows`` sets the size of the resume. Memory: ``part_million.py``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import machine
import measuring
import processes
from http_cases import aligned
from jobs import questions, write_job

Figures = dict[str, Any]

ENGINE = {
    "run": "engine alone",
    "stream": "engine and Pipeline.stream",
    "limits": "engine with two limits",
    "jsonl": "engine with a jsonl sink, synced",
    "journal": "engine with a journal",
}
ROWS = {
    "jsonl": "reading jsonl",
    "csv": "reading csv",
    "column": "template of one column",
    "template": "template of two columns and a filter",
    "check": "checking a job's input",
    "sink": "writing jsonl, synced every 5,000",
}
SHARD = {
    "build": "writing a shard of a batch",
    "write-json": "the same lines, read and written with json",
    "collect": "taking in the results of a batch",
    "read-json": "the same results, read with json",
}
SHARD_ROWS = 50_000
ENGINE_REQUESTS = 50_000
ROW_COUNT = 100_000
LOOPS = ("asyncio", "uvloop")

RESUME_ROWS = 100_000


def measure(core: int | None, rounds: int, scale: float, resume_rows: int = RESUME_ROWS) -> Figures:
    """Every part ``rounds`` times, interleaved; resume once."""
    found: dict[str, list[Figures]] = {}
    for number in range(rounds):
        print(f"parts: round {number + 1} of {rounds}", file=sys.stderr)
        for mode in ENGINE:
            for loop in LOOPS:
                figures = processes.run("part_engine.py", mode, loop, int(ENGINE_REQUESTS * scale), core=core)
                found.setdefault(f"engine/{mode}/{loop}", []).append(figures)
        for mode in ROWS:
            figures = processes.run("part_rows.py", mode, int(ROW_COUNT * scale), core=core)
            found.setdefault(f"rows/{mode}", []).append(figures)
        for mode in SHARD:
            figures = processes.run("part_shard.py", mode, int(SHARD_ROWS * scale), core=core)
            found.setdefault(f"shard/{mode}", []).append(figures)
    return {
        "rounds": found,
        "each_us": {key: statistics.median(one["each_us"] for one in all_) for key, all_ in found.items()},
        "rate": {key: statistics.median(one["rate"] for one in all_) for key, all_ in found.items()},
        "resume": _resume(core, int(resume_rows * scale)),
    }


def table(found: Figures) -> Iterator[str]:
    yield "parts, without a network: microseconds of CPU for each request or row"
    rows = [("part", "loop", "CPU us", "a second")]
    for mode, label in ENGINE.items():
        for loop in LOOPS:
            key = f"engine/{mode}/{loop}"
            rows.append((label, loop, f"{found['each_us'][key]:.1f}", f"{found['rate'][key]:,.0f}"))
    for mode, label in ROWS.items():
        key = f"rows/{mode}"
        rows.append((label, "", f"{found['each_us'][key]:.1f}", f"{found['rate'][key]:,.0f}"))
    for mode, label in SHARD.items():
        key = f"shard/{mode}"
        rows.append((label, "", f"{found['each_us'][key]:.1f}", f"{found['rate'][key]:,.0f}"))
    yield from aligned(rows)
    yield ""
    resume = found["resume"]
    yield (
        f"resuming a run of {resume['rows']:,} rows with one left: {resume['first_answer_s']:.2f} s from the start "
        f"of the process to the answer of that one, {resume['end_s']:.2f} s to its end, {resume['peak_mib']:.0f} MiB"
    )
    yield (
        f"the run before it, null provider, journal and jsonl sink: {resume['fill_rate']:,.0f} requests/s, "
        f"{resume['fill_cpu_us']:.0f} us of CPU each, start and check included, {resume['fill_peak_mib']:.0f} MiB"
    )


def _resume(core: int | None, rows: int) -> Figures:
    with tempfile.TemporaryDirectory(prefix="promptmill-bench-", dir=processes.scratch()) as name:
        provider = "{use: bench-null, max_concurrency: 256, last: LAST}"
        job = write_job(Path(name), provider, questions(measuring.prompt, rows))
        text = job.read_text(encoding="utf-8")
        job.write_text(text.replace("last: LAST", f"last: q{rows - 1}"), encoding="utf-8")
        filled = processes.run("part_resume.py", "fill", job, rows, core=core)
        job.write_text(text.replace("last: LAST", "last: none"), encoding="utf-8")
        resumed = processes.run("part_resume.py", "resume", job, rows, core=core)
    return resumed | {
        "rows": rows,
        "fill_rate": (rows - 1) / filled["run_s"],
        "fill_cpu_us": 1e6 * filled["process_cpu_s"] / rows,
        "fill_peak_mib": filled["peak_mib"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="The parts of promptmill alone.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the requests to make")
    parser.add_argument("--rows", type=int, default=RESUME_ROWS, help="rows of the run that is resumed")
    asked = parser.parse_args()
    for line in table(measure(machine.cores()[0], asked.rounds, asked.scale, asked.rows)):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
