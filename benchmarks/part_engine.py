"""What the engine costs a request without a network: ``part_engine.py MODE LOOP REQUESTS``.

Modes: ``run`` (nothing takes the results), ``stream`` (the caller does), ``limits`` (paced as well), ``jsonl`` (into a
synced file), ``journal`` (into a journal). Requests come from a generator, so that memory holds no list of them.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import measuring
from null_provider import NullOptions, NullProvider
from processes import scratch

from promptmill import Message, Pipeline, Request
from promptmill._entries import entries_of
from promptmill._journal import Journal
from promptmill.clock import SystemClock
from promptmill.options import Limits
from promptmill.pipeline import RunPlan
from promptmill.sinks.jsonl import JsonlSink

CONCURRENCY = 256


def requests(count: int) -> Iterator[Request]:
    params = {"temperature": 0, "max_tokens": measuring.MAX_TOKENS}
    for number in range(count):
        yield Request(id=str(number), messages=(Message("user", measuring.prompt(number)),), params=params)


async def main(mode: str, count: int, folder: Path) -> None:
    limits = Limits(rpm=1e9, tpm=1e12) if mode == "limits" else Limits()
    sinks = [JsonlSink(folder / "answers.jsonl")] if mode == "jsonl" else []
    pipeline = Pipeline({"null": NullOptions(max_concurrency=CONCURRENCY, limits=limits)}, sinks=sinks)
    await Pipeline({"null": NullProvider(None)}).gather(["a first request, for what is imported late"])
    stopwatch = measuring.Stopwatch()
    if mode == "stream":
        finished = 0
        async for _ in pipeline.stream(requests(count)):
            finished += 1
    elif mode == "journal":
        async with Journal(folder, SystemClock()) as journal, pipeline.prepare(RunPlan(journal=journal)) as run:
            await run.mill(entries_of(requests(count)))
            finished = run.summary().succeeded
    else:
        finished = (await pipeline.run(requests(count))).succeeded
    wall, cpu = stopwatch.read()
    if finished != count:
        raise SystemExit(f"{finished} of {count} requests were answered")
    print(json.dumps({"each_us": 1e6 * cpu / count, "rate": count / wall}))


if __name__ == "__main__":
    factory = None
    if sys.argv[2] == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with tempfile.TemporaryDirectory(dir=scratch()) as name, asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main(sys.argv[1], int(sys.argv[3]), Path(name)))
