"""Many rows: memory stays flat, and going on with a run that is nearly done is quick.

The figures are printed; ``pytest -s -m heavy tests/durability/test_soak.py`` runs the whole million.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MEGABYTES = 1024 * 1024

CHILD = """
import anyio, json, resource, sys, time
from pathlib import Path
from promptmill._app import prepare
from promptmill._registry import Registry
from promptmill.errors import AuthFailed
from promptmill.interfaces import Observer, RealtimeProvider
from promptmill.models import Response, Usage
from promptmill.options import ProviderOptions

root, refused = Path(sys.argv[1]), sys.argv[2]
begun = time.monotonic()
first_call = None
samples = {}

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

class Null(RealtimeProvider):
    model = "null"
    async def complete(self, request, *, timeout):
        global first_call
        if first_call is None:
            first_call = time.monotonic() - begun
        await anyio.lowlevel.checkpoint()
        if request.id == refused:
            raise AuthFailed("not this one")
        return Response(text="answer " * 40, usage=Usage(input_tokens=9, output_tokens=40))

class NullOptions(ProviderOptions):
    def build(self, context):
        return Null()

class Sampler(Observer):
    count = 0
    def request_finished(self, result):
        self.count += 1
        if self.count % 10_000 == 0:
            samples[self.count] = resident()

async def main():
    registry = Registry()
    registry.add("provider", "null", NullOptions)
    return await prepare(root / "job.yaml", registry=registry).run(observers=[Sampler()])

outcome = anyio.run(main)
# VmHWM, not ru_maxrss: the latter begins with what the parent used when it started this process.
with open("/proc/self/status") as status:
    peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
print(json.dumps({
    "first_call": first_call, "samples": samples, "peak": peak, "seconds": time.monotonic() - begun,
    "succeeded": outcome.summary.succeeded, "calls": sum(one.attempts for one in outcome.summary.by_provider.values()),
}))
"""


def write_rows(root: Path, count: int) -> None:
    with (root / "in.jsonl").open("w") as file:
        for at in range(count):
            file.write(json.dumps({"id": f"row-{at}", "prompt": f"question {at} " + "x" * 80}) + "\n")
    job = {
        "version": 1,
        "input": {"path": "in.jsonl"},
        "providers": {"a": {"use": "null", "max_concurrency": 64}},
        "output": "out.jsonl",
    }
    (root / "job.yaml").write_text(json.dumps(job))


def run(root: Path, refused: str = "") -> dict[str, Any]:
    """One process at the run. The provider stops it at the row with the id ``refused``."""
    done = subprocess.run([sys.executable, "-c", CHILD, str(root), refused], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def lines_in(path: Path) -> int:
    with path.open("rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(MEGABYTES), b""))


needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.mark.slow
@needs_linux
@pytest.mark.timeout(300)
def test_memory_is_bounded(tmp_path: Path) -> None:
    write_rows(tmp_path, 50_000)
    told = run(tmp_path)
    print(told)  # noqa: T201 - the figures
    assert told["succeeded"] == 50_000
    assert lines_in(tmp_path / "out.jsonl") == 50_000
    assert told["peak"] < 200 * MEGABYTES
    assert told["samples"]["50000"] - told["samples"]["20000"] < 20 * MEGABYTES


@pytest.mark.heavy
@needs_linux
@pytest.mark.timeout(7200)
def test_a_million_rows(tmp_path: Path) -> None:
    write_rows(tmp_path, 1_000_000)
    told = run(tmp_path, refused="row-999999")
    print({**told, "samples": {at: told["samples"][at] for at in ("100000", "500000", "990000")}})  # noqa: T201
    assert told["succeeded"] == 999_999
    assert told["peak"] <= 300 * MEGABYTES
    assert told["samples"]["990000"] - told["samples"]["100000"] < 40 * MEGABYTES
    again = run(tmp_path)
    print(again)  # noqa: T201
    assert again["succeeded"] == 1_000_000
    assert lines_in(tmp_path / "out.jsonl") == 1_000_000
    assert again["first_call"] <= 5.0
    assert again["peak"] <= 300 * MEGABYTES
