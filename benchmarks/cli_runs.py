"""Runs of the command line against the simulator, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from processes import scratch

PROGRAM = [sys.executable, "-c", "from promptmill.cli.main import main; main()"]


@contextmanager
def simulator(*options: str) -> Iterator[str]:
    """Its base URL, while it runs."""
    command = [*PROGRAM, "simulate", "--port", "0", *options]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
    finally:
        server.terminate()
        server.wait()


def run_job(job: dict[str, Any], rows: Iterable[dict[str, str]]) -> dict[str, Any]:
    """The summary of a job that reads ``rows.jsonl``. Ends the benchmark when the job fails."""
    with tempfile.TemporaryDirectory(dir=scratch()) as name:
        folder = Path(name)
        with (folder / "rows.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        (folder / "job.json").write_text(json.dumps({"version": 1, "output": "answers.jsonl", **job}))
        command = [*PROGRAM, "run", "job.json", "--json", "-q"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(done.stderr)
        return dict(json.loads(done.stdout))
