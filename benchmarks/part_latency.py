"""What promptmill adds to the latency of a call: ``part_latency.py [SECONDS]``.

Against a server of 20 ms and one of 200 ms: first the most requests a second that ``promptmill run`` makes of one core,
then SECONDS (10) of half of that, as a limit of the job. ``case_paced.py`` asks the same server at the same rate in the
same run: what it sees is taken for the server's own latency. Prints both, and the difference of their p50 and p99.
The latency of a call is that of its record (``latency_s``): from when it is sent to when its answer is read.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import machine
import measuring
import processes
from available import missing
from jobs import LIMITS, openai_chat, questions, write_job
from servers import Server, chat_server

SECONDS = 10.0
CONCURRENCY = {20: 256, 200: 1000}
"""Enough for the core to be what limits the rate, by the server's delay."""
CAPACITY_SECONDS = 3.0
GUESSED_RATE = 3000
TARGET_P50_MS = 1.0
TARGET_P99_MS = 10.0


def measure(server: Server, core: int | None, seconds: float) -> dict[str, Any]:
    """For each delay, by its milliseconds."""
    return {str(delay): _at(server, delay, core, seconds) for delay in CONCURRENCY}


def table(found: dict[str, Any]) -> Iterator[str]:
    yield "latency added to a server's own, at half of what one core can do"
    for delay, one in found.items():
        added = one["added_ms"]
        yield (
            f"  {delay} ms, {one['rate']:,.0f} of {one['capacity']:,.0f} requests/s: p50 {added['p50']:+.2f} ms, "
            f"p99 {added['p99']:+.2f} ms (wanted at most {TARGET_P50_MS:g} and {TARGET_P99_MS:g})"
        )


def _at(server: Server, delay: int, core: int | None, seconds: float) -> dict[str, Any]:
    concurrency = CONCURRENCY[delay]
    url = server.url(delay)
    loop = "asyncio" if missing("uvloop") else "uvloop"
    rows = max(int(GUESSED_RATE * min(CAPACITY_SECONDS, seconds)), 2 * concurrency)
    capacity, _ = _job(url, concurrency, rows, LIMITS, loop, core)
    rate = capacity / 2
    rows = max(int(rate * seconds), 100)
    limits = f"{{rpm: {60 * rate:.0f}}}"
    achieved, latencies = _job(url, concurrency, rows, limits, loop, core)
    asked = {"url": url, "requests": rows, "concurrency": concurrency, "loop": loop, "rate": achieved}
    words = [word for name, value in asked.items() for word in (f"--{name}", value)]
    alone = processes.run("case_paced.py", *words, core=core)
    ours = {name: 1000 * _share(latencies, share) for name, share in (("p50", 0.5), ("p99", 0.99))}
    theirs = {name: 1000 * alone[f"{name}_s"] for name in ours}
    return {
        "capacity": capacity,
        "rate": achieved,
        "requests": rows,
        "concurrency": concurrency,
        "promptmill_ms": ours,
        "server_ms": theirs,
        "added_ms": {name: ours[name] - theirs[name] for name in ours},
        "highest_ms": 1000 * latencies[-1],
    }


def _job(url: str, concurrency: int, rows: int, limits: str, loop: str, core: int | None) -> tuple[float, list[float]]:
    """Requests a second, and the latencies of all in order of their length."""
    with tempfile.TemporaryDirectory(prefix="promptmill-bench-", dir=processes.scratch()) as name:
        folder = Path(name)
        job = write_job(folder, openai_chat(url, concurrency, limits=limits), questions(measuring.prompt, rows))
        done = processes.run("case_job.py", loop, "run", job, "--json", "--quiet", core=core)
        with (folder / "answers.jsonl").open(encoding="utf-8") as file:
            latencies = sorted(json.loads(line)["latency_s"] for line in file)
    if done["succeeded"] != rows or len(latencies) != rows:
        raise processes.CaseFailed(f"{done['succeeded']} of {rows} requests of the job were answered")
    return float(done["requests_per_s"]), latencies


def _share(ordered: list[float], share: float) -> float:
    return ordered[int(share * (len(ordered) - 1))]


if __name__ == "__main__":
    client_core, server_core = machine.cores()
    with chat_server(server_core) as running:
        print(json.dumps(measure(running, client_core, float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS)))
