"""What a row costs on its way in and out: ``part_rows.py MODE ROWS``.

Modes: ``jsonl`` and ``csv`` (reading), ``column`` and ``template`` (making requests of rows), ``check`` (all that is
done with the input before the first call), ``sink`` (writing a jsonl file in groups of 64, synced every 5,000).
"""

from __future__ import annotations

import asyncio
import csv
import json
import sys
import tempfile
from pathlib import Path

import measuring
from jobs import questions, write_job
from processes import scratch

from promptmill._app import prepare
from promptmill._template import InputTemplate
from promptmill.interfaces import Source
from promptmill.models import Request, Result, Row, Usage
from promptmill.options import BuildContext
from promptmill.sinks.jsonl import JsonlSink
from promptmill.sources.csv import CsvSourceOptions
from promptmill.sources.jsonl import JsonlSourceOptions

GROUP = 64
SYNC_EVERY = 5000
TEMPLATES = {"column": "{{ question }}", "template": "Row {{ id }}: {{ question | trim }}\nAnswer in one sentence."}


async def main(mode: str, count: int, folder: Path) -> int:
    match mode:
        case "jsonl" | "csv":
            return await _read(_source(mode, count, folder))
        case "check":
            job = write_job(folder, "{use: openai-chat, model: none, base_url: 'http://127.0.0.1:9/v1'}", _lines(count))
            return await _timed_check(job)
        case "sink":
            return await _write(count, folder)
        case _:
            return _render(TEMPLATES[mode], count)


def _lines(count: int) -> list[str]:
    return list(questions(measuring.prompt, count))


def _source(mode: str, count: int, folder: Path) -> Source:
    path = folder / f"questions.{mode}"
    if mode == "jsonl":
        path.write_text("".join(_lines(count)), encoding="utf-8")
        return JsonlSourceOptions(path=str(path)).build(BuildContext(name="bench"))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "question"])
        writer.writerows((f"q{number}", measuring.prompt(number)) for number in range(count))
    return CsvSourceOptions(path=str(path)).build(BuildContext(name="bench"))


async def _read(source: Source) -> int:
    with Timed() as timed:
        async with source:
            async for group in source.rows():
                timed.rows += len(group)
    return timed.rows


async def _timed_check(job: Path) -> int:
    prepared = prepare(job)
    with Timed() as timed:
        timed.rows = (await prepared.check()).rows
    return timed.rows


async def _write(count: int, folder: Path) -> int:
    usage = Usage(input_tokens=120, cached_tokens=0, output_tokens=45, reasoning_tokens=0)
    group = [
        Result(id=f"q{at}", index=at, status="ok", text="The answer is forty-two. " * 8, attempts=1, usage=usage)
        for at in range(GROUP)
    ]
    with Timed() as timed:
        async with JsonlSink(folder / "answers.jsonl") as sink:
            await sink.start(None)
            while timed.rows < count:
                await sink.write(group)
                timed.rows += GROUP
                if timed.rows % SYNC_EVERY < GROUP:
                    await sink.commit()
            await sink.commit()
    return timed.rows


def _render(template: str, count: int) -> int:
    made = InputTemplate(prompt=template, id="id", params={"temperature": 0})
    rows = [Row({"id": f"q{number}", "question": measuring.prompt(number)}) for number in range(count)]
    with Timed() as timed:
        for index, row in enumerate(rows):
            timed.rows += isinstance(made.request_of(row, index), Request)
    return timed.rows


class Timed:
    """Prints what a row took in the block."""

    def __init__(self) -> None:
        self.rows = 0

    def __enter__(self) -> Timed:
        self._stopwatch = measuring.Stopwatch()
        return self

    def __exit__(self, *_: object) -> None:
        wall, cpu = self._stopwatch.read()
        print(json.dumps({"each_us": 1e6 * cpu / max(self.rows, 1), "rate": self.rows / wall}))


if __name__ == "__main__":
    wanted = int(sys.argv[2])
    with tempfile.TemporaryDirectory(dir=scratch()) as name:
        done = asyncio.run(main(sys.argv[1], wanted, Path(name)))
    if done < wanted:
        raise SystemExit(f"{done} of {wanted} rows")
