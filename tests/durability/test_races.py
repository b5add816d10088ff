"""Several processes after one run: one has it, the others say who, and call nobody."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import anyio
import pytest

from promptmill._cursors import CommitOrder
from promptmill._journal import Journal
from promptmill._projection import Projection
from promptmill.clock import SystemClock
from promptmill.errors import RunLocked
from promptmill.sinks.jsonl import JsonlSink
from promptmill.testing.records import request, result

RACES = 40
RACERS = 2


def race(root: str, start: Barrier, told: Any) -> None:
    """Try for the run again and again, each time together with the others."""

    async def once(directory: Path) -> str:
        try:
            async with Journal(directory, SystemClock()):
                start.wait(30)  # the others have had their answer by now
                return ""
        except RunLocked as error:
            start.wait(30)
            return error.message

    for number in range(RACES):
        start.wait(30)
        message = anyio.run(once, Path(root) / f"run-{number % 3}")
        told.put((number, os.getpid(), message))
        start.wait(30)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_of_two_that_start_together_one_has_the_run(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start, told = context.Barrier(RACERS), context.Queue()
    racers = [context.Process(target=race, args=(str(tmp_path), start, told)) for _ in range(RACERS)]
    for one in racers:
        one.start()
    answers: dict[int, list[tuple[int, str]]] = {}
    for _ in range(RACES * RACERS):
        number, pid, message = told.get(timeout=60)
        answers.setdefault(number, []).append((pid, message))
    for one in racers:
        one.join(30)
    for number, both in answers.items():
        winners = [pid for pid, message in both if not message]
        assert len(winners) == 1, (number, both)
        losers = [message for _, message in both if message]
        assert all(f"process {winners[0]} on " in message for message in losers), (number, both)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.timeout(120)
def test_a_second_program_is_sent_away(make_world: Any) -> None:
    world = make_world(rows=400, concurrency=2)
    first = world.start()
    wait_for(lambda: world.lines() > 5)
    code, err, _ = world.run()
    assert code == 7, err
    message = rf"the run is in the hands of process {first.pid} on \S+, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC"
    assert re.search(message, err), err
    assert "nothing was sent" in err
    _, err = first.communicate(timeout=60)
    assert first.returncode == 0, err
    world.check_finished(kills=0)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.timeout(120)
def test_a_stopped_owner_keeps_its_outputs_from_others(make_world: Any) -> None:
    """Its lock file is gone, but it lives and could write: nobody else may, and it finds out when it wakes."""
    world = make_world(rows=400, concurrency=2)
    first = world.start()
    wait_for(lambda: world.lines() > 5)
    first.send_signal(signal.SIGSTOP)
    (world.state / "lock").unlink()
    requests = world.books.ledger()["requests"]
    code, err, _ = world.run()
    assert code == 7, err
    assert "error[E0702]" in err
    assert "is being written by" in err
    assert world.books.ledger()["requests"] - requests <= 2, "what the first one had in flight"
    first.send_signal(signal.SIGCONT)
    _, err = first.communicate(timeout=60)
    assert first.returncode == 7, err
    assert "error[E0701]" in err
    code, err, _ = world.run()
    assert code == 0, err
    # It finds out with its next commit: until then it goes on, and what it gets in that time is paid again.
    world.check_finished(kills=64)


async def test_a_sink_of_the_loser_is_not_written(tmp_path: Path) -> None:
    """Where outputs cannot be locked the epoch is asked before each group."""
    clock = SystemClock()
    async with Journal(tmp_path / "state", clock) as old:
        sink = JsonlSink(tmp_path / "out.jsonl")
        projection = Projection(sink, "jsonl", old, clock, CommitOrder(old))
        await projection.open()
        first = [result("a", id="1", index=0)]
        await old.write(first)
        projection.offer(first, old.last_seq)
        await projection._catch_up(closing=True)
        before = (tmp_path / "out.jsonl").read_bytes()
        second = [result("b", id="2", index=1)]
        old.received(request(id="2", index=1), second[0], b"")
        await old.write(second)
        projection.offer(second, old.last_seq)
        (tmp_path / "state" / "lock").unlink()
        async with Journal(tmp_path / "state", clock):
            with pytest.raises(RunLocked):
                await projection.run()
            with pytest.raises(RunLocked):
                await projection._reopen()
            assert (tmp_path / "out.jsonl").read_bytes() == before
        await projection.aclose()


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
