"""Following the journal: commits, failing sinks, rejected rows, large pieces. Time and the journal are in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from promptmill._cursors import CommitOrder, InputOrder
from promptmill._journal import Rejection, SinkState
from promptmill._projection import COMMIT_ROWS, GIVE_UP_AFTER, GROUP_ROWS, LAST_TRIES, Projection
from promptmill.clock import VirtualClock
from promptmill.errors import RowRejected, StorageError
from promptmill.interfaces import Position, Sink
from promptmill.jsontext import encode
from promptmill.models import Result
from promptmill.testing import result


class FakeJournal:
    """What a projection asks of the journal, without threads, so that time can be virtual."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self.states: dict[str, SinkState] = {}
        self.history: list[SinkState] = []
        self.rejects: list[tuple[str, int, str]] = []
        self.noted: dict[tuple[str, int], Rejection] = {}
        self.owner_checks = 0
        self.reads = 0

    @property
    def last_seq(self) -> int:
        return len(self.results)

    def add(self, *results: Result) -> tuple[Sequence[Result], int]:
        self.results += results
        return results, self.last_seq

    async def check_owner(self) -> None:
        self.owner_checks += 1

    async def sink(self, name: str) -> SinkState | None:
        return self.states.get(name)

    async def put_sink(self, state: SinkState) -> None:
        self.states[state.name] = state
        self.history.append(state)

    async def reject(self, sink: str, index: int, reason: str) -> None:
        self.rejects.append((sink, index, reason))
        seq = next(seq for seq, one in enumerate(self.results, start=1) if one.index == index)
        self.noted[sink, seq] = Rejection(seq, index, str(index), reason)

    def rejections(self, sink: str) -> list[Rejection]:
        return [one for (name, _), one in sorted(self.noted.items()) if name == sink]

    def forgive(self, sink: str, seqs: Sequence[int], state: SinkState | None = None) -> None:
        for seq in seqs:
            del self.noted[sink, seq]
        if state is not None:
            self.states[sink] = state

    def count_behind(self, number: int, *, by_index: bool) -> int:
        numbers = [one.index + 1 if by_index else seq for seq, one in enumerate(self.results, 1)]
        return sum(one > number for one in numbers)

    async def ask(self, question: Callable[[Any], Any]) -> Any:
        self.reads += 1
        await anyio.lowlevel.checkpoint()
        return question(self)

    def records(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        part = self.results[after : after + limit]
        return [(seq, encode(one)) for seq, one in enumerate(part, start=after + 1)]

    def records_by_index(self, first: int, limit: int) -> list[tuple[int, bytes]]:
        ordered = sorted((one for one in self.results if one.index >= first), key=lambda one: one.index)
        return [(one.index, encode(one)) for one in ordered[:limit]]


class FakeSink(Sink):
    """Keeps committed and uncommitted rows apart. ``trouble`` is called before each operation and may raise."""

    def __init__(self, trouble: Callable[[str], None] = lambda _: None, refuse: Callable[[Result], bool] | None = None):
        self.rows: list[str] = []
        self.groups: list[int] = []
        self.opened = 0
        self.commits = 0
        self.slow = 0.0
        self.piece: int | None = None
        self._trouble = trouble
        self._refuse = refuse or (lambda _: False)
        self._committed = 0

    async def aopen(self) -> None:
        self._trouble("open")
        self.opened += 1

    async def aclose(self) -> None:
        self.opened -= 1

    async def start(self, position: Position | None) -> None:
        self._trouble("start")
        length = int(position["rows"]) if position else 0
        assert length <= len(self.rows)
        self._committed = length
        del self.rows[length:]

    def room(self) -> int | None:
        return None if self.piece is None else self.piece - (len(self.rows) - self._committed)

    async def write(self, results: Sequence[Result]) -> None:
        self._trouble("write")
        await anyio.sleep(self.slow)
        for one in results:
            if self._refuse(one):
                raise RowRejected(f"no {one.text}", result_id=one.id)
        self.groups.append(len(results))
        self.rows += [one.id for one in results]

    async def commit(self) -> Position:
        self._trouble("commit")
        self.commits += 1
        self._committed = len(self.rows)
        return {"rows": len(self.rows)}


class Scene:
    """A clock, a journal, and sinks that follow it."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.journal = FakeJournal()
        self.projections: list[Projection] = []

    def follow(
        self, sink: Sink, name: str = "s", cursor: type[CommitOrder] | type[InputOrder] = CommitOrder
    ) -> Projection:
        journal: Any = self.journal
        projection = Projection(sink, name, journal, self.clock, cursor(journal))
        self.projections.append(projection)
        return projection

    def offer(self, *results: Result) -> None:
        news = self.journal.add(*results)
        for projection in self.projections:
            projection.offer(*news)

    def play(self, script: Callable[[], Awaitable[None]]) -> None:
        async def main() -> None:
            for projection in self.projections:
                await projection.open()
            async with anyio.create_task_group() as group:
                for projection in self.projections:
                    group.start_soon(projection.run)
                await script()
                for projection in self.projections:
                    projection.close()
            for projection in self.projections:
                await projection.aclose()

        self.clock.run(main)


def some(first: int, count: int, **fields: Any) -> list[Result]:
    return [result(f"text {n}", id=str(n), index=n, **fields) for n in range(first, first + count)]


def ids(count: int) -> list[str]:
    return [str(n) for n in range(count)]


def always(operation: str) -> None:
    raise StorageError(f"{operation} is down")


def test_a_sink_gets_everything_and_the_journal_knows() -> None:
    scene, sink = Scene(), FakeSink()
    projection = scene.follow(sink)

    async def script() -> None:
        for n in range(10):
            scene.offer(*some(3 * n, 3))
            await anyio.sleep(0.3)

    scene.play(script)
    assert sink.rows == ids(30)
    assert scene.journal.states["s"] == SinkState("s", 30, {"rows": 30})
    assert projection.failure is None
    assert sink.opened == 0


def test_commits_come_by_time_by_rows_and_at_the_end() -> None:
    scene, sink = Scene(), FakeSink()
    scene.follow(sink)

    async def script() -> None:
        scene.offer(*some(0, 1))
        await anyio.sleep(10)
        assert sink.commits == 1  # once within a second, and then never for nothing
        scene.offer(*some(1, COMMIT_ROWS + 1))
        await anyio.sleep(0)
        await anyio.sleep(0.001)
        assert sink.commits == 2
        scene.offer(*some(COMMIT_ROWS + 2, 1))
        await anyio.sleep(0.001)
        assert sink.commits == 2

    scene.play(script)
    assert sink.commits == 3
    assert sink.rows == ids(COMMIT_ROWS + 3)


def test_groups_are_not_too_large() -> None:
    scene, sink = Scene(), FakeSink()
    scene.follow(sink)

    async def script() -> None:
        scene.offer(*some(0, 2 * GROUP_ROWS + 5))

    scene.play(script)
    assert sink.groups == [GROUP_ROWS, GROUP_ROWS, 5]
    assert scene.journal.owner_checks == 3


def test_a_sink_that_is_away_for_ten_minutes_gets_everything_later() -> None:
    """The other one does not wait for it, and neither does the run."""
    scene = Scene()

    def away(operation: str) -> None:
        if 60 <= scene.clock.now() < 660:
            tries.append(scene.clock.now())
            raise StorageError(f"{operation}: no route to host")

    tries: list[float] = []
    weak, strong = FakeSink(away), FakeSink()
    projection = scene.follow(weak, "weak")
    scene.follow(strong, "strong")

    async def script() -> None:
        for n in range(900):
            scene.offer(*some(20 * n, 20))
            await anyio.sleep(1)
            assert len(strong.rows) == 20 * (n + 1)
            if n == 300:
                assert projection.failure is not None
                assert projection.failure.message.endswith("no route to host")
        assert projection.failure is None
        assert weak.rows == strong.rows

    scene.play(script)
    assert weak.rows == strong.rows == ids(18_000)
    assert scene.journal.states["weak"].seq == scene.journal.states["strong"].seq == 18_000
    assert len(tries) < 40  # with pauses of up to 30 seconds


@pytest.mark.parametrize("operation", ["write", "commit", "start", "open"])
def test_what_was_not_committed_is_written_again(operation: str) -> None:
    """Whichever operation fails, once or a few times: no row is lost and none is there twice."""
    scene = Scene()
    left = [3]

    def trouble(name: str) -> None:
        failing = scene.clock.now() > 1.5 and (name == operation or (operation in ("start", "open") and left == [3]))
        if failing and left[0]:
            left[0] -= 1
            raise StorageError("hiccup")

    sink = FakeSink(trouble)
    projection = scene.follow(sink)

    async def script() -> None:
        for n in range(100):
            scene.offer(*some(5 * n, 5))
            await anyio.sleep(0.2)

    scene.play(script)
    assert left == [0]
    assert sink.rows == ids(500)
    assert projection.failure is None


def test_a_sink_that_stays_away_is_given_up_at_the_end_and_only_then() -> None:
    scene = Scene()
    broken = [False]

    def trouble(operation: str) -> None:
        if broken[0]:
            always(operation)

    weak, strong = FakeSink(trouble), FakeSink()
    projection = scene.follow(weak, "weak")
    scene.follow(strong, "strong")

    async def script() -> None:
        scene.offer(*some(0, 3))
        await anyio.sleep(2)
        broken[0] = True
        scene.offer(*some(3, 3))
        await anyio.sleep(100)

    scene.play(script)
    assert strong.rows == ids(6)
    assert projection.failure is not None
    assert scene.journal.states["weak"] == SinkState("weak", 3, {"rows": 3})
    assert 0 < scene.clock.now() - 102 < LAST_TRIES

    broken[0] = False  # the next process
    scene.projections.clear()
    scene.follow(weak, "weak")

    async def nothing() -> None:
        await anyio.lowlevel.checkpoint()

    scene.play(nothing)
    assert weak.rows == ids(6)


def test_a_sink_that_cannot_be_opened_at_the_start_is_an_error() -> None:
    scene = Scene()
    scene.follow(FakeSink(always))
    with pytest.raises(StorageError, match="open is down"):
        scene.play(anyio.lowlevel.checkpoint)
    assert scene.journal.states == {}


def test_what_is_in_the_target_is_ours_from_the_start() -> None:
    """Also when the process dies before the first commit: the next one may drop it."""
    scene = Scene()
    projection = scene.follow(FakeSink())

    async def main() -> None:
        await projection.open()

    scene.clock.run(main)
    assert scene.journal.states == {"s": SinkState("s", 0, {})}


@pytest.mark.parametrize("bad", [{0}, {4}, {9}, {0, 1, 8, 9}, set(range(10)), set(range(5, 10))])
def test_rejected_rows_are_noted_and_the_others_written(bad: set[int]) -> None:
    scene, sink = Scene(), FakeSink(refuse=lambda one: one.index in bad)
    projection = scene.follow(sink)

    async def script() -> None:
        scene.offer(*some(0, 10))
        await anyio.sleep(5)
        scene.offer(*some(10, 1))

    scene.play(script)
    assert sink.rows == [str(n) for n in range(11) if n not in bad]
    assert sorted(scene.journal.rejects) == [("s", n, f"no text {n}") for n in sorted(bad)]
    assert len(projection.rejected) == len(bad)
    assert scene.journal.states["s"].seq == 11


def test_a_row_rejected_again_after_a_failure_counts_once() -> None:
    scene = Scene()
    failing = [True]

    def trouble(operation: str) -> None:
        if operation == "commit" and failing:
            failing.clear()
            raise StorageError("hiccup")

    sink = FakeSink(trouble, refuse=lambda one: one.index == 1)
    projection = scene.follow(sink)

    async def script() -> None:
        scene.offer(*some(0, 3))
        await anyio.sleep(5)

    scene.play(script)
    assert sink.rows == ["0", "2"]
    assert len(scene.journal.rejects) == 2
    assert len(projection.rejected) == 1


def test_a_sink_that_rejects_what_it_was_not_given_is_a_failure() -> None:
    class Confused(FakeSink):
        async def write(self, results: Sequence[Result]) -> None:
            raise RowRejected("no", result_id="other")

    scene = Scene()
    projection = scene.follow(Confused())

    async def script() -> None:
        scene.offer(*some(0, 2))

    scene.play(script)
    assert projection.failure is not None
    assert projection.failure.message == "s: rejected an unknown row 'other': no"
    assert scene.journal.rejects == []


def test_a_slow_sink_holds_nobody_up() -> None:
    """It reads what it has missed from the journal: nothing piles up in memory for it."""
    scene, slow, quick = Scene(), FakeSink(), FakeSink()
    slow.slow = 30.0
    scene.follow(slow, "slow")
    scene.follow(quick, "quick")

    async def script() -> None:
        for n in range(60):
            scene.offer(*some(500 * n, 500))
            await anyio.sleep(1)
        assert len(quick.rows) == 30_000
        assert len(slow.rows) <= 2 * GROUP_ROWS

    scene.play(script)
    assert slow.rows == quick.rows
    assert scene.journal.reads > 10


def test_large_pieces_are_filled_before_they_are_committed() -> None:
    """And none is committed half full by the clock: a run of ten hours would leave tens of thousands of files."""
    scene, sink = Scene(), FakeSink()
    sink.piece = 250
    scene.follow(sink)

    async def script() -> None:
        for n in range(60):
            scene.offer(*some(17 * n, 17))
            await anyio.sleep(2)
            assert scene.journal.states["s"].seq == 17 * (n + 1) // 250 * 250

    scene.play(script)
    assert sink.rows == ids(1020)
    assert [state.seq for state in scene.journal.history] == [0, 250, 500, 750, 1000, 1020]
    assert [state.position for state in scene.journal.history[1:]] == [{"rows": n} for n in (250, 500, 750, 1000, 1020)]


def test_a_piece_that_was_not_full_is_written_again() -> None:
    scene = Scene()
    failing = [True]

    def trouble(operation: str) -> None:
        if operation == "write" and scene.clock.now() > 4 and failing:
            failing.clear()
            raise StorageError("hiccup")

    sink = FakeSink(trouble)
    sink.piece = 100
    scene.follow(sink)

    async def script() -> None:
        for n in range(10):
            scene.offer(*some(30 * n, 30))
            await anyio.sleep(1)

    scene.play(script)
    assert sink.rows == ids(300)
    assert [state.seq for state in scene.journal.history] == [0, 100, 200, 300, 300]


def test_input_order_waits_for_its_turn_and_goes_on_there() -> None:
    scene, sink = Scene(), FakeSink()
    scene.follow(sink, cursor=InputOrder)
    order = [3, 0, 1, 4, 2, 6, 5]

    async def script() -> None:
        for n in order:
            scene.offer(*some(n, 1))
            await anyio.sleep(2)
            assert sink.rows == sorted(sink.rows)

    scene.play(script)
    assert sink.rows == ids(7)
    assert scene.journal.states["s"].seq == 7

    scene.projections.clear()
    scene.follow(sink, cursor=InputOrder)

    async def more() -> None:
        scene.offer(*some(8, 1))
        scene.offer(*some(7, 1))
        await anyio.lowlevel.checkpoint()

    scene.play(more)
    assert sink.rows == ids(9)


def test_a_bug_in_a_sink_is_not_hidden() -> None:
    class Buggy(FakeSink):
        async def write(self, results: Sequence[Result]) -> None:
            raise KeyError("oops")

    scene = Scene()
    scene.follow(Buggy())

    async def script() -> None:
        scene.offer(*some(0, 1))
        await anyio.sleep(1)

    with pytest.raises(BaseExceptionGroup) as caught:
        scene.play(script)
    assert caught.group_contains(KeyError, match="oops")


@pytest.mark.parametrize("cursor", [CommitOrder, InputOrder])
def test_what_was_rejected_is_known_to_later_processes_and_offered_to_them(cursor: type[CommitOrder]) -> None:
    scene, bad = Scene(), {1, 3}
    sink = FakeSink(refuse=lambda one: one.index in bad)
    scene.follow(sink, cursor=cursor)

    async def script() -> None:
        scene.offer(*some(0, 5))

    async def nothing() -> None:
        await anyio.lowlevel.checkpoint()

    scene.play(script)
    for left in ({1, 3}, {3}, set[int]()):
        bad.intersection_update(left)
        scene.projections.clear()
        projection = scene.follow(sink, cursor=cursor)
        missing: list[int] = []

        async def count(projection: Projection = projection, missing: list[int] = missing) -> None:
            missing.append(await projection.missing())

        scene.play(nothing)
        scene.clock.run(count)
        assert {one.index for one in projection.rejected} == left
        assert missing == [len(left)]
        assert sorted(sink.rows) == [str(n) for n in range(5) if n not in left]
    assert scene.journal.states["s"] == SinkState("s", 5, {"rows": 5})


def test_what_was_rejected_behind_the_last_commit_is_not_held_against_a_sink_that_takes_it_now() -> None:
    scene, bad, failing = Scene(), {1}, [True]

    def trouble(operation: str) -> None:
        if operation == "commit" and failing:
            failing.clear()
            bad.clear()
            raise StorageError("hiccup")

    sink = FakeSink(trouble, refuse=lambda one: one.index in bad)
    projection = scene.follow(sink)

    async def script() -> None:
        scene.offer(*some(0, 3))
        await anyio.sleep(5)

    scene.play(script)
    assert sink.rows == ids(3)
    assert projection.rejected == []
    assert scene.journal.noted == {}


def test_a_sink_that_takes_none_of_many_is_not_asked_about_each() -> None:
    scene = Scene()
    sink = FakeSink(refuse=lambda _: True)
    scene.follow(sink)

    async def script() -> None:
        scene.offer(*some(0, 100))

    scene.play(script)
    asked: list[str] = []
    again = FakeSink(asked.append, refuse=lambda _: True)
    scene.projections.clear()
    projection = scene.follow(again)

    async def nothing() -> None:
        await anyio.lowlevel.checkpoint()

    scene.play(nothing)
    assert asked.count("write") == GIVE_UP_AFTER
    assert len(projection.rejected) == 100
