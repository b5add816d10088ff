"""Many requests, much waiting, many connections: ``part_million.py [SCALE]``.

* A million rows through ``promptmill run`` with journal and jsonl sink, from a provider that answers by itself: the
  memory of the process at every tenth of them, and at its peak.
* A minute of 600 requests with ``rpm: 600`` and room for 256 at once: the share of a core that waiting takes.
* Room for 5,000 calls at once, to a server of 200 ms, where the core is busy before all of it is used, and to one of
  5 s, where it is not: requests a second, CPU time of each, memory, and the connections that were open at once.

Prints all of it.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import machine
import measuring
import processes
from available import missing
from jobs import LIMITS, openai_chat, questions, write_job
from servers import Server, chat_server

REQUESTS = 1_000_000
MOST_MIB = 300

RPM = 600
WAITING_S = 60
WAITING_AT_ONCE = 256
MOST_SHARE = 0.05

CONNECTIONS = 5_000
CONNECTED_REQUESTS = {200: 25_000, 5000: 10_000}
"""How many in all, by the server's delay."""
LOOK_EVERY_S = 0.25
KEPT_BACK = 100
"""Open files besides the connections."""


def measure(server: Server, core: int | None, scale: float) -> dict[str, Any]:
    """All three; ``scale`` is the share of requests, time and connections."""
    return {
        "million": _million(max(int(REQUESTS * scale), 100), core),
        "waiting": _waiting(server, max(WAITING_S * scale, 1.0), core),
        "connections": {
            str(delay): _connections(server, delay, max(int(CONNECTIONS * scale), 10), int(requests * scale), core)
            for delay, requests in CONNECTED_REQUESTS.items()
        },
    }


def table(found: dict[str, Any]) -> Iterator[str]:
    million, waiting = found["million"], found["waiting"]
    yield (
        f"{million['requests']:,} requests, null provider, journal and jsonl sink: peak {million['peak_mib']:.0f} MiB "
        f"(wanted at most {MOST_MIB}), {million['rate']:,.0f} requests/s, {million['cpu_us']:.0f} us of CPU each"
    )
    yield "  " + ", ".join(f"{one['requests']:,}: {one['rss_mib']:.0f} MiB" for one in million["samples"])
    yield (
        f"waiting for a limit of {RPM} a minute, {waiting['seconds']:.0f} s: {100 * waiting['core_share']:.1f} % of a "
        f"core (wanted less than {100 * MOST_SHARE:.0f})"
    )
    yield from (connected(delay, one) for delay, one in found["connections"].items())


def connected(delay: str, one: dict[str, Any]) -> str:
    """One of the runs with many connections, as a sentence."""
    room = f"Room for {one['connections']:,} calls at once, server answers after {delay} ms"
    if "skipped" in one:
        return f"{room}: not measured, {one['skipped']}."
    opened = f"{one['most_open']:,} connections open at once" if one["most_open"] else "open connections not counted"
    return (
        f"{room}: {opened}, all {one['requests']:,} requests answered, {one['rate']:,.0f} a second, "
        f"{one['cpu_us']:.0f} us of CPU each, {one['peak_mib']:.0f} MiB, half of the calls within "
        f"{1000 * one['latency_s']['p50']:,.0f} ms."
    )


def _million(requests: int, core: int | None) -> dict[str, Any]:
    provider = f"{{use: bench-null, max_concurrency: 256, every: {requests // 10}}}"
    start = _run(provider, 1, core, "case_null_job.py")["process_cpu_s"]
    found = _run(provider, requests, core, "case_null_job.py")
    return {
        "requests": requests,
        "samples": found["samples"],
        "peak_mib": found["peak_mib"],
        "rate": requests / found["process_wall_s"],
        "cpu_us": 1e6 * (found["process_cpu_s"] - start) / requests,
    }


def _waiting(server: Server, seconds: float, core: int | None) -> dict[str, Any]:
    """The CPU time of a job of one row is taken off: starting is not waiting."""
    provider = openai_chat(server.url(200), WAITING_AT_ONCE, limits=f"{{rpm: {RPM}}}")
    start = _run(provider, 1, core)["process_cpu_s"]
    rows = max(int(seconds * RPM / 60), 2)
    found = _run(provider, rows, core)
    used = found["process_cpu_s"] - start
    return {
        "requests": rows,
        "seconds": found["elapsed_s"],
        "cpu_s": used,
        "core_share": used / found["elapsed_s"],
        "cpu_us": 1e6 * used / rows,
    }


def _connections(server: Server, delay: int, connections: int, requests: int, core: int | None) -> dict[str, Any]:
    if (files := machine.allow_open_files()) < connections + KEPT_BACK:
        return {"connections": connections, "skipped": f"this process may open {files:,} files (ulimit -n)"}
    provider = openai_chat(server.url(delay), connections, limits=LIMITS)
    requests = max(requests, connections)
    start = _run(provider, 1, core)["process_cpu_s"]
    with OpenConnections(server.port) as opened:
        found = _run(provider, requests, core)
    return {
        "connections": connections,
        "most_open": opened.most,
        "requests": requests,
        "rate": found["requests_per_s"],
        "cpu_us": 1e6 * (found["process_cpu_s"] - start) / requests,
        "peak_mib": found["peak_mib"],
        "latency_s": found["latency_s"],
    }


class OpenConnections:
    """The most connections of a server that were open at once while in the block; 0 where the system does not tell."""

    def __init__(self, port: int) -> None:
        self.most = 0
        self._ending = f":{port:04X}"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> OpenConnections:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        table = Path("/proc/net/tcp")
        while table.exists() and not self._over.wait(LOOK_EVERY_S):
            rows = (line.split(maxsplit=4) for line in table.read_text("ascii").splitlines()[1:])
            # Of a connection on one machine both ends are in the table: one of them has the server's port as its own.
            ours = sum(1 for row in rows if row[1].endswith(self._ending) and row[3] == "01")
            self.most = max(self.most, ours)


def _run(provider: str, rows: int, core: int | None, script: str = "case_job.py") -> dict[str, Any]:
    """Run a job with all of its rows answered."""
    loop = "asyncio" if missing("uvloop") else "uvloop"
    words = [loop] if script == "case_job.py" else []  # the other takes the loop that is there
    with tempfile.TemporaryDirectory(prefix="promptmill-bench-", dir=processes.scratch()) as name:
        job = write_job(Path(name), provider, questions(measuring.prompt, rows))
        found = processes.run(script, *words, "run", job, "--json", "--quiet", core=core)
        with (Path(name) / "answers.jsonl").open("rb") as file:
            answered = sum(1 for line in file if b'"status":"ok"' in line)
    if answered != rows:
        raise processes.CaseFailed(f"{answered} of {rows} requests of the job were answered")
    return found


if __name__ == "__main__":
    client_core, server_core = machine.cores()
    machine.allow_open_files()
    with chat_server(server_core) as running:
        print(json.dumps(measure(running, client_core, float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)))
