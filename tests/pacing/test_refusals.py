"""What refusals cost, in virtual time: noise, buckets, caps on calls in flight, wrong hints and steps.

Each row is a server and what of it must be had; the same seed gives the same run. `make test` plays one seed of the
rows marked quick; ``-m heavy`` plays ten of every row and prints the worst.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import pytest
from limited_server import Noise, Outcome, Server, mill

from promptmill._engine import Engine
from promptmill.clock import VirtualClock
from promptmill_simulator.meters import LimitKind

AT_ONCE: Final = 32
SEEDS: Final = range(1, 11)


class Found(NamedTuple):
    """``had``: the share of what could be had; ``refused``: the share of calls refused for a limit or a cap."""

    had: float
    refused: float
    outcome: Outcome


def answered(outcome: Outcome) -> int:
    return sum(result.ok for result in outcome.results)


def noise(
    seed: int, share: float, status: int = 429, hint: float | None = None, bad: float = 60.0, seconds: float = 60.0
) -> Found:
    """Against the same run in which these refusals are 500s, which nobody takes for a limit."""

    def run(as_status: int) -> tuple[Server, Outcome]:
        clock = VirtualClock()
        given = Noise(share, as_status, None if as_status == 500 else hint, bad)
        server = Server(clock, noise=given, latency=0.2, sigma=0.0, seed=seed)
        return server, mill(clock, {"a": server}, seconds=seconds, concurrency=AT_ONCE)

    server, outcome = run(status)
    _, others = run(500)
    return Found(answered(outcome) / answered(others), server.refused_share(0, seconds), outcome)


def noise_on_limit(seed: int, share: float, hint: float | None, told: bool) -> Found:
    clock = VirtualClock()
    server = Server(clock, rpm=6000.0, kind="second", noise=Noise(share, hint=hint), latency=0.2, sigma=0.0, seed=seed)
    limits = {"rpm": 6000.0} if told else None
    outcome = mill(clock, {"a": server}, seconds=60, concurrency=AT_ONCE, limits=limits)
    return Found(server.used(10, 60) / 5000, server.refused_share(10, 60), outcome)


def bucket(
    seed: int, burst: float, full: bool = True, hint: float | None = None, tells: bool = True, told: bool = False
) -> Found:
    clock = VirtualClock()
    kind: LimitKind = "bucket" if full else "bucket-empty"
    shape: dict[str, Any] = {"rpm": 6000.0, "kind": kind, "burst": burst, "latency": 0.2, "sigma": 0.3}
    server = Server(clock, **shape, tells_wait=tells, hint=hint, names=False, seed=seed)
    outcome = mill(clock, {"a": server}, seconds=120, limits={"rpm": 6000.0} if told else None)
    return Found(server.used(30, 120) / 9000, server.refused_share(30, 120), outcome)


def cap(seed: int, most: int, latency: float, at_once: int | None) -> Found:
    clock = VirtualClock()
    seconds = 300.0 if latency > 1 else 120.0
    start = seconds / 5
    server = Server(clock, cap=most, latency=latency, sigma=0.3, seed=seed)
    outcome = mill(clock, {"a": server}, seconds=seconds, concurrency=at_once)
    # On its way there and back a call keeps none of the server's places busy.
    worked = latency * math.exp(0.3**2 / 2)
    could = most * (seconds - start) / (worked + 0.0175)
    return Found(server.used(start, seconds) / could, server.refused_share(start, seconds), outcome)


def steps(seed: int, told: bool, tells: bool) -> Found:
    """6,000 a minute, 1,200 from second 5 to 15, and again from second 35 to 65."""
    clock = VirtualClock()
    shape: dict[str, Any] = {"kind": "bucket", "burst": 1.0, "latency": 0.2, "sigma": 0.3}
    server = Server(clock, rpm=6000.0, tells_wait=tells, names=False, seed=seed, **shape)

    async def change() -> None:
        for at, rpm in ((5, 1200.0), (15, 6000.0), (35, 1200.0), (65, 6000.0)):
            await clock.sleep(at - clock.now())
            server.change_limit(rpm)

    def meanwhile(engine: Engine) -> None:
        asyncio.get_running_loop().create_task(change()).add_done_callback(lambda task: task.exception())

    limits = {"rpm": 6000.0} if told else None
    outcome = mill(clock, {"a": server}, seconds=100, concurrency=AT_ONCE, limits=limits, meanwhile=meanwhile)
    could = 5 * 100 + 10 * 20 + 20 * 100 + 30 * 20 + 35 * 100
    return Found(server.used(0, 100) / could, server.refused_share(0, 100), outcome)


class Row(NamedTuple):
    name: str
    play: Callable[[int], Found]
    least: float
    most_refused: float = 1.0
    quick: bool = False
    """Whether it is played in `make test` too."""


def _rows() -> list[Row]:
    rows = []
    for share in (0.002, 0.01, 0.04, 0.1):
        for status in (429, 529, 503):
            for hint in (None, 0.0, 0.1, 1.0, 5.0):
                name = f"noise {share:.1%} as {status}, hint {hint}"
                quick = (share == 0.04 and status == 429) or (share == 0.1 and hint in (None, 1.0))
                rows.append(Row(name, lambda s, a=share, b=status, c=hint: noise(s, a, b, c), 0.9, quick=quick))
        for told in (True, False):
            for hint in (None, 1.0, 5.0):
                name = f"noise {share:.1%} on a limit, {told=}, hint {hint}"
                quick = share == 0.04 and hint != 5.0
                rows.append(Row(name, lambda s, a=share, b=hint, c=told: noise_on_limit(s, a, b, c), 0.9, quick=quick))
    for hint in (None, 0.1, 1.0, 5.0):
        name = f"5 s of 50 % noise each minute, hint {hint}"
        rows.append(Row(name, lambda s, a=hint: noise(s, 0.5, 429, a, 5.0, 180.0), 0.9, quick=hint == 1.0))
    for burst in (0.05, 0.2, 1.0, 10.0, 60.0):
        for full in (True, False):
            for told in (True, False):
                for hint, tells in ((None, True), (None, False), (1.0, True), (60.0, True)):
                    name = f"bucket of {burst} s, {full=}, {told=}, hint {'none' if not tells else hint or 'true'}"
                    play = lambda s, b=burst, f=full, h=hint, t=tells, k=told: bucket(s, b, f, h, t, k)  # noqa: E731
                    quick = burst in (0.2, 60.0) and (full or told)
                    rows.append(Row(name, play, *_bucket_goal(burst, told), quick=quick))
    for most in (4, 20, 200):
        for latency in (0.2, 5.0):
            for at_once in (None, 32, 256):
                if at_once != 32 or most < 32:
                    name = f"{most} in flight at most, answers of {latency} s, {at_once} at once"
                    play = lambda s, m=most, y=latency, o=at_once: cap(s, m, y, o)  # noqa: E731
                    rows.append(Row(name, play, *_cap_goal(most, latency), quick=most < 200))
    for told in (True, False):
        for tells in (True, False):
            name = f"steps, {told=}, {tells=}"
            rows.append(Row(name, lambda s, a=told, b=tells: steps(s, a, b), 0.75, quick=True))
    return rows


def _bucket_goal(burst: float, told: bool) -> tuple[float, float]:
    """A bucket of five calls is emptied by calls that come a little early; where nothing is told, looking for a higher
    limit costs up to some 3 % of the calls."""
    if told:
        return 0.95, 0.01
    return (0.85, 0.03) if burst < 0.1 else (0.9, 0.03)


def _cap_goal(most: int, latency: float) -> tuple[float, float]:
    return (0.85, 0.03) if latency < 1 else (0.8, 0.1)


ROWS: Final = {row.name: row for row in _rows()}


def check(row: Row, found: Found) -> None:
    assert found.had >= row.least
    assert found.refused <= row.most_refused
    assert all(
        result.ok for result in found.outcome.results if result.error is None or result.error.code != "overloaded"
    )


@pytest.mark.parametrize("name", [row.name for row in ROWS.values() if row.quick])
def test_a_server_gives_what_it_has(name: str) -> None:
    check(ROWS[name], ROWS[name].play(1))


@pytest.mark.heavy
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", ROWS)
def test_a_server_gives_what_it_has_with_every_seed(name: str) -> None:
    row = ROWS[name]
    found = [row.play(seed) for seed in SEEDS]
    worst, most = min(one.had for one in found), max(one.refused for one in found)
    print(f"\n{name}: seeds {list(SEEDS)}, worst {worst:.3f}, most refused {most:.4f}")  # noqa: T201
    for one in found:
        check(row, one)


def test_noise_teaches_no_limit() -> None:
    found = noise(1, 0.1, hint=1.0)
    (traffic,) = found.outcome.engine.traffic().values()
    assert traffic.learned == ()


def test_a_cap_is_found_and_told_from_a_rate() -> None:
    found = cap(1, 20, 0.2, 32)
    (traffic,) = found.outcome.engine.traffic().values()
    assert traffic.cap == 20
    assert traffic.learned == ()
