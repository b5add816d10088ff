"""What every case has in common: its arguments, its prompts, its event loop, and what it prints at its end."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

MODEL = "bench-model"
MAX_TOKENS = 256

_QUESTION = (
    "Please read the following report carefully and answer in one short sentence: the machines in the north hall were "
    "stopped on Tuesday for repairs, the spare parts came on Thursday, and work began again on Friday afternoon after "
    "two tests had failed and a third had passed. Who would have to be told about the delay, how long did it last, and "
    "what could be done so that spare parts are there before they are needed the next time? "
)


@dataclass(frozen=True)
class Task:
    """What a case is asked to do."""

    url: str
    requests: int
    concurrency: int
    loop: str

    def prompts(self) -> list[str]:
        return [prompt(number) for number in range(self.requests)]


class Stopwatch:
    """Wall time and CPU time of the whole process, all threads."""

    def __init__(self) -> None:
        self._wall = time.perf_counter()
        self._cpu = time.process_time()

    def read(self) -> tuple[float, float]:
        return time.perf_counter() - self._wall, time.process_time() - self._cpu


def prompt(number: int) -> str:
    """About 500 bytes, no two alike."""
    return f"Case {number}. {_QUESTION}"


def body_of(text: str) -> dict[str, Any]:
    """The request body that all cases send: about 600 bytes of JSON."""
    messages = [{"role": "user", "content": text}]
    return {"messages": messages, "temperature": 0, "max_tokens": MAX_TOKENS, "model": MODEL}


def task(words: Sequence[str] | None = None) -> Task:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True, help="base URL, as in http://127.0.0.1:8000/v1")
    parser.add_argument("--requests", type=int, required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), required=True)
    return Task(**vars(parser.parse_args(words)))


def run(main: Callable[[Task], Coroutine[Any, Any, None]], words: Sequence[str] | None = None) -> None:
    """Run a case in the event loop it is asked to use. ``words`` are its arguments, if not those of the process."""
    asked = task(words)
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if asked.loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main(asked))


def report(stopwatch: Stopwatch, latencies: Sequence[float], expected: int) -> None:
    """Print the figures as JSON. A case that did not get every answer measured something else: it fails."""
    wall, cpu = stopwatch.read()
    if len(latencies) != expected:
        raise SystemExit(f"{len(latencies)} of {expected} requests were answered")
    ordered = sorted(latencies)
    figures = {"requests": expected, "wall_s": wall, "cpu_s": cpu}
    shares = {"p50_s": 0.50, "p99_s": 0.99}
    print(json.dumps(figures | {name: ordered[int(share * (expected - 1))] for name, share in shares.items()}))
