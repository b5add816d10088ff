"""Resuming: ``part_resume.py fill|resume JOB ROWS``.

``fill`` runs a job with the null provider until one request is left; ``resume`` is the process that does the last one.
It prints the seconds from the start of the program to the last call's answer, and to the end.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

STARTED = time.perf_counter()


async def main(step: str, job: Path, rows: int) -> None:
    from null_provider import NullOptions

    from promptmill._app import prepare
    from promptmill._registry import Registry
    from promptmill.interfaces import Observer
    from promptmill.models import Result

    class Watch(Observer):
        first: float | None = None

        def request_finished(self, result: Result) -> None:
            del result
            self.first = self.first or time.perf_counter() - STARTED

    registry = Registry()
    registry.add("provider", "bench-null", NullOptions)
    watch = Watch()
    outcome = await prepare(job, registry=registry).run(observers=[watch])
    finished = outcome.summary.succeeded
    if finished != rows - (step == "fill") or watch.first is None:
        raise SystemExit(f"{finished} of {rows} requests were answered: {outcome.stopped}")
    end = time.perf_counter() - STARTED
    print(json.dumps({"first_answer_s": watch.first, "end_s": end, "run_s": outcome.summary.elapsed_s}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
