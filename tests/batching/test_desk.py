"""One batch a shard: the desk against a provider that fails, loses replies and lags, and kills."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptmill._batching.desk import OVERDUE_S, SETTLE_S, Desk, DeskSpec
from promptmill.batch import BatchLimits, BatchLine, BatchProvider, BatchState, BatchStatus, LineProblem, Shard
from promptmill.clock import VirtualClock
from promptmill.errors import AuthFailed, Permanent, ProviderError, QuotaExhausted, Throttled, Transient
from promptmill.models import Request

Trouble: TypeAlias = Literal[
    "fine", "refused", "throttled", "lost", "hang", "lost hang", "killed before", "killed after"
]

TROUBLES: tuple[Trouble, ...] = (
    "fine",
    "refused",
    "throttled",
    "lost",
    "hang",
    "lost hang",
    "killed before",
    "killed after",
)

SHARD = Shard(tag="run-1", path=Path("run-1.jsonl"), requests=3, bytes=10, operation="chat", model=None)

TIMEOUT = 60.0


class Killed(BaseException):
    """The process dies here."""


class Script:
    """What goes wrong, in the order of the calls; nothing any more at its end."""

    def __init__(self, troubles: Sequence[Trouble]) -> None:
        self._troubles: Iterator[Trouble] = iter(troubles)

    async def around(self, effect: Callable[[], Awaitable[BatchStatus | None]]) -> BatchStatus | None:
        trouble = next(self._troubles, "fine")
        if trouble == "killed before":
            raise Killed
        if trouble == "refused":
            raise Transient("come back later", code="server_error", http_status=503)
        if trouble == "throttled":
            raise Throttled("slowly", retry_after=90.0)
        if trouble == "hang":
            await anyio.sleep_forever()
        value = await effect()
        if trouble == "killed after":
            raise Killed
        if trouble == "lost":
            raise Transient("connection reset", code="connection_lost")
        if trouble == "lost hang":
            await anyio.sleep_forever()
        return value


class Batch:
    def __init__(self, number: int, tag: str, created: float) -> None:
        self.handle = f"batch_{number}"
        self.tag = tag
        self.created = created
        self.state: BatchState = "pending"


class World(BatchProvider):
    """A provider and a disk: what outlives a process. A batch shows up in the list ``lag`` seconds late."""

    limits = BatchLimits(requests=10, bytes=1000, window_s=86_400.0)

    def __init__(self, clock: VirtualClock, troubles: Sequence[Trouble] = (), *, lag: float = 0.0) -> None:
        self.clock = clock
        self.script = Script(troubles)
        self.lag = lag
        self.batches: list[Batch] = []
        self.record: tuple[str, str | None] | None = None
        self.cancels = 0
        self.polls = 0
        self.takes = 1000.0
        self.hidden = False
        self.heeds_cancel = True
        self.warnings: list[str] = []

    def status(self, batch: Batch) -> BatchStatus:
        if batch.state == "pending" and self.clock.now() >= batch.created + self.takes:
            batch.state = "completed"
        return BatchStatus(handle=batch.handle, state=batch.state, raw_state=batch.state)

    async def find(self, tag: str) -> BatchStatus | None:
        async def effect() -> BatchStatus | None:
            seen = [one for one in self.batches if one.tag == tag and self.clock.now() >= one.created + self.lag]
            return next((self.status(one) for one in seen if one.state != "failed"), None)

        return await self.script.around(effect)

    async def create(self, shard: Shard) -> BatchStatus:
        async def effect() -> BatchStatus:
            assert self.record is not None, "created before anybody could know of it"
            batch = Batch(len(self.batches), shard.tag, self.clock.now())
            self.batches.append(batch)
            return self.status(batch)

        status = await self.script.around(effect)
        assert status is not None
        return status

    async def poll(self, handle: str) -> BatchStatus:
        async def effect() -> BatchStatus:
            self.polls += 1
            if self.hidden:
                raise Permanent("no such batch", code="batch_not_found", http_status=404)
            return next(self.status(one) for one in self.batches if one.handle == handle)

        status = await self.script.around(effect)
        assert status is not None
        return status

    async def cancel(self, handle: str) -> None:
        self.cancels += 1
        if self.heeds_cancel:
            next(one for one in self.batches if one.handle == handle).state = "cancelled"

    async def submitting(self, shard: Shard) -> None:
        async def effect() -> None:
            self.record = (shard.tag, None)

        await self._write(effect)

    async def submitted(self, shard: Shard, handle: str) -> None:
        async def effect() -> None:
            self.record = (shard.tag, handle)

        await self._write(effect)

    async def _write(self, effect: Callable[[], Awaitable[None]]) -> None:
        """A disk does not answer late or lose its answers; a kill may hit it like anything else."""
        trouble = next(self.script._troubles, "fine")
        if trouble == "killed before":
            raise Killed
        await effect()
        if trouble == "killed after":
            raise Killed

    def encode(self, request: Request, wire_id: str) -> bytes:
        raise NotImplementedError

    async def download(self, handle: str, directory: Path) -> Sequence[Path]:
        raise NotImplementedError

    def read(self, path: Path) -> AsyncIterator[Sequence[BatchLine]]:
        raise NotImplementedError

    def desk(self, poll_interval: float = 30.0) -> Desk:
        return Desk(
            DeskSpec(
                provider=self,
                keeper=self,
                clock=self.clock,
                poll_interval=poll_interval,
                timeout=TIMEOUT,
                warn=self.warnings.append,
            )
        )


async def process(world: World) -> BatchStatus:
    """What each process does: go on from what the disk says."""
    desk = world.desk(2.0)
    if world.record is None:
        status = await desk.submit(SHARD, known=False)
    elif world.record[1] is None:
        status = await desk.submit(SHARD, known=True)
    else:
        status = BatchStatus(handle=world.record[1], state="pending", raw_state="pending")
    return await desk.follow(SHARD, status.handle)


async def processes(world: World) -> BatchStatus:
    while True:
        try:
            return await process(world)
        except Killed:
            await anyio.sleep(0)  # a supervisor starts it again at once


@settings(max_examples=400)
@given(st.lists(st.sampled_from(TROUBLES), max_size=25), st.floats(0, SETTLE_S * 0.75))
def test_exactly_one_batch_whatever_fails_and_whoever_dies(troubles: list[Trouble], lag: float) -> None:
    clock = VirtualClock()
    world = World(clock, troubles, lag=lag)
    status = clock.run(processes, world)
    assert [one.tag for one in world.batches] == [SHARD.tag]
    assert (status.handle, status.state) == ("batch_0", "completed")
    assert world.record == (SHARD.tag, "batch_0")


@pytest.mark.parametrize("at", range(8))
@pytest.mark.parametrize("how", ["killed before", "killed after"])
def test_a_kill_at_each_step(at: int, how: Trouble) -> None:
    clock = VirtualClock()
    troubles: list[Trouble] = ["fine"] * at
    world = World(clock, [*troubles, how])
    assert clock.run(processes, world).state == "completed"
    assert len(world.batches) == 1


def test_a_batch_that_failed_as_a_whole_may_be_sent_again() -> None:
    async def body() -> list[str]:
        first = await world.desk().submit(SHARD, known=False)
        world.batches[0].state = "failed"
        assert (await world.desk().follow(SHARD, first.handle)).state == "failed"
        second = await world.desk().submit(SHARD, known=False)
        return [first.handle, second.handle, (await world.desk().follow(SHARD, second.handle)).state]

    clock = VirtualClock()
    world = World(clock)
    assert clock.run(body) == ["batch_0", "batch_1", "completed"]


def test_looks_grow_rarer_and_begin_often() -> None:
    clock = VirtualClock()
    world = World(clock)
    world.takes = 86_000.0
    assert clock.run(processes, world).state == "completed"
    assert 86_000 / 360 <= world.polls <= 86_000 / 240 + 20


def test_a_throttled_call_waits_as_long_as_it_was_asked_to() -> None:
    clock = VirtualClock()
    world = World(clock, ["fine", "throttled"])  # the disk, then create
    clock.run(lambda: world.desk(1.0).submit(SHARD, known=False))
    assert clock.now() >= 90.0


@pytest.mark.parametrize("failure", [AuthFailed("no"), QuotaExhausted("no"), Permanent("no", code="bad_request")])
def test_what_waiting_cannot_mend_is_raised_at_once(failure: ProviderError) -> None:
    async def refuse(shard: Shard) -> BatchStatus:
        raise failure

    clock = VirtualClock()
    world = World(clock)
    world.create = refuse  # type: ignore[method-assign]
    with pytest.raises(type(failure)) as caught:
        clock.run(lambda: world.desk().submit(SHARD, known=False))
    assert caught.value is failure
    assert clock.now() < 1.0


def test_a_batch_that_is_not_seen_for_a_while_is_waited_for() -> None:
    async def body() -> None:
        handle = (await world.desk().submit(SHARD, known=False)).handle
        world.hidden = True
        world.lag = 1e9  # the list does not show it either
        async with anyio.create_task_group() as group:

            async def reveal() -> None:
                while world.polls < 3:
                    await anyio.sleep(1)
                world.hidden = False
                world.lag = 0.0

            group.start_soon(reveal)
            ended.append(await world.desk().follow(SHARD, handle))

    ended: list[BatchStatus] = []
    clock = VirtualClock()
    world = World(clock)
    clock.run(body)
    assert [one.state for one in ended] == ["completed"]
    assert len(world.batches) == 1


def test_a_batch_that_is_gone_for_good_is_never_made_again_unasked() -> None:
    async def body() -> None:
        handle = (await world.desk().submit(SHARD, known=False)).handle
        world.hidden = True
        world.batches[0].tag = "deleted"
        await world.desk().follow(SHARD, handle)

    clock = VirtualClock()
    world = World(clock)
    with pytest.raises(Permanent) as caught:
        clock.run(body)
    assert caught.value.code == "batch_gone"
    assert len(world.batches) == 1


def test_another_handle_for_the_tag_is_adopted() -> None:
    async def body() -> BatchStatus:
        await world.desk().submit(SHARD, known=False)
        await world.submitted(SHARD, "batch_0_as_it_was_called")
        return await world.desk().follow(SHARD, "batch_0_as_it_was_called")

    clock = VirtualClock()
    world = World(clock)

    async def poll(handle: str) -> BatchStatus:
        if handle != "batch_0":
            raise Permanent("no such batch", code="batch_not_found", http_status=404)
        return world.status(world.batches[0])

    world.poll = poll  # type: ignore[method-assign]
    assert clock.run(body).handle == "batch_0"
    assert world.record == (SHARD.tag, "batch_0")


def test_a_batch_beyond_its_window_is_cancelled_and_its_results_kept() -> None:
    clock = VirtualClock()
    world = World(clock)
    world.takes = float("inf")
    assert clock.run(processes, world).state == "cancelled"
    assert world.cancels == 1
    assert clock.now() >= 86_400 + OVERDUE_S
    assert any("beyond its window" in one for one in world.warnings)


def test_a_batch_that_never_ends_is_given_up() -> None:
    clock = VirtualClock()
    world = World(clock)
    world.takes = float("inf")
    world.heeds_cancel = False
    with pytest.raises(Permanent) as caught:
        clock.run(processes, world)
    assert caught.value.code == "batch_stuck"
    assert world.cancels >= 1


def test_a_status_is_final_by_its_state() -> None:
    states: dict[BatchState, bool] = {
        "pending": False,
        "running": False,
        "cancelling": False,
        "completed": True,
        "failed": True,
        "expired": True,
        "cancelled": True,
    }
    for state, final in states.items():
        status = BatchStatus(handle="b", state=state, raw_state="x", problems=[LineProblem(code="c", message="m")])
        assert status.is_final is final
