"""Signals: what is paid is finished, what is written is whole, and nobody waits longer than they said."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX systems")

CONCURRENCY = 8


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def running(desk_for: Callable[[str], Any], simulate: Callable[..., Any]) -> Callable[..., Any]:
    """Starts a run of 500 prompts and returns when calls are in flight."""

    def start(latency: str, *arguments: str) -> tuple[Any, Any, subprocess.Popen[bytes]]:
        sim = simulate(answers="echo", latency=latency)
        desk = desk_for(sim.base_url)
        desk.prompts(500)
        desk.write(provider={"max_concurrency": CONCURRENCY})
        process = desk.start("run", "job.yaml", "--json", *arguments)
        wait_until(lambda: sim.ledger(0)["in_flight"] == CONCURRENCY, process)
        return desk, sim, process

    return start


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 143)])
def test_the_first_signal_lets_calls_in_flight_finish(running: Callable[..., Any], number: str, code: int) -> None:
    desk, sim, process = running("300ms")
    process.send_signal(signal.Signals[number])
    out, err = process.communicate(timeout=20)
    assert process.returncode == code, err.decode()
    assert b"Traceback" not in err
    summary = json.loads(out)
    assert summary["resumable"] is True
    # Everything that was paid for has its record, and nothing was started after the signal but what raced with it.
    assert summary["succeeded"] == len(desk.records()) == sim.ledger(0)["paid_calls"]
    assert CONCURRENCY <= summary["succeeded"] <= 3 * CONCURRENCY
    assert f"stopped by {number}".encode() in err


def test_the_second_signal_cancels_them(running: Callable[..., Any]) -> None:
    desk, _, process = running("100s")
    process.send_signal(signal.SIGINT)
    assert b"goes to" in process.stderr.readline()  # where the key goes, said at the start
    assert b"again to cancel them" in process.stderr.readline()
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert time.monotonic() - started < 5  # the promise is 2 s, on a machine with nothing else to do
    assert process.returncode == 130, err.decode()
    assert b"Traceback" not in err
    assert json.loads(out)["succeeded"] == len(desk.records()) == 0


def test_a_signal_before_the_first_call(desk: Any) -> None:
    """While stdin is still being read, there is nothing to finish: it leaves at once."""
    desk.write(input={"path": "-"})
    process = desk.start("run", "job.yaml", stdin=subprocess.PIPE)
    process.stdin.write(b"\n" * 1_000_000)  # more than a pipe holds: once it is gone, somebody reads
    process.stdin.flush()
    process.send_signal(signal.SIGINT)
    code = process.wait(timeout=20)  # stdin is still open: nothing but the signal ends it
    _, err = process.communicate()
    assert code in (130, -signal.SIGINT), err.decode()
    assert b"Traceback" not in err
