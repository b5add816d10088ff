"""``wrk``, a client in C that keeps nothing and parses no JSON: what the machine allows at most."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import machine
import measuring
import processes

SECONDS = 3


def measure(url: str, concurrency: int, seconds: float, core: int | None) -> dict[str, Any]:
    """Ask for ``seconds`` with so many connections. Raises CaseFailed when a request was not answered."""
    program = machine.program("wrk")
    assert program is not None
    script = Path(__file__).with_name("post.lua")
    with tempfile.TemporaryDirectory() as name:
        body = Path(name) / "body.json"
        body.write_text(json.dumps(measuring.body_of(measuring.prompt(0))), encoding="utf-8")
        length = f"-d{max(round(seconds), 1)}s"
        command = [program, "-t1", f"-c{concurrency}", length, "--timeout", "30s", "-s", str(script)]
        found = processes.run_command([*command, f"{url}/chat/completions", "--", str(body)], core=core)
    if found["errors"] or not found["requests"]:
        raise processes.CaseFailed(f"wrk: {found['errors']} of {found['requests']} requests failed")
    each = 1e6 * found["process_cpu_s"] / found["requests"]
    return found | {"cpu_us": each, "rate": found["requests"] / found["wall_s"]}
