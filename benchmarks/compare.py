"""``make bench``: compare promptmill with a bare client and the article's program, then measure its parts.

Prints the machine, the versions and tables, and writes every figure of every round to a JSON file.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import claim
import http_cases
import machine
import measuring
import parts
from servers import chat_server

HERE = Path(__file__).parent


def main() -> int:
    asked = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # or the server would outlive us
    described = machine.described()
    for line in machine.lines(described):
        print(line)
    client_core, server_core = machine.cores()
    found: dict[str, Any] = {"machine": described, "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    if not asked.only_parts:
        with chat_server(server_core) as server:
            place = f"clients on core {client_core}, server on core {server_core}"
            print(f"server: {server.name}; {place if client_core is not None else 'processes are not pinned'}")
            found |= {"server": server.name, "pinned": client_core is not None}
            runs = http_cases.Comparison(server, client_core, measuring.prompt)
            found |= _compared(runs, asked.rounds, asked.scale)
    if not asked.only_http:
        print()
        found["parts"] = parts.measure(client_core, asked.rounds, asked.scale)
        for line in parts.table(found["parts"]):
            print(line)
    path = asked.into or HERE / "results" / f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"\nevery figure of every round: {path}")
    return 0


def _compared(runs: http_cases.Comparison, rounds: int, scale: float) -> dict[str, Any]:
    cells: dict[str, list[Any]] = {cell.key: [] for cell in http_cases.CELLS}
    runs.cell(http_cases.CELLS[0], 0.0)  # not counted: it compiles what is imported
    for number in range(rounds):
        for cell in http_cases.CELLS:
            print(f"round {number + 1} of {rounds}: {cell.key}", file=sys.stderr)
            cells[cell.key].append(runs.cell(cell, scale))
    claimed = claim.measure(runs, rounds)
    medians = {}
    for cell in http_cases.CELLS:
        medians[cell.key] = http_cases.medians(cells[cell.key])
        print()
        for line in http_cases.table(cell, medians[cell.key]):
            print(line)
    print()
    for line in claim.table(claimed):
        print(line)
    return {"http": medians, "claim": claimed, "rounds": cells}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how often each case is run (default 3)")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the requests to make, e.g. 0.1 for a look")
    parser.add_argument("--only-http", action="store_true", help="leave the parts out")
    parser.add_argument("--only-parts", action="store_true", help="leave the comparison over HTTP out")
    parser.add_argument("--into", type=Path, help="where to write the figures")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
