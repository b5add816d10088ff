"""``promptmill run`` with a provider that answers by itself: ``case_null_job.py run job.yaml --json --quiet``.

Prints, besides the summary of the run, how much memory the process had each time that ``every`` further calls, an
option of the provider, had been made.
"""

from __future__ import annotations

import json
import resource
import time
from functools import partial
from pathlib import Path

from null_provider import NullOptions, NullProvider

from promptmill import _app
from promptmill._registry import Registry
from promptmill.cli.main import main
from promptmill.models import Request, Response
from promptmill.options import BuildContext

SAMPLES: list[dict[str, float]] = []
STARTED = time.perf_counter()


def resident_mib() -> float:
    """What is in memory now; the most there ever was where that is not told."""
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * resource.getpagesize() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # in bytes on macOS


class CountingProvider(NullProvider):
    """Looks at the memory now and then."""

    def __init__(self, every: int) -> None:
        super().__init__(None)
        self._every = every
        self._calls = 0

    async def complete(self, request: Request, *, timeout: float) -> Response:
        self._calls += 1
        if self._calls % self._every == 0:
            taken = time.perf_counter() - STARTED
            SAMPLES.append({"requests": self._calls, "rss_mib": round(resident_mib(), 1), "seconds": round(taken, 2)})
        return await super().complete(request, timeout=timeout)


class CountingOptions(NullOptions):
    every: int

    def build(self, context: BuildContext) -> CountingProvider:
        del context
        return CountingProvider(self.every)


if __name__ == "__main__":
    registry = Registry()
    registry.add("provider", "bench-null", CountingOptions)
    _app.prepare = partial(_app.prepare, registry=registry)
    try:
        main()
    except SystemExit as ended:
        if ended.code:
            raise
    print(json.dumps({"samples": SAMPLES}))
