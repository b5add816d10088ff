"""Real SIGKILLs of the real program, against a server that keeps its own books.

What the number of kills proves: without a failure in n kills, a failure happens in less than 3/n of them, with 95 %
confidence, for kills like these. 24 kills bound it to 12.5 %, 200 (``make kills``) to 1.5 %. The crash states that are
enumerated in ``test_crash_states.py`` and ``test_nth_operation.py`` prove more; this proves that they look at the right
program.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

KILLS = int(os.environ.get("PROMPTMILL_KILLS", "24"))
PATIENCE = 60.0

ROWS = 160
CONCURRENCY = 8

Aim = Callable[[random.Random, Any, Callable[[], bool]], None]


def anywhere(chance: random.Random, world: Any, alive: Callable[[], bool]) -> None:
    """From the first instruction on."""
    until = time.monotonic() + chance.uniform(0.0, 2.2)
    while alive() and time.monotonic() < until:
        time.sleep(0.002)


def while_writing(chance: random.Random, world: Any, alive: Callable[[], bool]) -> None:
    """Within 20 ms of a change of a file: the tail, the database or an output."""
    before = sizes(world)
    changes = chance.randrange(1, 40)
    while alive() and changes:
        time.sleep(0.001)
        now = sizes(world)
        changes -= now != before
        before = now
    time.sleep(chance.uniform(0.0, 0.02))


def while_resuming(chance: random.Random, world: Any, alive: Callable[[], bool]) -> None:
    """From the moment the lock is taken: opening the journal, taking in the tail, starting the sinks."""
    owner = world.state / "lock.owner"
    before = stamp(owner)
    while alive() and stamp(owner) == before:
        time.sleep(0.0005)
    time.sleep(chance.uniform(0.0, 0.15))


def while_closing(chance: random.Random, world: Any, alive: Callable[[], bool]) -> None:
    """In the last moments: the last groups, the last commits of the sinks, closing."""
    while alive() and world.lines() < world.rows - 2 * world.concurrency:
        time.sleep(0.001)
    time.sleep(chance.uniform(0.0, 0.12))


AIMS: list[Aim] = [while_writing, while_writing, anywhere, while_resuming, while_closing, anywhere]


def sizes(world: Any) -> list[int]:
    found = []
    for path in [*world.state.glob("run/*"), *world.outputs]:
        try:
            found.append(path.stat().st_size)
        except FileNotFoundError:
            found.append(-1)
    return found


def stamp(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def killed(world: Any, aim: Aim, chance: random.Random) -> bool:
    """Start the program and kill it when ``aim`` says so. False when it was quicker."""
    process: subprocess.Popen[str] = world.start(env={**os.environ, "PROMPTMILL_DEBUG": "1"})
    deadline = time.monotonic() + PATIENCE
    aim(chance, world, lambda: process.poll() is None and time.monotonic() < deadline)
    done = process.poll() is not None
    process.kill()
    _, err = process.communicate()
    assert not done or process.returncode == 0, err
    return not done


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL on Windows")
@pytest.mark.timeout(60 + 15 * KILLS)
def test_kills_lose_nothing_and_double_nothing(make_world: Any) -> None:
    seed = random.randrange(10**9)
    print(f"seed {seed}, {KILLS} kills")  # noqa: T201 - shown when it fails
    chance = random.Random(seed)
    total = 0
    while total < KILLS:
        world = make_world(rows=ROWS, concurrency=CONCURRENCY, order=chance.choice(["completion", "input"]))
        kills = 0
        while total < KILLS and killed(world, AIMS[total % len(AIMS)], chance):
            kills += 1
            total += 1
            world.check_kept()
        code, err, _ = world.run()
        assert code == 0, err
        world.check_finished(kills)


ANSWERING = """
import os, time
from promptmill.errors import Permanent

def answer(request):
    log = os.open("calls", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, request.id.encode() + b"\\n")
    os.close(log)
    time.sleep(0.004)
    if int(request.id[1:]) % 3 == 0 and not os.path.exists("mended"):
        raise Permanent("not yet")
    return "fine"
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL on Windows")
@pytest.mark.timeout(180)
@pytest.mark.parametrize("order", ["completion", "input"])
def test_kills_while_failed_rows_are_sent_again(make_world: Any, order: str) -> None:
    """All sinks start over then: each ends with one record for each row, and no good answer is paid again."""
    slots = 4
    world = make_world(rows=150, concurrency=slots, order=order)
    (world.root / "answering.py").write_text(ANSWERING)
    provider = {"use": "python", "target": "answering:answer", "slots": slots}
    world.write_job(providers={"a": provider}, input={"path": "prompts.jsonl"})
    assert world.run("--allow-code")[0] == 1
    failed = {record["id"] for record in world.records() if record["status"] == "failed"}
    assert len(failed) == 50
    (world.root / "calls").unlink()
    (world.root / "mended").touch()
    chance = random.Random(3)
    kills = 0
    for aim in (while_resuming, while_writing, while_writing, while_resuming):
        process = world.start("--allow-code", *(["--retry-failed"] if kills % 2 == 0 else []))
        aim(chance, world, lambda process=process: process.poll() is None)
        kills += process.poll() is None
        process.kill()
        process.communicate()
    code, err, summary = world.run("--allow-code", "--retry-failed")
    assert code == 0, err
    assert summary["succeeded"] == 150
    calls = (world.root / "calls").read_text().split()
    assert set(calls) == failed
    assert len(calls) - len(failed) <= kills * slots
    records = world.records()
    assert sorted(record["id"] for record in records) == sorted(f"r{at}" for at in range(150))
    assert all(record["status"] == "ok" for record in records)
    assert world.outputs[1].read_bytes().count(b"\n") == 151
    if order == "input":
        assert [record["index"] for record in records] == list(range(150))
