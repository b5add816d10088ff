"""Delivery: groups, order, back-pressure, and nothing lost when something is cancelled or fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio
import pytest

from promptmill._delivery import BACKLOG, Delivery
from promptmill.errors import StorageError
from promptmill.interfaces import Position, Sink
from promptmill.models import Result


def result(index: int) -> Result:
    return Result(id=str(index), index=index, status="ok")


def indexes(results: Sequence[Result]) -> list[int]:
    return [one.index for one in results]


def fail_on_failure(error: StorageError) -> None:
    raise AssertionError(f"no sink should fail: {error}")


class RecordingSink(Sink):
    """Keeps the groups; waits in each write while the gate is shut, fails from ``fails_at`` groups on."""

    def __init__(self, *, fails_at: int | None = None, fails_in: str = "write") -> None:
        self.groups: list[list[int]] = []
        self.commits = 0
        self.gate = anyio.Event()
        self.gate.set()
        self.writing = False
        self._fails_at = fails_at
        self._fails_in = fails_in

    @property
    def written(self) -> list[int]:
        return [index for group in self.groups for index in group]

    async def start(self, position: Position | None) -> None:
        raise AssertionError("delivery does not start sinks")

    async def write(self, results: Sequence[Result]) -> None:
        self._fail("write")
        self.writing = True
        await self.gate.wait()
        self.writing = False
        self.groups.append(indexes(results))

    async def commit(self) -> Position:
        self._fail("commit")
        self.commits += 1
        return {}

    def _fail(self, where: str) -> None:
        if where == self._fails_in and self._fails_at is not None and len(self.groups) >= self._fails_at:
            raise StorageError(f"the sink is broken in {where}")


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(5):
        while not condition():
            await anyio.lowlevel.checkpoint()


async def test_everything_reaches_every_sink_then_the_consumer() -> None:
    sinks = [RecordingSink(), RecordingSink()]
    consumed: list[int] = []

    async def consumer(group: Sequence[Result]) -> None:
        assert all(set(indexes(group)) <= set(sink.written) for sink in sinks), "seen only when it is stored"
        assert all(sink.commits == len(sink.groups) for sink in sinks), "seen only when it is durable"
        consumed.extend(indexes(group))

    delivery = Delivery(sinks, on_failure=fail_on_failure, consumer=consumer)
    async with anyio.create_task_group() as group:
        group.start_soon(delivery.run)
        for index in range(100):
            await delivery.put(result(index))
            if index % 7 == 0:
                await anyio.lowlevel.checkpoint()
        delivery.close()
    assert [sink.written for sink in sinks] == [list(range(100))] * 2
    assert consumed == list(range(100))


async def test_results_gather_into_a_group_while_one_is_written() -> None:
    sink = RecordingSink()
    sink.gate = anyio.Event()
    delivery = Delivery([sink], on_failure=fail_on_failure)
    async with anyio.create_task_group() as group:
        group.start_soon(delivery.run)
        await delivery.put(result(0))
        await until(lambda: sink.writing)
        for index in range(1, 50):
            await delivery.put(result(index))
        sink.gate.set()
        delivery.close()
    assert sink.groups == [[0], list(range(1, 50))]
    assert sink.commits == 2


async def test_an_empty_run_ends() -> None:
    sink = RecordingSink()
    delivery = Delivery([sink], on_failure=fail_on_failure)
    async with anyio.create_task_group() as group:
        group.start_soon(delivery.run)
        await anyio.wait_all_tasks_blocked()
        delivery.close()
    assert sink.groups == []


async def test_a_full_backlog_holds_the_workers_and_a_cancelled_wait_loses_nothing() -> None:
    sink = RecordingSink()
    sink.gate = anyio.Event()
    delivery = Delivery([sink], on_failure=fail_on_failure)
    returned: list[int] = []

    async def put(index: int, scope: anyio.CancelScope) -> None:
        with scope:
            await delivery.put(result(index))
            returned.append(index)

    async with anyio.create_task_group() as group:
        group.start_soon(delivery.run)
        await delivery.put(result(0))
        await until(lambda: sink.writing)
        for index in range(1, BACKLOG):
            with anyio.fail_after(5):
                await delivery.put(result(index))
        cancelled, waiting = anyio.CancelScope(), anyio.CancelScope()
        group.start_soon(put, BACKLOG, cancelled)
        group.start_soon(put, BACKLOG + 1, waiting)
        await anyio.wait_all_tasks_blocked()
        assert returned == []
        cancelled.cancel()
        await until(lambda: cancelled.cancelled_caught)
        sink.gate.set()
        await until(lambda: returned == [BACKLOG + 1])
        delivery.close()
    assert sink.written == list(range(BACKLOG + 2))


@pytest.mark.parametrize("fails_in", ["write", "commit"])
async def test_a_sink_that_fails_is_reported_once_and_the_others_go_on(fails_in: str) -> None:
    failures: list[StorageError] = []
    good, bad, other = RecordingSink(), RecordingSink(fails_at=1, fails_in=fails_in), RecordingSink()
    delivery = Delivery([good, bad, other], on_failure=failures.append)
    async with anyio.create_task_group() as group:
        group.start_soon(delivery.run)
        for index in range(5):
            await delivery.put(result(index))
            await until(lambda: good.written == list(range(index + 1)))  # noqa: B023 - awaited at once
        delivery.close()
    assert good.written == other.written == list(range(5))
    assert bad.written == [0]
    assert [failure.message for failure in failures] == [f"the sink is broken in {fails_in}"]


async def test_a_group_begun_is_finished_when_the_run_is_cancelled() -> None:
    first, second = RecordingSink(), RecordingSink()
    first.gate = anyio.Event()
    delivery = Delivery([first, second], on_failure=fail_on_failure)
    async with anyio.create_task_group() as group:
        group.start_soon(delivery.run)
        await delivery.put(result(0))
        await until(lambda: first.writing)
        await delivery.put(result(1))
        group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await anyio.wait_all_tasks_blocked()
            assert first.writing
            first.gate.set()
    assert first.groups == second.groups == [[0]]
    assert first.commits == second.commits == 1
    await delivery.drain()
    assert first.groups == second.groups == [[0], [1]]


async def test_drain_stores_what_came_and_does_not_ask_the_consumer() -> None:
    async def consumer(group: Sequence[Result]) -> None:
        raise AssertionError("the consumer has gone")

    sink = RecordingSink()
    delivery = Delivery([sink], on_failure=fail_on_failure, consumer=consumer)
    for index in range(3):
        await delivery.put(result(index))
    await delivery.drain()
    assert sink.written == [0, 1, 2]
    await delivery.drain()
    assert sink.groups == [[0, 1, 2]]


async def test_a_consumer_that_is_cancelled_has_its_group_stored() -> None:
    sink = RecordingSink()
    stuck = False

    async def consumer(group: Sequence[Result]) -> None:
        nonlocal stuck
        stuck = True
        await anyio.sleep_forever()

    delivery = Delivery([sink], on_failure=fail_on_failure, consumer=consumer)
    async with anyio.create_task_group() as group:
        group.start_soon(delivery.run)
        await delivery.put(result(0))
        await until(lambda: stuck)
        await delivery.put(result(1))
        group.cancel_scope.cancel()
    await delivery.drain()
    assert sink.groups == [[0], [1]]


async def test_a_flush_returns_when_what_was_put_before_is_stored() -> None:
    sink = RecordingSink()
    delivery = Delivery([sink], on_failure=fail_on_failure, linger=True)
    async with anyio.create_task_group() as group:
        group.start_soon(delivery.run)
        await delivery.put(result(0))
        await delivery.put(result(1))
        await delivery.flush()
        assert sink.written == [0, 1]
        await delivery.flush()
        delivery.close()


async def test_a_flush_does_not_pass_over_what_could_not_be_stored() -> None:
    class Full(RecordingSink):
        async def write(self, results: Sequence[Result]) -> None:
            raise StorageError("the disk is full", code="E0602")

    delivery = Delivery([Full()], on_failure=lambda _: None)
    async with anyio.create_task_group() as group:
        group.start_soon(delivery.run)
        await delivery.put(result(0))
        with pytest.raises(StorageError, match="full"):
            await delivery.flush()
        delivery.close()


async def test_without_sinks_the_consumer_gets_all() -> None:
    consumed: list[int] = []

    async def consumer(group: Sequence[Result]) -> None:
        consumed.extend(indexes(group))

    delivery = Delivery([], on_failure=fail_on_failure, consumer=consumer)
    async with anyio.create_task_group() as group:
        group.start_soon(delivery.run)
        await delivery.put(result(0))
        delivery.close()
    assert consumed == [0]


async def test_an_error_that_is_no_storage_error_is_a_bug_and_ends_the_run() -> None:
    class Buggy(RecordingSink):
        async def write(self, results: Sequence[Result]) -> None:
            raise ZeroDivisionError

    delivery = Delivery([Buggy()], on_failure=fail_on_failure)
    await delivery.put(result(0))
    with pytest.raises(ZeroDivisionError):
        await delivery.run()
