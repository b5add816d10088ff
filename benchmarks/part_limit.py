"""A server with a limit that nobody was told: ``part_limit.py [REQUESTS] [PER_SECOND] [KIND]``.

The same prompts are sent to the simulator three times: by ``promptmill run`` with neither limits nor concurrency in the
job, by a script as it is usually written (a semaphore of 50 and exponential back-off with jitter, 5 tries), and by the
same script when it waits as long as ``Retry-After`` says. The simulator refuses what is over PER_SECOND and does not
tell its limit. Prints for each: the requests without an answer, the calls that were wasted, and the seconds next to
those that are needed at the least, when all of the limit is used from the first moment on.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from typing import Any

import aiohttp
from cli_runs import run_job, simulator

AT_ONCE = 50
TRIES = 5


def main(requests: int, per_second: float, kind: str) -> None:
    found = {
        "ideal_s": max(requests - per_second, 0) / per_second,
        "promptmill": beside(kind, per_second, lambda url: mill(url, requests)),
        "script": beside(kind, per_second, lambda url: asyncio.run(script(url, requests, obeys=False))),
        "script_obeying": beside(kind, per_second, lambda url: asyncio.run(script(url, requests, obeys=True))),
    }
    print(json.dumps(found))


def beside(kind: str, per_second: float, client: Any) -> dict[str, Any]:
    """What ``client`` makes of a server of its own."""
    limits = ["--rpm", str(60 * per_second), "--limit-kind", kind, "--no-limit-headers", "--latency", "200ms"]
    with simulator(*limits) as url:
        return dict(client(url))


def mill(url: str, requests: int) -> dict[str, Any]:
    provider = {"use": "openai-chat", "model": "m", "base_url": url}
    job = {"input": {"path": "rows.jsonl"}, "providers": {"fast": provider}}
    summary = run_job(job, ({"prompt": f"question {at}"} for at in range(requests)))
    fast = summary["by_provider"]["fast"]
    return {
        "lost": requests - summary["succeeded"],
        "wasted": fast["attempts"] - fast["succeeded"],
        "seconds": summary["elapsed_s"],
        "learned": fast["learned_limits"],
    }


async def script(url: str, requests: int, *, obeys: bool) -> dict[str, Any]:
    semaphore = asyncio.Semaphore(AT_ONCE)
    wasted = 0

    async def ask(session: aiohttp.ClientSession, at: int) -> bool:
        nonlocal wasted
        body = {"model": "m", "messages": [{"role": "user", "content": f"question {at}"}]}
        async with semaphore:
            for attempt in range(TRIES):
                async with session.post(url + "/chat/completions", json=body) as response:
                    await response.read()
                    if response.status == 200:
                        return True
                    asked = float(response.headers.get("retry-after-ms", 0)) / 1000
                wasted += 1
                await asyncio.sleep(asked if obeys else random.uniform(0, 0.5 * 2**attempt))
        return False

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE)) as session:
        started = time.perf_counter()
        answered = await asyncio.gather(*(ask(session, at) for at in range(requests)))
    return {"lost": answered.count(False), "wasted": wasted, "seconds": time.perf_counter() - started}


if __name__ == "__main__":
    given = [*sys.argv[1:], *("1000", "100", "second")[len(sys.argv) - 1 :]]
    main(int(given[0]), float(given[1]), given[2])
