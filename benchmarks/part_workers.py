"""What more processes bring: ``part_workers.py [ROWS] [ROUNDS]``, the same job with one process, and with workers.

Everything shares the cores there are: the workers, the process that coordinates them, and the server. So besides the
rate there is the CPU time of a request over all processes of the run, that of the server, and what the rate would be if
the server were elsewhere: with as much CPU time for the run as both of them had.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import machine
import measuring
import processes
from jobs import openai_chat, questions, write_job
from servers import chat_server

ROWS = 60_000
ROUNDS = 3
COUNTS = (1, 2)
CONCURRENCY = 512
DELAY_MS = 20
TARGET = 1.8


def measure(rows: int, rounds: int) -> dict[str, Any]:
    """CPU time of a request in microseconds, and requests a second, by the number of workers."""
    found: dict[int, dict[str, list[float]]] = {
        count: {"cpu_us": [], "server_us": [], "rate": [], "elsewhere": []} for count in COUNTS
    }
    with chat_server(None) as server:
        url = server.url(DELAY_MS)
        for _ in range(rounds):
            for count, figures in found.items():
                one = _run(url, 1, count)
                before = machine.cpu_seconds(server.pid)
                all_rows = _run(url, rows, count)
                served = machine.cpu_seconds(server.pid) - before
                cpu = all_rows["process_cpu_s"] - one["process_cpu_s"]
                figures["cpu_us"].append(1e6 * cpu / rows)
                figures["server_us"].append(1e6 * served / rows)
                figures["rate"].append(all_rows["requests_per_s"])
                # One process has no use for the core that the server is on.
                share = (cpu + served) / cpu if count > 1 else 1.0
                figures["elsewhere"].append(all_rows["requests_per_s"] * share)
    medians = {count: {name: statistics.median(all_) for name, all_ in one.items()} for count, one in found.items()}
    alone = medians[1]["rate"]
    for one in medians.values():
        one |= {"times": one["rate"] / alone, "times_elsewhere": one["elsewhere"] / alone}
    return {
        "rows": rows,
        "cores": os.cpu_count() or 1,
        "server": server.name,
        "rounds": {str(count): one for count, one in found.items()},
        "workers": {str(count): one for count, one in medians.items()},
    }


def table(found: dict[str, Any]) -> Iterator[str]:
    yield f"workers: {found['rows']:,} rows, server of {DELAY_MS} ms, {CONCURRENCY} at once, {found['cores']} cores"
    for count, one in found["workers"].items():
        yield (
            f"  {count}: {one['cpu_us']:,.0f} us a request ({one['server_us']:,.0f} of the server's), "
            f"{one['rate']:,.0f}/s ({one['times']:.2f} times); {one['elsewhere']:,.0f}/s "
            f"({one['times_elsewhere']:.2f} times) if the server were elsewhere"
        )


def _run(url: str, rows: int, workers: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="promptmill-bench-", dir=processes.scratch()) as name:
        job = write_job(Path(name), openai_chat(url, CONCURRENCY), questions(measuring.prompt, rows))
        with job.open("a", encoding="utf-8") as file:
            file.write(f"workers: {workers}\n")
        figures = processes.run("case_job.py", "uvloop", "run", job, "--json", "--quiet")
    if figures["succeeded"] != rows:
        raise processes.CaseFailed(f"{figures['succeeded']} of {rows} requests were answered")
    return figures


if __name__ == "__main__":
    machine.allow_open_files()
    numbers = [int(word) for word in sys.argv[1:]]
    for line in table(measure(*(numbers + [ROWS, ROUNDS][len(numbers) :]))):
        print(line)
