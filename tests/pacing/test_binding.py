"""What a provider waits for is known, while it does and in the end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from limited_server import Noise, Server, mill

from promptmill._binding import Binding
from promptmill._engine import Engine
from promptmill._run import Progress
from promptmill.cli.progress import line_of
from promptmill.clock import VirtualClock


def watched(
    clock: VirtualClock, server: Server, seconds: float = 60.0, **more: Any
) -> tuple[list[Any], Binding | None]:
    """What is said every 0.37 s, as calls in flight and reason, and in the end."""
    seen = []

    async def watch(engine: Engine) -> None:
        while True:
            await clock.sleep(0.37)
            seen.append((engine.in_flight, engine.bindings().get("a")))

    def meanwhile(engine: Engine) -> None:
        tasks.append(asyncio.get_running_loop().create_task(watch(engine)))

    tasks: list[asyncio.Task[None]] = []
    outcome = mill(clock, {"a": server}, seconds=seconds, meanwhile=meanwhile, **more)
    return seen, outcome.engine.traffic()["a"].binding


def test_a_limit_that_was_told() -> None:
    clock = VirtualClock()
    _, binding = watched(clock, Server(clock, rpm=600.0), limits={"rpm": 600.0})
    assert binding is not None
    assert (binding.what, binding.name, binding.value, binding.certainty) == ("limit", "rpm", 600.0, "told")
    assert binding.share is not None
    assert binding.share > 0.5


def test_a_limit_that_was_found() -> None:
    clock = VirtualClock()
    server = Server(clock, rpm=6000.0, burst=0.2, latency=0.2, names=False)
    _, binding = watched(clock, server, seconds=120)
    assert binding is not None
    assert (binding.what, binding.name, binding.certainty) == ("limit", "rpm", "sure")
    assert binding.value == pytest.approx(6000, rel=0.1)


def test_a_cap_that_was_found() -> None:
    clock = VirtualClock()
    _, binding = watched(clock, Server(clock, cap=20, latency=0.2, sigma=0.3), concurrency=32)
    assert binding is not None
    assert (binding.what, binding.value) == ("cap", 20)


def test_our_own_concurrency() -> None:
    clock = VirtualClock()
    _, binding = watched(clock, Server(clock, latency=0.2), concurrency=8)
    assert binding is not None
    assert (binding.what, binding.value) == ("concurrency", 8)


@pytest.mark.parametrize("down", [True, False])
def test_nothing_in_flight_always_has_a_reason(down: bool) -> None:
    """Whether nothing at all is taken, or only half of it, with long waits."""
    clock = VirtualClock()
    server = Server(clock, latency=0.2, noise=None if down else Noise(0.5, hint=5.0))
    server.down = lambda: down and clock.now() > 5
    if down:
        server = Server(clock, rpm=6000.0, latency=0.2)
        server.down = lambda: clock.now() > 5
    seen, _ = watched(clock, server, concurrency=4)
    idle = [binding for in_flight, binding in seen if not in_flight]
    assert None not in idle
    if down:
        assert {one.what for one in idle} == {"rest"}


@pytest.mark.parametrize(
    ("binding", "in_flight", "text"),
    [
        (Binding(what="rest", seconds=12.0), 0, "resting for 12.0 s"),
        (Binding(what="retries", seconds=3.0), 0, "waiting to retry for 3.0 s"),
        (Binding(what="limit", name="rpm", value=600.0, certainty="told"), 4, "at 600 rpm"),
        (Binding(what="limit", name="rpm", value=600.0, certainty="likely"), 4, "at 600 rpm found, not sure"),
        (Binding(what="cap", value=20, certainty="sure"), 20, "at 20 in flight found"),
        (Binding(what="input"), 0, "waiting for input"),
    ],
)
def test_the_live_line_names_it(binding: Binding, in_flight: int, text: str) -> None:
    state = Progress(
        total=10, succeeded=1, failed=0, in_flight=in_flight, retrying=0, elapsed=1.0, tokens=0, bindings={"a": binding}
    )
    assert text in line_of(state).split("  ")
