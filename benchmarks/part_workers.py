"""What more processes bring: ``part_workers.py [ROWS] [ROUNDS]``, the same job with one process, and with workers.

Everything shares the cores there are: the workers, the process that coordinates them, and the server. So besides the
rate there is the CPU time of a request over all processes of the run, and what it allows: the rate of as many cores as
there are, if the server were elsewhere.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import measuring
import processes
from jobs import openai_chat, questions, write_job
from servers import chat_server

CONCURRENCY = 256
DELAY_MS = 20


def run(url: str, rows: int, workers: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="promptmill-bench-", dir=processes.scratch()) as name:
        job = write_job(Path(name), openai_chat(url, CONCURRENCY), questions(measuring.prompt, rows))
        with job.open("a", encoding="utf-8") as file:
            file.write(f"workers: {workers}\n")
        figures = processes.run("case_job.py", "uvloop", "run", job, "--json", "--quiet")
    if figures["succeeded"] != rows:
        raise SystemExit(f"{figures['succeeded']} of {rows} requests were answered")
    return figures


def main(rows: int, rounds: int) -> None:
    cores = os.cpu_count() or 1
    counts = (1, 2, 3)
    found: dict[int, list[tuple[float, float]]] = {count: [] for count in counts}
    with chat_server(None) as server:
        url = server.url(DELAY_MS)
        for _ in range(rounds):
            for count in counts:
                one, all_rows = run(url, 1, count), run(url, rows, count)
                cpu = (all_rows["process_cpu_s"] - one["process_cpu_s"]) / rows
                found[count].append((1e6 * cpu, all_rows["requests_per_s"]))
    print(f"server: {server.name}, {DELAY_MS} ms; {CONCURRENCY} calls at once; {rows:,} rows; {cores} cores in all")
    base = statistics.median(cpu for cpu, _ in found[1])
    base_rate = statistics.median(rate for _, rate in found[1])
    for count, figures in found.items():
        cpu = statistics.median(cpu for cpu, _ in figures)
        rate = statistics.median(rate for _, rate in figures)
        used = min(count + 1, cores) if count > 1 else 1
        print(
            f"workers: {count}: CPU {cpu:,.0f} us a request ({min(c for c, _ in figures):,.0f}-"
            f"{max(c for c, _ in figures):,.0f}), {rate:,.0f}/s ({rate / base_rate:.2f} times), "
            f"{used} cores allow {used * base / cpu:.2f} times"
        )


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]]
    main(*(numbers + [20_000, 3][len(numbers) :]))
