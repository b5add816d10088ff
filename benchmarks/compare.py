"""``make bench``: compare promptmill with bare clients and the article's program, then measure its parts and what it
claims of latency, memory and start-up.

Prints the machine, the versions and tables, and writes every figure of every round to one JSON file.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import claim
import http_cases
import machine
import measuring
import part_latency
import part_million
import part_startup
import part_workers
import parts
from processes import CaseFailed
from servers import Server, chat_server

HERE = Path(__file__).parent
SECTIONS = ("http", "parts", "latency", "startup", "million", "workers")


def main() -> int:
    asked = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # or the server would outlive us
    started = time.perf_counter()
    described = machine.described()
    show(machine.lines(described))
    machine.allow_open_files()
    found: dict[str, Any] = {"machine": described, "when": now(), "scale": asked.scale}
    try:
        _measure(asked, found)
    except CaseFailed as failure:
        # What was measured before is kept, but nobody should take it for a whole run.
        found["failed"] = str(failure)
        print(f"failed: {failure}", file=sys.stderr)
    found |= {"load_average_after": machine.load(), "took_s": round(time.perf_counter() - started)}
    write(found, asked.into)
    return 1 if "failed" in found else 0


def _measure(asked: argparse.Namespace, found: dict[str, Any]) -> None:
    """Put the figures of every section asked for into ``found``."""
    client_core, server_core = machine.cores()
    sections = asked.only or SECTIONS
    with chat_server(server_core) as server:
        place = f"clients on core {client_core}, server on core {server_core}"
        print(f"server: {server.name}; {place if client_core is not None else 'processes are not pinned'}")
        found |= {"server": server.name, "pinned": client_core is not None}
        if "http" in sections:
            _compare(server, client_core, asked, found)
        if "latency" in sections:
            _say("latency")
            found["latency"] = part_latency.measure(server, client_core, part_latency.SECONDS * asked.scale)
            show(["", *part_latency.table(found["latency"])])
        if "million" in sections:
            _say("million")
            found["million"] = part_million.measure(server, client_core, asked.scale)
            show(["", *part_million.table(found["million"])])
    if "startup" in sections:
        _say("startup")
        found["startup"] = part_startup.measure(client_core, max(round(part_startup.TIMES * asked.scale), 1))
        show(["", *part_startup.table(found["startup"])])
    if "workers" in sections:
        _say("workers")
        found["workers"] = part_workers.measure(max(int(part_workers.ROWS * asked.scale), 500), asked.rounds)
        show(["", *part_workers.table(found["workers"])])
    if "parts" in sections:
        found["parts"] = parts.measure(client_core, asked.rounds, asked.scale)
        show(["", *parts.table(found["parts"])])


def _compare(server: Server, core: int | None, asked: argparse.Namespace, found: dict[str, Any]) -> None:
    runs = http_cases.Comparison(server, core, measuring.prompt)
    found["left_out"] = http_cases.left_out()
    show(f"left out: {label}: {reason}" for label, reason in found["left_out"].items())
    found["rounds"] = cells = {cell.key: [] for cell in http_cases.CELLS}
    runs.cell(http_cases.CELLS[0], 0.0)  # not counted: it compiles what is imported
    for number in range(asked.rounds):
        for cell in http_cases.CELLS:
            _say(f"round {number + 1} of {asked.rounds}: {cell.key}")
            cells[cell.key].append(runs.cell(cell, asked.scale))
    found["http"] = {key: http_cases.medians(all_) for key, all_ in cells.items()}
    for cell in http_cases.CELLS:
        show(["", *http_cases.table(cell, found["http"][cell.key])])
    found["claim"] = claim.measure(runs, asked.rounds)
    show(["", *claim.table(found["claim"])])


def show(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, flush=True)


def _say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr)


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def write(found: dict[str, Any], into: Path | None) -> None:
    path = into or HERE / "results" / f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"\nevery figure of every round: {path}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how often each case is run (default 3)")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the requests to make, e.g. 0.1 for a look")
    parser.add_argument("--only", choices=SECTIONS, action="append", help="leave the others out; may be repeated")
    parser.add_argument("--into", type=Path, help="where to write the figures")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
