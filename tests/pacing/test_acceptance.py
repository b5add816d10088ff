"""The acceptance table of pacing, in virtual time: minutes pass in a second, and the same seed gives the same run.

Where no limit is known, refusals are how it is found out: there the bounds are wider, and said so. Servers that refuse
for other reasons than a limit: ``test_refusals.py``.
"""

from __future__ import annotations

import asyncio
import math
import random

import pytest
from limited_server import Server, Size, mill

from promptmill._engine import Engine
from promptmill._routing import Route
from promptmill.clock import VirtualClock
from promptmill.interfaces import RealtimeProvider
from promptmill.models import Request
from promptmill_simulator.meters import METERS, LimitKind

KINDS = sorted(METERS)
STEADY = (60.0, 600.0)
RPM = 600.0
TPM = 300_000.0


def steady_use(server: Server, rpm: float = RPM) -> float:
    """The share of the limit that was used after the first minute."""
    return server.used(*STEADY) / (rpm / 60 * (STEADY[1] - STEADY[0]))


@pytest.mark.parametrize("known", ["by the job", "by headers"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_known_limit_is_used_up_without_refusals(kind: LimitKind, known: str) -> None:
    clock = VirtualClock()
    server = Server(clock, rpm=RPM, kind=kind, tells_limits=known == "by headers")
    outcome = mill(clock, {"a": server}, limits={"rpm": RPM} if known == "by the job" else None, seconds=600)
    assert steady_use(server) >= 0.98
    assert server.refused_share(*STEADY) < 0.005
    if known == "by the job":
        assert server.refused_share(0, 120) <= 0.01
        assert server.used(10, 20) >= 0.9 * RPM / 6
    else:  # the calls that were made before the first reply told the limit
        assert server.refusals(0, 120) <= 16
    assert all(result.ok for result in outcome.results)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tells_wait", [True, False])
def test_an_unknown_limit_is_found_out(kind: LimitKind, tells_wait: bool) -> None:
    clock = VirtualClock()
    server = Server(clock, rpm=RPM, kind=kind, tells_wait=tells_wait)
    outcome = mill(clock, {"a": server}, seconds=360)
    assert server.used(60, 360) >= 0.8 * RPM * 5
    # Ten requests a second are few to find a limit with: each look for a higher one costs some four refused calls. A
    # whole minute that is used up has to be met twice before it is known for one.
    assert server.refused_share(60, 360) < (0.09 if kind in ("minute", "window") else 0.03)
    assert server.refusals(0, 120) <= 250
    assert all(result.ok for result in outcome.results)
    assert {one.name for one in outcome.engine.traffic()["a"].learned} <= {"rpm"}


def sized(bias: float, rng: random.Random) -> Size:
    """How the estimate of the client is off: by ``bias``, and by 15 % at random."""
    taken = max(1, round(600 * math.exp(rng.gauss(0, 0.5))))
    given = max(1, min(1024, round(150 * math.exp(rng.gauss(0, 0.6)))))
    noise = math.exp(rng.gauss(0, 0.15) - 0.15**2 / 2)
    return Size(estimate=max(1, round(taken * bias * noise)), most=1024, taken=taken, given=given)


@pytest.mark.parametrize("charging", ["reserve", "settle"])
@pytest.mark.parametrize("bias", [0.8, 1.0, 1.2])
def test_wrong_estimates_are_corrected_by_what_is_reported(bias: float, charging: str) -> None:
    clock = VirtualClock()
    settles = charging == "settle"
    server = Server(clock, tpm=TPM, settles=settles, size=lambda rng: sized(bias, rng))
    outcome = mill(clock, {"a": server}, limits={"tpm": TPM}, seconds=600)
    if settles:
        used = sum((one.usage.input_tokens or 0) + (one.usage.output_tokens or 0) for one in outcome.results if one.ok)
        assert used >= 0.97 * TPM * 10
    else:
        used = sum(tokens for at, tokens in server.accepted if 120 <= at < 600)
        assert used >= 0.97 * TPM * 8
    assert server.refused_share(60, 600) < 0.005
    assert all(result.ok for result in outcome.results)


def test_an_unknown_limit_of_tokens_is_found_out_too() -> None:
    clock = VirtualClock()
    server = Server(clock, tpm=TPM, size=lambda rng: sized(1.0, rng))
    outcome = mill(clock, {"a": server}, seconds=600)
    assert sum(tokens for at, tokens in server.accepted if 120 <= at < 600) >= 0.97 * TPM * 8
    assert server.refused_share(120, 600) < 0.03
    assert [one.name for one in outcome.engine.traffic()["a"].learned] == ["tpm"]


def test_an_unknown_limit_of_tokens_is_measured_by_what_was_used() -> None:
    """Not by what was charged at admission, where that is corrected afterwards.

    Three runs: what is corrected afterwards comes back to a bucket that seemed to be empty, and looks like a limit that
    goes up and down.
    """
    used, refused = [], []
    for seed in (1, 2, 3):
        clock = VirtualClock()
        server = Server(clock, tpm=TPM, settles=True, size=lambda rng: sized(1.0, rng), seed=seed)
        outcome = mill(clock, {"a": server}, seconds=600)
        used.append(sum((one.usage.input_tokens or 0) + (one.usage.output_tokens or 0) for one in outcome.results))
        refused.append(server.refused_share(120, 600))
    assert min(used) >= 0.95 * TPM * 10
    assert sorted(refused)[1] < 0.15


def competing(clock: VirtualClock, server: Server, share: float, start: float, end: float) -> None:
    """Somebody else uses ``share`` of the requests for a while, as far as there are any."""

    async def others() -> None:
        assert server.requests is not None
        await clock.sleep(start)
        while clock.now() < end:
            await clock.sleep(60 / (server.requests.limit * share))
            if server.requests.wait_for(1.0, clock.now()) == 0:
                server.requests.take(1.0, clock.now())

    # Kept by the loop: it ends with it.
    asyncio.get_running_loop().create_task(others()).add_done_callback(lambda task: task.exception())


@pytest.mark.parametrize("kind", ["bucket", "second"])
def test_what_others_leave_is_used_and_all_of_it_when_they_have_gone(kind: LimitKind) -> None:
    clock = VirtualClock()
    server = Server(clock, rpm=1200.0, kind=kind)

    def meanwhile(engine: Engine) -> None:
        competing(clock, server, 0.5, 300, 600)

    mill(clock, {"a": server}, limits={"rpm": 1200.0}, seconds=720, meanwhile=meanwhile)
    # The others take what we leave: going slower makes refusals no rarer, and so little is left to them.
    assert server.used(360, 600) >= 0.97 * 10 * 240
    assert server.refused_share(300, 600) <= 0.08
    assert server.used(600, 720) >= 0.9 * 20 * 120


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("tells_wait", [True, False])
def test_a_minute_of_refusals_costs_few_calls_and_fails_nothing(known: bool, tells_wait: bool) -> None:
    clock = VirtualClock()
    server = Server(clock, rpm=RPM, tells_wait=tells_wait)
    server.down = lambda: 200 <= clock.now() < 260
    outcome = mill(clock, {"a": server}, limits={"rpm": RPM} if known else None, seconds=500)
    assert server.refusals(200, 260) <= 60
    assert server.used(380, 500) >= 0.95 * RPM / 60 * 120, "at full rate two minutes after"
    assert all(result.ok for result in outcome.results)


class Part:
    """Splits the input four to two to one."""

    def __init__(self, number: int) -> None:
        self._number = number

    def matches(self, request: Request) -> bool:
        return (0, 0, 0, 0, 1, 1, 2)[request.index % 7] == self._number


def test_three_groups_of_limits_do_not_hold_each_other_up() -> None:
    clock = VirtualClock()
    rates = {"a": 1200.0, "b": 600.0, "c": 300.0}
    servers = {name: Server(clock, rpm=rpm, seed=at, tells_limits=True) for at, (name, rpm) in enumerate(rates.items())}
    routes = [Route("b", Part(1)), Route("c", Part(2)), Route("a")]
    mill(clock, servers, routes=routes, seconds=600)
    used = sum(server.used(*STEADY) for server in servers.values())
    assert used >= 0.97 * sum(rates.values()) / 60 * (STEADY[1] - STEADY[0])


def test_a_run_that_begins_again_right_away_is_not_refused() -> None:
    """A process that was killed has left the bucket empty, and its successor knows nothing of that."""
    clock = VirtualClock()
    server = Server(clock, rpm=RPM, kind="second")
    mill(clock, {"a": server}, limits={"rpm": RPM}, seconds=60)
    server.refused.clear()
    mill(clock, {"a": server}, limits={"rpm": RPM}, seconds=60)
    assert server.refused == []


def test_a_large_request_is_not_overtaken_for_ever() -> None:
    clock = VirtualClock()
    large = iter([True])

    def size(rng: random.Random) -> Size:
        tokens = 30_000 if next(large, False) else 100
        return Size(estimate=tokens, most=10, taken=tokens, given=10)

    server = Server(clock, tpm=60_000.0, size=size)
    outcome = mill(clock, {"a": server}, limits={"tpm": 60_000.0}, count=300)
    assert all(result.ok for result in outcome.results)
    assert outcome.took < 120, "30,000 and 300 times 110 tokens at 60,000 a minute"


def test_nothing_hangs_when_everything_is_throttled_for_a_while() -> None:
    clock = VirtualClock()
    servers: dict[str, RealtimeProvider] = {}
    for name in ("a", "b"):
        server = Server(clock, rpm=RPM, seed=len(servers))
        server.down = lambda: clock.now() < 120
        servers[name] = server
    routes = [Route("a", Part(0), fallback=("b",)), Route("b", fallback=("a",))]
    outcome = mill(clock, servers, routes=routes, count=200)
    assert [result.ok for result in outcome.results] == [True] * 200
    assert outcome.took < 300
