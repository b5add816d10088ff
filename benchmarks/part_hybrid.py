"""Urgent questions while batches come and go: ``part_hybrid.py ROWS SECONDS [URGENT]``.

The same urgent questions (by default a fifth of ROWS) are asked twice through the command line, spread over SECONDS:
alone, and beside the other rows in batches, which are written, uploaded, downloaded and taken in meanwhile. Give as
many SECONDS as the batches take (``batches_s``), or most of the calls see nothing of them. Prints the 95 % latency of
both, that of the calls alone, their ratio, and what the batches saved. The server is the simulator, in a process of its
own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from processes import scratch

PROGRAM = [sys.executable, "-c", "from promptmill.cli.main import main; main()"]
QUESTIONS = Path(__file__).parents[1] / "examples" / "gsm8k" / "questions.jsonl"


def main(rows: int, seconds: float, urgent: int) -> None:
    texts = [json.loads(line)["question"] for line in QUESTIONS.read_text("utf-8").split("\n")[:-1]]
    server = subprocess.Popen(
        [*PROGRAM, "simulate", "--port", "0", "--latency", "200ms", "--speed", "2000"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        alone = run(address, texts, urgent, 0, seconds)
        beside = run(address, texts, urgent, rows - urgent, seconds)
    finally:
        server.terminate()
        server.wait()
    p95 = [one["by_provider"]["fast"]["latency_s"]["p95"] for one in (alone, beside)]
    print(
        json.dumps(
            {
                "alone_p95_s": p95[0],
                "beside_p95_s": p95[1],
                "ratio": p95[1] / p95[0],
                "saved_share": beside["saved_usd"] / beside["cost_all_realtime_usd"],
                "batches_s": beside["by_provider"]["bulk"]["latency_s"]["p99"],
                "elapsed_s": beside["elapsed_s"],
            }
        )
    )


def run(address: str, texts: list[str], urgent: int, long: int, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=scratch()) as name:
        folder = Path(name)
        with (folder / "rows.jsonl").open("w", encoding="utf-8") as file:
            for at in range(urgent + long):
                kind = "urgent" if at < urgent else "bulk"
                file.write(json.dumps({"q": f"{at}: {texts[at % len(texts)]}", "kind": kind}) + "\n")
        priced = {"model": "gpt-5-mini", "base_url": address, "price": {"vendor": "openai"}}
        job = {
            "version": 1,
            "input": {"path": "rows.jsonl", "prompt": "{{ q }}", "priority": "{{ kind }}"},
            "params": {"max_tokens": 256},
            "providers": {
                "fast": {"use": "openai-chat", "max_concurrency": 64, "limits": {"rps": urgent / seconds}, **priced},
                "bulk": {"use": "openai-batch", "poll_interval": "500ms", "batch_requests": 5000, **priced},
            },
            "routes": [{"when": {"priority": "urgent"}, "to": "fast"}, {"to": "bulk"}],
            "output": "answers.jsonl",
        }
        (folder / "job.json").write_text(json.dumps(job))
        command = [*PROGRAM, "run", "job.json", "--json", "-q"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(done.stderr)
        return dict(json.loads(done.stdout))


if __name__ == "__main__":
    wanted = int(sys.argv[1])
    main(wanted, float(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else wanted // 5)
