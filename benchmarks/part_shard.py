"""What a row of a batch costs: ``part_shard.py MODE ROWS``.

Modes: ``build`` (requests to a sealed shard: lines for the provider and the requests behind them, synced), ``collect``
(lines of results to outcomes, joined with the requests), and what they are compared with on the same bytes:
``write-json`` and ``read-json`` (plain lines with the standard library). Memory is that of the whole process.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path

import measuring
from processes import scratch

from promptmill import jsontext
from promptmill._batching import Filling, Harvest, Item, OpenShard, wire_id
from promptmill.clock import SystemClock
from promptmill.models import Message, Request
from promptmill.options import BuildContext
from promptmill_openai.batch import OpenAIBatch, OpenAIBatchOptions

GROUP = 500
TAG = "bench"
ANSWER = "The answer is forty-two, since the loaves cost three euros each and fourteen were sold. " * 4


def provider() -> OpenAIBatch:
    given = {"model": "m", "base_url": "http://127.0.0.1:9/v1"}
    return OpenAIBatchOptions.model_validate(given).build(BuildContext(name="bench"))


def items(start: int, count: int) -> list[Item]:
    """Requests with some 500 bytes of text each, made GROUP at a time so that memory shows what a shard takes."""
    params = {"max_tokens": 256, "temperature": 0}
    return [
        Item(Request(id=f"q{at}", index=at, messages=(Message("user", measuring.prompt(at)),), params=params), ("b",))
        for at in range(start, start + count)
    ]


def build(folder: Path, count: int) -> OpenShard:
    filling = Filling(folder, provider(), lambda: TAG, lambda _: None)
    for start in range(0, count, GROUP):
        group = items(start, min(GROUP, count - start))
        full, refused = filling.add(group, 0.0)
        if full or refused:
            raise SystemExit("the rows do not fit into one shard")
    (shard,) = filling.seal(0.0, 0.0)
    return shard


def results(folder: Path, count: int) -> Path:
    path = folder / "results.jsonl"
    with path.open("wb") as file:
        for at in range(count):
            message = {"role": "assistant", "content": ANSWER, "refusal": None}
            usage = {"prompt_tokens": 120, "completion_tokens": 80, "total_tokens": 200}
            choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
            body = {"id": f"c{at}", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}
            response = {"status_code": 200, "request_id": f"r{at}", "body": body}
            line = {"id": f"b{at}", "custom_id": wire_id(TAG, at), "response": response, "error": None}
            file.write(jsontext.encode(line) + b"\n")
    return path


async def collect(shard: OpenShard, path: Path) -> int:
    harvest = Harvest(provider(), shard.shard, "completed", SystemClock())
    return sum([len(group) async for group in harvest.outcomes([path])])


def main(mode: str, count: int, folder: Path) -> None:
    prepared = build(folder, count) if mode in ("collect", "write-json") else None
    source = results(folder, count) if mode in ("collect", "read-json") else None
    stopwatch = measuring.Stopwatch()
    if mode == "build":
        size = build(folder, count).shard.bytes
    elif mode == "write-json":
        assert prepared is not None
        size = prepared.shard.bytes
        write_json(prepared.shard.path, folder / "plain.jsonl")
    else:
        assert source is not None
        size = source.stat().st_size
        done = read_json(source) if prepared is None else asyncio.run(collect(prepared, source))
        if done != count:
            raise SystemExit(f"{done} of {count} rows")
    wall, cpu = stopwatch.read()
    print(json.dumps({"each_us": 1e6 * cpu / count, "rate": count / wall, "mb_per_s": size / wall / 1e6}))


def write_json(source: Path, target: Path) -> None:
    """The same lines, as a program of ten lines would write them; reading them first is not left out."""
    with source.open("rb") as lines, target.open("w", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(json.loads(line)) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_json(path: Path) -> int:
    found = {}
    with path.open(encoding="utf-8") as file:
        for line in file:
            value = json.loads(line)
            found[value["custom_id"]] = value["response"]["body"]["choices"][0]["message"]["content"]
    return len(found)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=scratch()) as name:
        main(sys.argv[1], int(sys.argv[2]), Path(name))
