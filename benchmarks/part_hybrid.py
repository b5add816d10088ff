"""Urgent questions while batches come and go: ``part_hybrid.py ROWS SECONDS [URGENT]``.

The same urgent questions (by default a fifth of ROWS) are asked twice through the command line, spread over SECONDS:
alone, and beside the other rows in batches, which are written, uploaded, downloaded and taken in meanwhile. Give as
many SECONDS as the batches take (``batches_s``), or most of the calls see nothing of them. Prints the 95 % latency of
both, that of the calls alone, their ratio, and what the batches saved. The server is the simulator, in a process of its
own.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from cli_runs import run_job, simulator

QUESTIONS = Path(__file__).parents[1] / "examples" / "gsm8k" / "questions.jsonl"


def main(rows: int, seconds: float, urgent: int) -> None:
    texts = [json.loads(line)["question"] for line in QUESTIONS.read_text("utf-8").split("\n")[:-1]]
    with simulator("--latency", "200ms", "--speed", "2000") as address:
        alone = run(address, texts, urgent, 0, seconds)
        beside = run(address, texts, urgent, rows - urgent, seconds)
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
    rows = (
        {"q": f"{at}: {texts[at % len(texts)]}", "kind": "urgent" if at < urgent else "bulk"}
        for at in range(urgent + long)
    )
    priced = {"model": "gpt-5-mini", "base_url": address, "price": {"vendor": "openai"}}
    job = {
        "input": {"path": "rows.jsonl", "prompt": "{{ q }}", "priority": "{{ kind }}"},
        "params": {"max_tokens": 256},
        "providers": {
            "fast": {"use": "openai-chat", "max_concurrency": 64, "limits": {"rps": urgent / seconds}, **priced},
            "bulk": {"use": "openai-batch", "poll_interval": "500ms", "batch_requests": 5000, **priced},
        },
        "routes": [{"when": {"priority": "urgent"}, "to": "fast"}, {"to": "bulk"}],
    }
    return run_job(job, rows)


if __name__ == "__main__":
    wanted = int(sys.argv[1])
    main(wanted, float(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else wanted // 5)
