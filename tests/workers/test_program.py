"""The program with workers: signals, kills, and a limit that all of them share."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found in /proc")

ROWS = 160
CONCURRENCY = 8
PATIENCE = 30.0
KILLS = int(os.environ.get("PROMPTMILL_KILLS", "8"))


def children(pid: int) -> list[int]:
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(one) for one in path.read_text().split()]
    return found


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[Any] | None = None) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.fixture
def running(desk_for: Callable[[str], Any], simulate: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Starts a run with two workers and returns when calls are in flight."""
    started: list[subprocess.Popen[bytes]] = []

    def start(latency: str, rows: int = 500, **simulated: Any) -> tuple[Any, Any, subprocess.Popen[bytes], list[int]]:
        sim = simulate(answers="echo", latency=latency, **simulated)
        desk = desk_for(sim.base_url)
        desk.prompts(rows)
        desk.write(provider={"max_concurrency": CONCURRENCY}, workers=2)
        process = desk.start("run", "job.yaml", "--json")
        started.append(process)
        wait_until(lambda: sim.ledger(0)["in_flight"] == CONCURRENCY, process)
        return desk, sim, process, children(process.pid)

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_signal_to_all_of_them_lets_calls_in_flight_finish(running: Callable[..., Any]) -> None:
    """A terminal sends it to every process of the run."""
    desk, sim, process, workers = running("300ms")
    assert len(workers) == 2
    for pid in (*workers, process.pid):
        os.kill(pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err.decode()
    assert b"Traceback" not in err
    assert json.loads(out)["succeeded"] == len(desk.records()) == sim.ledger(0)["paid_calls"]
    wait_until(lambda: not any(map(runs, workers)))


def test_workers_do_not_outlive_the_process_that_coordinates(running: Callable[..., Any]) -> None:
    _, _, process, workers = running("20s")
    assert len(workers) == 2
    process.kill()
    process.communicate(timeout=30)
    wait_until(lambda: not any(map(runs, workers)))


def test_a_worker_that_is_killed_is_replaced(running: Callable[..., Any]) -> None:
    desk, sim, process, workers = running("50ms", rows=200)
    os.kill(workers[0], signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err.decode()
    assert b"a worker process died (SIGKILL) and is replaced" in err
    assert json.loads(out)["succeeded"] == len(desk.records()) == 200
    assert sim.ledger(0)["paid_calls"] <= 200 + CONCURRENCY


@pytest.mark.slow
@pytest.mark.timeout(60 + 15 * KILLS)
def test_kills_of_any_process_lose_nothing_and_double_nothing(make_world: Any) -> None:
    seed = random.randrange(10**9)
    print(f"seed {seed}, {KILLS} kills")  # noqa: T201 - shown when it fails
    chance = random.Random(seed)
    kills = total = 0
    world = make_world(rows=ROWS, concurrency=CONCURRENCY)
    while total < KILLS:
        world.write_job(workers=chance.choice([2, 3]))
        process = world.start()
        lines = world.lines()
        until = time.monotonic() + PATIENCE
        enough = chance.randrange(1, 60)
        while process.poll() is None and world.lines() < lines + enough and time.monotonic() < until:
            time.sleep(0.002)
        if process.poll() is None:
            victim = chance.choice([process.pid, *children(process.pid)])
            os.kill(victim, signal.SIGKILL)
            kills += 1
            total += 1
            if victim != process.pid:
                time.sleep(chance.uniform(0.0, 0.3))
                process.kill()
                kills += 1
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode in (0, -signal.SIGKILL), err
        world.check_kept()
        if process.returncode == 0:
            world.check_finished(kills)
            world, kills = make_world(rows=ROWS, concurrency=CONCURRENCY), 0
    code, err, _ = world.run()
    assert code == 0, err
    world.check_finished(kills)


@pytest.mark.slow
@pytest.mark.alone
def test_a_limit_that_workers_share_is_kept(desk_for: Callable[[str], Any], simulate: Callable[..., Any]) -> None:
    sim = simulate(latency="100ms", limits={"rpm": 1800, "kind": "second", "headers": False})
    desk = desk_for(sim.base_url)
    desk.prompts(150)
    desk.write(provider={"max_concurrency": 64, "limits": {"rpm": 1800}}, workers=2)
    done = desk.run("run", "job.yaml", "--json")
    assert done.code == 0, done.err
    books = sim.ledger(0)
    assert books["outcomes"]["refused"] == 0
    assert done.summary["elapsed_s"] <= 1.15 * 150 / 30 + 1
    assert books["paid_calls"] == 150


@pytest.mark.heavy
@pytest.mark.timeout(300)
@pytest.mark.skipif(sys.platform == "win32", reason="as above")
def test_a_minute_at_a_shared_limit(desk_for: Callable[[str], Any], simulate: Callable[..., Any]) -> None:
    """In every minute within 3 % of the limit, and never above it."""
    sim = simulate(latency="200ms", limits={"rpm": 6000, "kind": "window", "headers": False})
    desk = desk_for(sim.base_url)
    desk.prompts(13_000)
    desk.write(provider={"max_concurrency": 256, "limits": {"rpm": 6000}}, workers=2)
    process = desk.start("run", "job.yaml", "--json")
    paid = []
    wait_until(lambda: sim.ledger(0)["paid_calls"] > 100, process)
    for _ in range(2):
        before = sim.ledger(0)["paid_calls"]
        time.sleep(60)
        paid.append(sim.ledger(0)["paid_calls"] - before)
    process.communicate(timeout=100)
    print(paid, sim.ledger(0)["outcomes"])  # noqa: T201
    assert all(0.97 * 6000 <= one <= 1.03 * 6000 for one in paid), paid
    assert sim.ledger(0)["outcomes"]["refused"] == 0
