"""The lane's queue against plain deques: order, priorities, the floor, spilling, and memory that stays bounded."""

from __future__ import annotations

import errno
import tempfile
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from promptmill._queue import FLOOR, LaneQueue, Queued
from promptmill.errors import StorageError
from promptmill.models import PRIORITIES, Message, Priority, Request

HOSTILE_TEXT = st.text(st.characters(exclude_categories=()), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | HOSTILE_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(HOSTILE_TEXT, inner, max_size=3),
    max_leaves=5,
)
REQUESTS = st.builds(
    Request,
    id=HOSTILE_TEXT,
    index=st.integers(0, 2**40),
    messages=st.lists(st.builds(Message, role=HOSTILE_TEXT, content=st.none() | HOSTILE_TEXT), max_size=2).map(tuple),
    params=st.dictionaries(HOSTILE_TEXT, VALUES, max_size=2),
    priority=st.sampled_from(PRIORITIES),
    tags=st.lists(HOSTILE_TEXT, max_size=2).map(tuple),
    meta=st.dictionaries(HOSTILE_TEXT, VALUES, max_size=2),
)


def queued(number: int, priority: Priority = "normal", **more: Any) -> Queued:
    return Queued(Request(id=str(number), index=number, priority=priority, **more), ("fast", "slow"))


def in_memory(queue: LaneQueue) -> list[int]:
    return [len(waiting._front) for waiting in queue._classes.values()]


class QueueMachine(RuleBasedStateMachine):
    """The queue beside three deques that do the same without a disk."""

    queue: LaneQueue

    @initialize(memory=st.integers(1, 5))
    def begin(self, memory: int) -> None:
        self.memory = memory
        self.queue = LaneQueue(memory)
        self.model: dict[str, deque[Queued]] = {priority: deque() for priority in PRIORITIES}
        self.taken = 0

    @rule(request=REQUESTS, chain=st.lists(HOSTILE_TEXT, max_size=2).map(tuple))
    def append(self, request: Request, chain: tuple[str, ...]) -> None:
        item = Queued(request, chain)
        self.queue.append(item)
        self.model[request.priority].append(item)

    @rule(count=st.integers(1, 25), priority=st.sampled_from(PRIORITIES))
    def append_many(self, count: int, priority: Priority) -> None:
        for number in range(count):
            item = queued(number, priority)
            self.queue.append(item)
            self.model[priority].append(item)

    @rule(count=st.integers(1, 15))
    def popleft(self, count: int) -> None:
        for _ in range(count):
            assert self.queue.popleft() == self.expected()

    def expected(self) -> Queued | None:
        if not any(self.model.values()):
            return None
        self.taken += 1
        order = PRIORITIES[::-1] if self.taken % FLOOR == 0 else PRIORITIES
        return next(self.model[priority] for priority in order if self.model[priority]).popleft()

    @invariant()
    def same_length(self) -> None:
        assert len(self.queue) == sum(map(len, self.model.values()))

    @invariant()
    def memory_is_bounded(self) -> None:
        assert max(in_memory(self.queue)) <= self.memory

    def teardown(self) -> None:
        self.queue.close()


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def drained(queue: LaneQueue) -> list[Queued]:
    items = []
    while (item := queue.popleft()) is not None:
        items.append(item)
    queue.close()
    return items


def test_empty_gives_nothing() -> None:
    assert LaneQueue(3).popleft() is None


def test_order_is_kept_through_the_disk_and_memory_stays_bounded() -> None:
    queue = LaneQueue(7)
    for number in range(1_000):
        queue.append(queued(number))
        assert max(in_memory(queue)) <= 7
    taken = []
    while (item := queue.popleft()) is not None:
        taken.append(item.request.index)
        assert max(in_memory(queue)) <= 7
    queue.close()
    assert taken == list(range(1_000))


def test_the_temporary_file_is_emptied_when_all_was_read() -> None:
    queue = LaneQueue(1)
    for _ in range(3):
        for number in range(10):
            queue.append(queued(number))
        assert len([queue.popleft() for _ in range(10)]) == 10
        spool = queue._classes["normal"]._spool
        assert spool is not None
        assert spool._file.seek(0, 2) == 0
    queue.close()


def test_urgent_goes_first_and_every_tenth_is_from_the_lowest_class() -> None:
    queue = LaneQueue(5)
    for number in range(100):
        queue.append(queued(number, "urgent"))
        queue.append(queued(number, "bulk"))
    first = [item.request.priority for item in drained(queue)][:50]
    assert first == (["urgent"] * (FLOOR - 1) + ["bulk"]) * 5


def test_the_floor_takes_the_only_class_there_is() -> None:
    queue = LaneQueue(5)
    for number in range(30):
        queue.append(queued(number, "urgent"))
    assert [item.request.index for item in drained(queue)] == list(range(30))


@pytest.mark.parametrize(
    "more",
    [
        {"messages": (Message("user", "lone \ud800 surrogate"),)},
        {"params": {"seed": 2**70}},
        {"params": {"seed": -(2**64)}},
        {"params": {"thing": object}},
        {"meta": {"\udfff": [1, 2, {"a": "\ud800"}]}},
        {"messages": (Message("user", [{"type": "text", "text": "\x00\x1b]52;c;\u202e"}], {"name": "n"}),)},
        {"params": {"n": 1.5, "none": None, "big": 2**63, "list": [1, [2, {"x": "y"}]]}},
        {"tags": ("a", ""), "operation": "embeddings"},
    ],
)
def test_a_spilled_request_comes_back_as_it_went_in(more: dict[str, Any]) -> None:
    queue = LaneQueue(1)
    items = [queued(0), queued(1, **more), queued(2), queued(3, **more), queued(4)]
    for item in items:
        queue.append(item)
    assert in_memory(queue)[1] == 1
    assert drained(queue) == items


class FullDisk:
    """A file on a disk that becomes full after some writes."""

    writes_left: ClassVar[int] = 0

    def __init__(self, **_: Any) -> None:
        self._left = self.writes_left

    def seek(self, offset: int) -> int:
        return offset

    def write(self, data: bytes) -> int:
        if not self._left:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._left -= 1
        return len(data)

    def read(self, size: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    def close(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def no_file(**_: Any) -> Any:
    raise OSError(errno.EMFILE, "Too many open files")


class OneWriteDisk(FullDisk):
    writes_left = 1


@pytest.mark.parametrize(
    ("file", "reason"),
    [(FullDisk, "No space left on device"), (no_file, "Too many open files"), (OneWriteDisk, "Input/output error")],
)
def test_a_broken_disk_is_a_storage_error(
    monkeypatch: pytest.MonkeyPatch, file: Callable[..., Any], reason: str
) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", file)
    queue = LaneQueue(1)
    queue.append(queued(1))
    with pytest.raises(StorageError, match=reason) as caught:
        queue.append(queued(2))
        queue.popleft()
    assert caught.value.code == "E0620"
    queue.close()
