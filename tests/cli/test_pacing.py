"""Limits and overload through the program itself, on real sockets and in real time."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.alone

KINDS = ["bucket", "bucket-empty", "minute", "second", "window"]


def refused(sim: Any) -> int:
    return int(sim.ledger(0)["outcomes"]["refused"])


def job(desk: Any, rows: int, **provider: Any) -> None:
    desk.prompts(rows)
    desk.write(provider={"max_concurrency": None, **provider}, retry=None)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bucket-empty", "second"])
def test_a_limit_in_the_job_is_kept(desk_for: Callable[[str], Any], simulate: Callable[..., Any], kind: str) -> None:
    sim = simulate(latency="100ms", limits={"rpm": 1200, "kind": kind})
    desk = desk_for(sim.base_url)
    job(desk, 80, limits={"rpm": 1200})
    done = desk.run("run", "job.yaml", "--json")
    assert done.code == 0, done.err
    # The simulator's empty bucket is empty when the first request comes, whenever that is.
    assert refused(sim) == (kind == "bucket-empty") == done.summary["by_provider"]["fast"]["throttled"]


@pytest.mark.heavy
@pytest.mark.timeout(300)
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_minute_at_a_limit(
    desk_for: Callable[[str], Any], simulate: Callable[..., Any], kind: str, known: bool
) -> None:
    """The acceptance of ``tests/pacing`` once more, without virtual time."""
    sim = simulate(latency="300ms", limits={"rpm": 1200, "kind": kind, "headers": False})
    desk = desk_for(sim.base_url)
    job(desk, 2_000, **({"limits": {"rpm": 1200}} if known else {}))
    process = desk.start("run", "job.yaml", "--json")
    out, err = process.communicate(timeout=250)
    assert process.returncode == 0, err.decode()
    assert len(desk.records()) == 2_000
    assert refused(sim) <= (0.005 if known else 0.05) * 2_000, out.decode()


@pytest.mark.slow
def test_a_limit_told_in_headers_is_kept_and_shown(
    desk_for: Callable[[str], Any], simulate: Callable[..., Any]
) -> None:
    sim = simulate(latency="50ms", limits={"rpm": 1200, "kind": "second"})
    desk = desk_for(sim.base_url)
    job(desk, 100)
    done = desk.run("run", "job.yaml")
    assert done.code == 0, done.err
    assert refused(sim) <= 16
    assert "about 1,200 requests a minute, as the provider says" in done.err


@pytest.mark.slow
def test_a_limit_nobody_tells_costs_refusals_and_no_answer(
    desk_for: Callable[[str], Any], simulate: Callable[..., Any]
) -> None:
    sim = simulate(latency="50ms", limits={"rpm": 3000, "kind": "second", "headers": False, "retry_after": False})
    desk = desk_for(sim.base_url)
    job(desk, 300)
    done = desk.run("run", "job.yaml", "--json")
    assert done.code == 0, done.err
    fast = done.summary["by_provider"]["fast"]
    assert fast["succeeded"] == 300
    # On loopback a refusal takes a millisecond, and what becomes of the calls before it is waited for 50 ms: sixteen
    # workers meet some 250 refusals until then, once. Over a network they meet about as many as there are workers.
    assert 0 < refused(sim) == fast["throttled"] <= 300


@pytest.mark.slow
def test_the_keys_of_a_pool_share_the_work(desk_for: Callable[[str], Any], simulate: Callable[..., Any]) -> None:
    first, second = simulate(latency="20ms"), simulate(latency="20ms")
    desk = desk_for(first.base_url)
    job(desk, 100, limits={"rpm": 1200}, pool=[{"api_key": "env:DESK_KEY"}, {"base_url": second.base_url}])
    done = desk.run("run", "job.yaml", "--json")
    assert done.code == 0, done.err
    counts = [one.ledger(0)["requests"] for one in (first, second)]
    assert sum(counts) == 100
    assert min(counts) >= 40
    assert list(done.summary["by_provider"]) == ["fast"]


@pytest.mark.skipif(sys.platform == "win32", reason="the signal is a POSIX one")
def test_a_daily_limit_is_told_at_once_and_can_be_left(
    desk_for: Callable[[str], Any], simulate: Callable[..., Any]
) -> None:
    message = "Rate limit reached for m on requests per day (RPD): Limit 200, Used 200. Please try again in 7h12m0s."
    sim = simulate(faults=[{"kind": "status", "status": 429, "type": "requests", "message": message}])
    desk = desk_for(sim.base_url)
    job(desk, 50)
    process = desk.start("run", "job.yaml")
    heard = b""
    while b"rests until" not in heard:
        line = process.stderr.readline()
        assert line, heard.decode()
        heard += line
    assert b"requests per day" in heard
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=40)
    assert process.returncode == 130
    assert desk.records() == []
    assert sim.ledger(0)["requests"] <= 16


@pytest.mark.slow
def test_a_server_that_fails_for_a_while_costs_few_calls_and_no_answer(
    desk_for: Callable[[str], Any], simulate: Callable[..., Any]
) -> None:
    sim = simulate(latency="20ms", faults=[{"kind": "status", "status": 500, "times": 17}])
    desk = desk_for(sim.base_url)
    desk.prompts(200)
    desk.write(provider={"max_concurrency": 8})
    done = desk.run("run", "job.yaml", "--json")
    assert done.code == 0, done.err
    assert done.summary["succeeded"] == 200
    assert done.err.count("is left alone for") == 1
    assert done.err.count("is back") == 1
