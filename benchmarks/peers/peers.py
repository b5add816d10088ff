"""``make bench-peers``: other ways to push many prompts through an API, each in an environment of its own.

The same server, prompts and concurrency as ``make bench``, with bare aiohttp and promptmill in the same rounds. Builds
``.bench-peers/NAME`` for each peer; one that cannot be installed, or does not get its answers, is reported as such.
Writes one JSON, or adds to that of ``make bench`` with ``--into``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import chart
import compare
import http_cases
import machine
import measuring
import processes
from available import why_not
from servers import Server, chat_server

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parents[1] / ".bench-peers"
STARTED_IN = Path.cwd()


@dataclass(frozen=True)
class Peer:
    """A way to make the calls, of others. ``whole``: what counts is the process, less one with a single request."""

    name: str
    label: str
    packages: tuple[str, ...]
    requests: int
    whole: bool = False


PEERS = (
    Peer("openai", "AsyncOpenAI, gather", ("openai==3.57.0",), 2_000),
    Peer("openai_aiohttp", "AsyncOpenAI over aiohttp, gather", ("openai[aiohttp]==3.57.0",), 3_000),
    Peer("litellm", "litellm acompletion, gather", ("litellm==1.110.2",), 1_500),
    Peer("lm_deluge", "lm-deluge", ("lm-deluge==0.0.168",), 10_000),
    Peer("curator", "bespokelabs-curator", ("bespokelabs-curator==0.1.31",), 3_000, True),
)
OURS = ("bare/uvloop", "stream/uvloop", "job/uvloop", "bare_pyreqwest/uvloop", "stream_pyreqwest/uvloop")
OURS += ("job_pyreqwest/uvloop",)
CELLS = ((0, 64), (200, 256))
OURS_REQUESTS = 10_000
INSTALL_TIMEOUT_S = 900


def main() -> int:
    asked = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # or the server would outlive us
    described = machine.described()
    compare.show(machine.lines(described))
    wanted = [peer for peer in PEERS if not asked.only or peer.name in asked.only]
    left_out = {peer.name: reason for peer in wanted if (reason := _installed(peer))}
    there = [peer for peer in wanted if peer.name not in left_out]
    found: dict[str, Any] = {"machine": described, "when": compare.now(), "scale": asked.scale}
    found["versions"] = {peer.name: _versions(peer) for peer in there}
    client_core, server_core = machine.cores()
    with chat_server(server_core) as server:
        rounds = Rounds(server, client_core, there, asked.scale, left_out)
        rounds.warm_up()
        found["rounds"] = {
            f"{delay} ms, {calls} at once": rounds.of(delay, calls, asked.rounds) for delay, calls in CELLS
        }
        found["server"] = server.name
    found["http"] = {key: _medians(all_) for key, all_ in found["rounds"].items()}
    found |= {"left_out": left_out, "labels": LABELS, "load_average_after": machine.load()}
    compare.show(table(found))
    if asked.into and asked.into.exists():
        found = json.loads(asked.into.read_text("utf-8")) | {"peers": found}
    compare.write(found, asked.into)
    return 0


class Rounds:
    """Runs every peer, bare aiohttp and promptmill in turns."""

    def __init__(
        self, server: Server, core: int | None, peers: list[Peer], scale: float, left_out: dict[str, str]
    ) -> None:
        self._server = server
        self._core = core
        self._peers = peers
        self._scale = scale
        self._left_out = left_out
        self._ours = http_cases.Comparison(server, core, measuring.prompt)

    def warm_up(self) -> None:
        """Not counted: the first run of each compiles what it imports."""
        for peer in self._peers:
            self._tried(peer, lambda peer=peer: self._run(peer, 0, 1, 1))

    def of(self, delay: int, calls: int, rounds: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        known = {case.key: case for one in http_cases.CELLS for case in one.cases}
        cases = tuple(known[key] for key in OURS if not why_not(known[key].needs))
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}: {delay} ms, {calls} at once", file=sys.stderr)
            found.append(self._ours.cell(http_cases.Cell(delay, calls, OURS_REQUESTS, cases), self._scale))
            for peer in self._peers:
                figures = self._tried(peer, lambda peer=peer: self._peer(peer, delay, calls))
                found[-1] |= {peer.name: figures} if figures else {}
        for one in found:  # a peer that failed once has no median
            for name in self._left_out:
                one.pop(name, None)
        return found

    def _tried(self, peer: Peer, run: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        if peer.name in self._left_out:
            return None
        try:
            return run()
        except (processes.CaseFailed, ValueError) as error:  # ValueError: what it printed last is no JSON
            self._left_out[peer.name] = f"it did not get its answers: {str(error).strip()[-600:]}"
            return None

    def _peer(self, peer: Peer, delay: int, calls: int) -> dict[str, Any]:
        requests = max(int(peer.requests * self._scale), calls)
        found = self._run(peer, delay, calls, requests)
        if not peer.whole:
            return found | {"cpu_us": 1e6 * found["cpu_s"] / requests, "rate": requests / found["wall_s"]}
        one = self._run(peer, delay, calls, 1)
        cpu, wall = (found[name] - one[name] for name in ("process_cpu_s", "process_wall_s"))
        return found | {"cpu_us": 1e6 * cpu / requests, "rate": requests / max(wall, 0.001)}

    def _run(self, peer: Peer, delay: int, calls: int, requests: int) -> dict[str, Any]:
        asked = {"url": self._server.url(delay), "requests": requests, "concurrency": calls, "loop": "uvloop"}
        words = [str(word) for name, value in asked.items() for word in (f"--{name}", value)]
        with tempfile.TemporaryDirectory(dir=processes.scratch()) as home:
            # A home of its own: some keep caches there, and the second round must not find those of the first.
            env = {"PYTHONPATH": str(HERE.parent), "HOME": home}
            script = str(HERE / f"case_{peer.name}.py")
            return processes.run_command([str(_python(peer)), script, *words], core=self._core, env=env)


LABELS = {key: chart.LABELS[key.partition("/")[0]] for key in OURS} | {peer.name: peer.label for peer in PEERS}


def table(found: dict[str, Any]) -> Iterator[str]:
    for key, cell in found["http"].items():
        yield f"\n{key}"
        rows = [("client", "", "CPU us", "lowest-highest", "requests/s", "peak MiB")]
        rows += [
            (
                LABELS[name],
                "",
                f"{one['cpu_us']:,.0f}",
                f"{one['cpu_us_lowest']:,.0f}-{one['cpu_us_highest']:,.0f}",
                f"{one['rate']:,.0f}",
                f"{one['peak_mib']:.0f}",
            )
            for name, one in cell.items()
        ]
        yield from http_cases.aligned(rows)
    yield from (f"left out: {name}: {reason}" for name, reason in found["left_out"].items())


def _medians(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    found = {}
    for key in rounds[0]:
        each = [one[key]["cpu_us"] for one in rounds]
        found[key] = {name: statistics.median(one[key][name] for one in rounds) for name in ("rate", "peak_mib")}
        found[key] |= {"cpu_us": statistics.median(each), "cpu_us_lowest": min(each), "cpu_us_highest": max(each)}
    return found


def _python(peer: Peer) -> Path:
    return ENVIRONMENTS / peer.name / "bin" / "python"


def _installed(peer: Peer) -> str | None:
    """Build the environment of ``peer`` unless it is there; why it cannot be."""
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    folder = ENVIRONMENTS / peer.name
    stamp = folder / "installed.txt"
    packages = [*peer.packages, "uvloop==0.23.0"]
    if stamp.exists() and stamp.read_text("utf-8").split() == packages:
        return None
    print(f"installing {' '.join(packages)}", file=sys.stderr)
    if uv:
        steps = [[uv, "venv", "-q", "--clear", "--python", sys.executable, str(folder)]]
        steps += [[uv, "pip", "install", "-q", "--python", str(_python(peer)), *packages]]
    else:
        steps = [[sys.executable, "-m", "venv", "--clear", str(folder)]]
        steps += [[str(_python(peer)), "-m", "pip", "install", "-q", *packages]]
    for step in steps:
        try:
            done = subprocess.run(step, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            return f"it was not installed within {INSTALL_TIMEOUT_S} s"
        if done.returncode:
            return f"it cannot be installed: {done.stderr.strip()[-600:]}"
    stamp.write_text(" ".join(packages), encoding="utf-8")
    return None


def _versions(peer: Peer) -> dict[str, str]:
    """All that is installed beside it."""
    code = "import json; from importlib.metadata import distributions as d\n"
    code += "print(json.dumps({one.metadata['Name']: one.version for one in d()}))"
    done = subprocess.run([str(_python(peer)), "-c", code], capture_output=True, text=True, check=True)
    return dict(sorted(json.loads(done.stdout).items()))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how often each case is run (default 3)")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the requests to make")
    parser.add_argument("--only", choices=[peer.name for peer in PEERS], action="append", help="may be repeated")
    parser.add_argument(
        "--into",
        type=lambda word: STARTED_IN / word,
        help="where to write the figures; added to those of `make bench` there",
    )
    return parser.parse_args()


if __name__ == "__main__":
    os.chdir(HERE.parent)
    sys.exit(main())
