"""The batch lane in virtual time: every ending of a batch, deadlines, and processes that die at any moment.

``World`` is what outlives a process: a provider with books of its own, a disk, and the results that were stored.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promptmill import jsontext
from promptmill._batch_lane import BatchLaneSpec
from promptmill._batching import Book, Item, OpenShard, ShardItems, clear_files, shards_in
from promptmill._batching.desk import SETTLE_S
from promptmill._budget import Budget, worst_input_tokens
from promptmill._engine import Engine
from promptmill._engine_spec import EngineSpec, Entry
from promptmill._lane import LaneSpec
from promptmill._purse import Purse
from promptmill._routing import Route, Router
from promptmill.batch import BatchLimits, BatchLine, BatchProvider, BatchState, BatchStatus, LineProblem, Shard
from promptmill.clock import VirtualClock
from promptmill.errors import Permanent, ProviderError, RunStopped, StorageError, Throttled, Transient
from promptmill.interfaces import Decision, Fail, Fallback, Observer, Position, RealtimeProvider, Retry, Sink
from promptmill.models import Priority, Request, Response, Result, Tier, TokenEstimate, Usage
from promptmill.testing import request

SLOW_DISK_S = 2.0
"""Slow enough that a process often dies in the middle of a write."""


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How a batch goes: it ends in ``state`` after ``takes`` seconds with this share of its lines done.

    ``reports`` says whether lines that were not done are in the results, as expired; ``bad`` are 0-based lines that
    spoil the batch, and ``names`` whether the provider says which; ``limit`` is the token limit it is refused for.
    """

    state: BatchState = "completed"
    takes: float = 100.0
    done: float = 1.0
    reports: bool = False
    bad: frozenset[int] = frozenset()
    names: bool = True
    limit: int | None = None
    heeds_cancel: bool = True
    odd: bool = False


class Batch:
    def __init__(self, handle: str, shard: Shard, ending: Ending, rows: list[tuple[str, int]], born: float) -> None:
        self.handle = handle
        self.tag = shard.tag
        self.tokens = shard.tokens
        self.ending = ending
        self.rows = rows
        self.born = born
        self.cancelled_at: float | None = None
        self.paid = False


Answering = Callable[[int, int], Response | ProviderError]
"""What becomes of a row (by its index) when it is done for the nth time."""


def fine(index: int, nth: int) -> Response | ProviderError:
    return Response(text=f"answer {index}", tier="batch")


def price(usage: Usage, model: str | None, tier: Tier) -> float:
    """Half of it in a batch."""
    usd = (usage.input_tokens or 0) * 1e-6 + (usage.output_tokens or 0) * 4e-6
    return usd / 2 if tier == "batch" else usd


class FakeBatches(BatchProvider):
    """A provider of batches in virtual time, with books of its own."""

    model = "m"
    operations = frozenset({"chat"})

    def __init__(self, clock: VirtualClock, *, limits: BatchLimits, endings: Sequence[Ending] = ()) -> None:
        self.clock = clock
        self.limits = limits
        self.endings = list(endings)
        self.answering: Answering = fine
        self.batches: list[Batch] = []
        self.done: Counter[int] = Counter()
        """How often each row was carried out."""
        self.enqueued_limit: int | None = None
        self.spoils: frozenset[int] = frozenset()
        """Rows that make a batch fail as a whole."""
        self.downloads = 0
        self.forgotten: list[str] = []
        self.billed = 0.0

    def encode(self, request: Request, wire_id: str) -> bytes:
        if request.id == "cannot":
            raise Permanent("no line can be made of it", code="bad_request")
        return jsontext.encode([wire_id, request.index])

    def estimate(self, request: Request) -> TokenEstimate:
        return TokenEstimate(10, 10)

    async def create(self, shard: Shard) -> BatchStatus:
        await anyio.sleep(1.0)
        rows = [tuple(jsontext.decode(line)) for line in shard.path.read_bytes().split(b"\n")[:-1]]
        ending = self.endings.pop(0) if self.endings else Ending()
        bad = frozenset(at for at, (_, index) in enumerate(rows) if index in self.spoils)
        if bad:
            ending = msgspec.structs.replace(ending, state="failed", bad=bad)
        if self.enqueued_limit is not None and self.waiting_tokens() + shard.tokens > self.enqueued_limit:
            ending = Ending(state="failed", limit=self.enqueued_limit, takes=5.0)
        batch = Batch(f"batch_{len(self.batches)}", shard, ending, rows, self.clock.now())
        self.batches.append(batch)
        await anyio.sleep(1.0)
        return self.status(batch)

    def waiting_tokens(self) -> int:
        return sum(one.tokens for one in self.batches if not self.status(one).is_final)

    def status(self, batch: Batch) -> BatchStatus:
        ending, age = batch.ending, self.clock.now() - batch.born
        state: BatchState = ending.state if age >= ending.takes else "running"
        if batch.cancelled_at is not None and state == "running" and ending.heeds_cancel:
            state = "cancelled" if self.clock.now() >= batch.cancelled_at + 5 else "cancelling"
        if state in ("completed", "expired", "cancelled"):
            self._pay(batch, state)
        problems = [
            LineProblem(code="invalid", message="spoilt", line=at + 1 if ending.names else None) for at in ending.bad
        ]
        failure: ProviderError | None = None
        if state == "failed":
            failure = Permanent("the batch is refused", code="invalid")
            if ending.limit is not None:
                failure = Throttled("too many tokens wait", code="token_limit_exceeded")
        return BatchStatus(
            handle=batch.handle,
            state=state,
            raw_state=state,
            problems=problems if state == "failed" else (),
            failure=failure,
            enqueued_limit=ending.limit if state == "failed" else None,
        )

    def _finished(self, batch: Batch, state: BatchState) -> int:
        """How many rows are done. A cancelled batch has done what its age allowed."""
        ending = batch.ending
        if state == "cancelled" and batch.cancelled_at is not None:
            age = batch.cancelled_at - batch.born
            return int(len(batch.rows) * ending.done * min(age / ending.takes, 1.0))
        return int(len(batch.rows) * ending.done)

    def _pay(self, batch: Batch, state: BatchState) -> None:
        if not batch.paid:
            batch.paid = True
            for _, index in batch.rows[: self._finished(batch, state)]:
                self.done[index] += 1
                outcome = self.answering(index, self.done[index])
                if isinstance(outcome, Response):
                    self.billed += price(outcome.usage, "m", "batch")

    async def find(self, tag: str) -> BatchStatus | None:
        await anyio.sleep(0.5)
        found = [self.status(one) for one in self.batches if one.tag == tag]
        return next((one for one in found if one.state != "failed"), None)

    def named(self, handle: str) -> Batch:
        return next(one for one in self.batches if one.handle == handle)

    async def poll(self, handle: str) -> BatchStatus:
        await anyio.sleep(0.1)
        return self.status(self.named(handle))

    async def download(self, handle: str, directory: Path) -> Sequence[Path]:
        await anyio.sleep(2.0)
        self.downloads += 1
        return [directory / handle]

    async def read(self, path: Path) -> AsyncIterator[Sequence[BatchLine]]:
        batch = self.named(path.name)
        state = self.status(batch).state
        finished = self._finished(batch, state)
        lines = []
        for wire_id, index in reversed(batch.rows[:finished]):
            lines.append(BatchLine(wire_id=wire_id, outcome=self.answering(index, self.done[index])))
        if batch.ending.reports:
            expired = Transient("it expired", code="batch_expired")
            lines += [BatchLine(wire_id=wire_id, outcome=expired) for wire_id, _ in batch.rows[finished:]]
        if batch.ending.odd:
            lines = [*lines, *lines[:1], BatchLine(wire_id="somebody-else-0", outcome=Response(text="not ours"))]
        for at in range(0, len(lines), 3):
            await anyio.sleep(0.2)
            yield lines[at : at + 3]

    async def cancel(self, handle: str) -> None:
        await anyio.sleep(0.1)
        batch = self.named(handle)
        batch.cancelled_at = batch.cancelled_at or self.clock.now()

    async def forget(self, handle: str) -> None:
        self.forgotten.append(handle)


class Quick(RealtimeProvider):
    """The other way: answers after ``takes`` seconds."""

    model = "quick"

    def __init__(self, takes: float = 1.0) -> None:
        self.takes = takes
        self.calls: list[int] = []
        self.billed = 0.0
        self.answering: Answering = lambda index, nth: Response(text=f"quick {index}")

    async def complete(self, request: Request, *, timeout: float) -> Response:
        self.calls.append(request.index)
        outcome = self.answering(request.index, self.calls.count(request.index))
        if isinstance(outcome, Response):
            self.billed += price(outcome.usage, "quick", "realtime")
            if outcome.finish_reason == "lost":
                await anyio.sleep(self.takes)
                raise Transient("the connection broke", code="connection_lost")
        await anyio.sleep(self.takes)
        if isinstance(outcome, ProviderError):
            raise outcome
        return outcome


class Stored(Sink):
    """The journal: what is in it outlives the process; two results for one row are refused as the real one does."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def start(self, position: Position | None) -> None:
        pass

    async def write(self, results: Sequence[Result]) -> None:
        await anyio.sleep(SLOW_DISK_S)
        self._world.check_alive()
        for one in results:
            assert one.index not in self._world.results, f"row {one.index} has two results"
            self._world.results[one.index] = one

    async def commit(self) -> Position:
        return {}


class DiskBook:
    def __init__(self, world: World) -> None:
        self._world = world

    async def _put(self, shard: Shard, state: str, handle: str | None = None) -> None:
        await anyio.sleep(SLOW_DISK_S * (3 if state in ("dropped", "collected") else 1))
        self._world.check_alive()
        before = self._world.records.get(shard.tag, (shard, "new", None))[1]
        assert before not in ("collected", "dropped"), f"{shard.tag} was {before} and is {state}"
        self._world.records[shard.tag] = (shard, state, handle)
        await anyio.sleep(SLOW_DISK_S)

    async def submitting(self, shard: Shard) -> None:
        await self._put(shard, "submitting")

    async def submitted(self, shard: Shard, handle: str) -> None:
        await self._put(shard, "submitted", handle)

    async def collected(self, shard: Shard) -> None:
        with_result = set(self._world.results)
        with ShardItems(shard.path.parent, shard.tag, shard.requests) as items:
            self._world.owed[shard.tag] = {item.request.index for item in items} - with_result
        await self._put(shard, "collected")

    async def dropped(self, shard: Shard) -> None:
        await self._put(shard, "dropped")


class Books:
    """What the journal remembers of money: what is spent, and what may be for calls whose end nobody saw."""

    def __init__(self) -> None:
        self.totals: dict[str, float] = {}
        self.unknown: dict[int, tuple[float, Sequence[str]]] = {}

    def sending(
        self, request: Request, attempt: int, provider: str, reserved: float = 0.0, scopes: Sequence[str] = ()
    ) -> None:
        self.unknown[request.index] = (reserved, scopes)

    def refused(self, request: Request) -> None:
        self.unknown.pop(request.index, None)

    def received(self, request: Request, result: Result, body: bytes) -> None:
        self.unknown.pop(request.index, None)

    def spent(self, totals: Mapping[str, float]) -> None:
        self.totals = dict(totals)

    def reopened(self) -> dict[str, float]:
        for usd, scopes in self.unknown.values():
            for scope in scopes:
                self.totals[scope] = self.totals.get(scope, 0.0) + usd
        self.unknown.clear()
        return self.totals


class Heard(Observer):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warned(self, message: str) -> None:
        self.warnings.append(message)


class Policy:
    def __init__(self, attempts: int = 3) -> None:
        self.attempts = attempts

    def decide(self, failure: ProviderError, attempts: int, elapsed: float) -> Decision:
        if isinstance(failure, Permanent):
            return Fail()
        return Retry(1.0) if attempts < self.attempts else Fallback()


class Died(Exception):
    """The process is dead: nothing it writes counts any more."""


class World:
    """Rows to be done, and everything that is still there when a process has died. It is a shelf, too."""

    def __init__(
        self,
        directory: Path,
        rows: int,
        *,
        requests: int = 10,
        endings: Sequence[Ending] = (),
        fallback: bool = False,
        priorities: Sequence[Priority] = ("normal",),
        attempts: int = 3,
    ) -> None:
        self.directory = directory
        self.clock = VirtualClock()
        self.provider = FakeBatches(
            self.clock, limits=BatchLimits(requests=requests, bytes=10_000, window_s=86_400.0), endings=endings
        )
        self.quick = Quick()
        self.chain = ("bulk", "quick") if fallback else ("bulk",)
        self.routes: list[Route] = []
        self.params: dict[str, Any] = {"max_tokens": 50}
        self.rows = rows
        self.priorities = priorities
        self.policy = Policy(attempts)
        self.results: dict[int, Result] = {}
        self.records: dict[str, tuple[Shard, str, str | None]] = {}
        self.owed: dict[str, set[int]] = {}
        self.heard = Heard()
        self.books = Books()
        self.alive = True
        self.engine: Engine

    def check_alive(self) -> None:
        if not self.alive:
            raise StorageError("the process is dead", code="E0602")

    # A shelf.

    def is_done(self, index: int) -> bool:
        return index in self.results

    def book(self, provider: str) -> Book:
        return DiskBook(self)

    def open_shards(self, provider: str) -> list[OpenShard]:
        found = []
        for shard, state, handle in self.records.values():
            if state in ("submitting", "submitted"):
                items = list(self.items(shard))
                pending = sum(not self.is_done(item.request.index) for item in items)
                if pending:
                    one = OpenShard(
                        shard=shard, chain=items[0].chain, due=items[0].due, pending=pending, known=True, handle=handle
                    )
                    found.append(one)
        return found

    def items(self, shard: Shard) -> Iterator[Item]:
        with ShardItems(shard.path.parent, shard.tag, shard.requests) as items:
            yield from items

    # A process.

    def request(self, index: int) -> Request:
        priority = self.priorities[index % len(self.priorities)]
        return request(id=str(index), index=index, priority=priority, params=self.params)

    async def entries(self) -> AsyncIterator[Sequence[Entry]]:
        frozen = {index for shard in self.open_shards("bulk") for index in self._indexes(shard.shard)}
        for index in range(self.rows):
            if index not in self.results and index not in frozen:
                yield [self.request(index)]

    def _indexes(self, shard: Shard) -> set[int]:
        return {item.request.index for item in self.items(shard)}

    async def process(
        self, *, dies_at: float | None = None, caps: Mapping[str, float] | None = None, **options: Any
    ) -> RunStopped | None:
        """One process from its start to its end, or until it dies so many seconds later. How it ended."""
        self.alive = True
        known = {one.shard.tag for one in self.open_shards("bulk")}
        for tag, (shard, state, _) in self.records.items():
            if tag not in known and state in ("submitting", "submitted"):
                self.records[tag] = (shard, "collected", None)
        for tag in shards_in(self.directory, "run") - known:
            clear_files(self.directory, tag)
        lane: dict[str, Any] = {"poll_interval": 5.0, "linger": 10.0}
        lane |= {key: options.pop(key) for key in list(options) if key in BatchLaneSpec.__struct_fields__}
        entries = self.entries() if not lane.get("cancel") else nothing()
        router = Router(self.routes or [Route(self.chain[0], fallback=self.chain[1:])], ["bulk", "quick"])
        purse = None
        if caps:
            purse = Purse(Budget(caps, spent=self.books.reopened(), warn=self.heard.warned), router)
        spec = EngineSpec(
            lanes=[
                BatchLaneSpec(name="bulk", provider=self.provider, shelf=self, run_id="run", price=price, **lane),
                LaneSpec(name="quick", provider=self.quick, concurrency=5, timeout=60.0, price=price),
            ],
            router=router,
            purse=purse,
            ledger=self.books,
            policy=self.policy,
            clock=self.clock,
            sinks=[Stored(self)],
            observers=[self.heard],
            **options,
        )
        self.engine = Engine(spec)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                if dies_at is not None:
                    group.start_soon(self._die, dies_at, scope)
                await self.engine.run(entries)
                group.cancel_scope.cancel()
        return self.engine.stopped

    async def _die(self, after: float, scope: anyio.CancelScope) -> None:
        await anyio.sleep(after)
        self.alive = False
        scope.cancel()

    def run(self, **options: Any) -> RunStopped | None:
        async def main() -> RunStopped | None:
            return await self.process(**options)

        return self.clock.run(main)

    # What must hold.

    def check(self) -> None:
        """Every row has one result, and every shard that anybody heard of came to its end."""
        assert sorted(self.results) == list(range(self.rows))
        assert {state for _, state, _ in self.records.values()} <= {"collected", "dropped"}
        assert len({one.tag for one in self.provider.batches}) == len(self.live_batches()) + self.refused_tags()
        assert not [path.name for path in self.directory.iterdir()]

    def live_batches(self) -> list[Batch]:
        return [one for one in self.provider.batches if one.ending.state != "failed"]

    def refused_tags(self) -> int:
        live = {one.tag for one in self.live_batches()}
        return len({one.tag for one in self.provider.batches} - live)


async def nothing() -> AsyncIterator[Sequence[Entry]]:
    return
    yield


@pytest.mark.parametrize("rows", [1, 9, 10, 11, 95])
def test_rows_go_in_batches_and_come_back(tmp_path: Path, rows: int) -> None:
    world = World(tmp_path, rows)
    assert world.run() is None
    world.check()
    sizes = sorted((len(one.rows) for one in world.provider.batches), reverse=True)
    assert sizes == [10] * (rows // 10) + [rows % 10] * (rows % 10 > 0)
    result = world.results[0]
    assert (result.text, result.tier, result.provider, result.attempts) == ("answer 0", "batch", "bulk", 1)
    assert len(world.provider.forgotten) == len(world.provider.batches)
    assert set(world.provider.done.values()) == {1}


def test_a_small_job_does_not_linger(tmp_path: Path) -> None:
    world = World(tmp_path, 3)
    world.run(linger=5000.0)
    assert world.clock.now() < 200.0


def test_results_are_stored_before_their_shard_is_off_the_record(tmp_path: Path) -> None:
    """Else a machine that loses its power in between has neither, and pays for them again."""
    world = World(tmp_path, 25)
    world.run()
    assert list(world.owed.values()) == [set()] * 3


def test_no_more_batches_at_once_than_are_allowed(tmp_path: Path) -> None:
    world = World(tmp_path, 100)
    most = 0

    def status(batch: Batch) -> BatchStatus:
        nonlocal most
        most = max(most, sum(not one.paid for one in world.provider.batches))
        return original(batch)

    original = world.provider.status
    world.provider.status = status  # type: ignore[method-assign]
    world.run(max_batches=3)
    world.check()
    assert most == 3


@pytest.mark.parametrize("state", ["expired", "cancelled"])
@pytest.mark.parametrize("reports", [True, False])
def test_what_is_done_of_a_batch_is_kept_and_the_rest_is_sent_again(
    tmp_path: Path, state: BatchState, reports: bool
) -> None:
    world = World(tmp_path, 10, endings=[Ending(state=state, done=0.6, reports=reports)])
    world.run()
    world.check()
    assert [len(one.rows) for one in world.provider.batches] == [10, 4]
    assert set(world.provider.done.values()) == {1}
    assert sorted(one.attempts for one in world.results.values()) == [1] * 6 + [2] * 4


def test_a_batch_that_never_gives_anything_is_not_tried_for_ever(tmp_path: Path) -> None:
    world = World(tmp_path, 4, endings=[Ending(state="expired", done=0.0)] * 10)
    world.run()
    world.check()
    assert {one.status for one in world.results.values()} == {"failed"}
    assert {one.error.code for one in world.results.values() if one.error} == {"batch_expired"}
    assert len(world.provider.batches) == 3


def test_what_a_batch_cannot_do_goes_to_the_fallback(tmp_path: Path) -> None:
    world = World(tmp_path, 4, endings=[Ending(state="expired", done=0.5)] * 3, fallback=True)
    world.run()
    world.check()
    assert sorted(one.provider or "" for one in world.results.values()) == ["bulk"] * 3 + ["quick"]


def test_lines_that_may_pass_are_sent_again_and_others_are_final(tmp_path: Path) -> None:
    def answering(index: int, nth: int) -> Response | ProviderError:
        if index == 1:
            return Permanent("never", code="bad_request", http_status=400)
        if index == 2 and nth == 1:
            return Throttled("slowly", retry_after=9999.0)
        if index == 3 and nth == 1:
            return Transient("boom", code="server_error", http_status=500)
        return fine(index, nth)

    world = World(tmp_path, 5)
    world.provider.answering = answering
    world.run()
    world.check()
    assert world.results[1].status == "failed"
    assert world.results[1].tier == "batch"
    assert [world.results[at].attempts for at in range(5)] == [1, 1, 2, 2, 1]
    assert world.provider.done == {0: 1, 1: 1, 2: 2, 3: 2, 4: 1}


def test_odd_lines_are_left_out_and_told_of(tmp_path: Path) -> None:
    world = World(tmp_path, 5, endings=[Ending(odd=True)])
    world.run()
    world.check()
    assert any("lines for requests that had one already" in one for one in world.heard.warnings)
    assert any("lines for requests that are not in it" in one for one in world.heard.warnings)


@pytest.mark.parametrize("names", [True, False])
def test_bad_rows_are_isolated_and_the_others_answered(tmp_path: Path, names: bool) -> None:
    world = World(tmp_path, 16, requests=16, endings=[Ending(names=names)] * 100)
    world.provider.spoils = frozenset({3, 11})
    world.run()
    world.check()
    failed = {index for index, one in world.results.items() if one.status == "failed"}
    assert failed == {3, 11}
    assert set(world.provider.done.values()) == {1}
    if names:
        assert len(world.provider.batches) == 2, "the first, and one without the bad lines"


def test_batches_that_are_refused_whatever_is_in_them_stop_the_run(tmp_path: Path) -> None:
    world = World(tmp_path, 64, requests=64, endings=[Ending(names=False)] * 100)
    world.provider.spoils = frozenset(range(64))
    stopped = world.run()
    assert stopped is not None
    assert (stopped.code, stopped.exit_code) == ("E0552", 5)
    assert len(world.provider.batches) < 12
    assert not world.results


def test_a_row_no_line_can_be_made_of_fails_alone(tmp_path: Path) -> None:
    world = World(tmp_path, 3)
    plain = world.request
    world.request = lambda index: msgspec.structs.replace(plain(index), id="cannot") if index == 1 else plain(index)  # type: ignore[method-assign]
    world.run()
    world.check()
    assert [world.results[at].status for at in range(3)] == ["ok", "failed", "ok"]
    assert world.results[1].attempts == 0


def test_a_limit_of_waiting_tokens_is_learned_and_kept_to(tmp_path: Path) -> None:
    world = World(tmp_path, 60)
    world.provider.enqueued_limit = 250  # two batches of 100
    world.run()
    world.check()
    assert set(world.provider.done.values()) == {1}
    refused = [one for one in world.provider.batches if one.ending.state == "failed"]
    assert 1 <= len(refused) <= 6


def test_a_batch_larger_than_the_limit_is_split(tmp_path: Path) -> None:
    world = World(tmp_path, 10)
    world.provider.enqueued_limit = 60
    world.run()
    world.check()
    assert max(len(one.rows) for one in world.live_batches()) == 5


def test_detach_leaves_when_all_that_is_left_is_away_and_the_next_run_collects(tmp_path: Path) -> None:
    world = World(tmp_path, 25)
    stopped = world.run(detach=True)
    assert stopped is not None
    assert (stopped.code, stopped.exit_code) == ("E0550", 5)
    assert "25 requests are in 3 batches" in stopped.message
    assert world.clock.now() < 60
    assert not world.results
    assert world.run() is None
    world.check()
    assert len(world.provider.batches) == 3


def test_batches_are_cancelled_on_demand_and_what_is_done_is_kept(tmp_path: Path) -> None:
    world = World(tmp_path, 20)
    world.run(detach=True)
    stopped = world.run(cancel=True)
    assert stopped is not None
    assert (stopped.code, stopped.exit_code) == ("E0551", 5)
    kept = len(world.results)
    assert 0 <= kept < 20
    assert sum(world.provider.done.values()) == kept
    assert world.run() is None
    world.check()
    assert set(world.provider.done.values()) == {1}


def test_a_stop_leaves_batches_alone(tmp_path: Path) -> None:
    async def main() -> RunStopped | None:
        async def stop() -> None:
            await anyio.sleep(30)
            world.engine.stop(RunStopped("enough", code="E0530", exit_code=130))

        async with anyio.create_task_group() as group:
            group.start_soon(stop)
            return await world.process()

    world = World(tmp_path, 10)
    stopped = world.clock.run(main)
    assert stopped is not None
    assert stopped.exit_code == 130
    assert world.clock.now() < 35
    assert [one.cancelled_at for one in world.provider.batches] == [None]
    assert world.run() is None
    world.check()
    assert len(world.provider.batches) == 1


@pytest.mark.parametrize("heeds_cancel", [True, False])
def test_a_stalled_batch_is_rescued_before_the_deadline(tmp_path: Path, heeds_cancel: bool) -> None:
    stalled = Ending(takes=1e9, heeds_cancel=heeds_cancel)
    world = World(tmp_path, 40, endings=[stalled, Ending(takes=500.0)], fallback=True, requests=20)
    due = world.clock.wall() + 3600.0
    assert world.run(dues={0: due}, due=due) is None
    assert world.clock.wall() < due
    assert len(world.results) == 40
    assert sorted(one.provider or "" for one in world.results.values()) == ["bulk"] * 20 + ["quick"] * 20
    assert sorted(world.quick.calls) == list(range(20))
    assert world.clock.now() > 2000, "it was not given up before its time"


def test_urgent_rows_are_rescued_first(tmp_path: Path) -> None:
    world = World(
        tmp_path, 12, endings=[Ending(takes=1e9)], fallback=True, requests=20, priorities=["bulk", "normal", "urgent"]
    )
    due = world.clock.wall() + 3600.0
    world.run(dues={0: due})
    assert [at % 3 for at in world.quick.calls] == [2] * 4 + [1] * 4 + [0] * 4


def test_what_no_batch_can_do_in_time_goes_to_the_fallback_at_once(tmp_path: Path) -> None:
    world = World(tmp_path, 10, fallback=True)
    assert world.run(dues={0: world.clock.wall()}) is None
    assert len(world.quick.calls) == 10
    assert not world.provider.batches


def test_a_refused_batch_that_finds_no_room_in_time_is_off_the_record(tmp_path: Path) -> None:
    world = World(tmp_path, 10, endings=[Ending(takes=10_000.0)], fallback=True)
    world.run(detach=True)
    world.rows = 20
    world.provider.enqueued_limit = 100  # the batch that is under way
    due = world.clock.wall() + 3600.0
    assert world.run(dues={0: due}) is None
    assert sorted(world.quick.calls) == list(range(10, 20))
    world.check()


def test_a_deadline_without_a_fallback_ends_the_run_resumably(tmp_path: Path) -> None:
    world = World(tmp_path, 10, endings=[Ending(takes=5000.0)])
    due = world.clock.wall() + 1000.0
    stopped = world.run(dues={0: due}, due=due)
    assert stopped is not None
    assert (stopped.code, stopped.exit_code) == ("E0521", 5)
    assert world.run() is None
    world.check()
    assert len(world.provider.batches) == 1


def test_a_storage_failure_while_collecting_loses_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, 10)
    world.run(detach=True)
    real, world.check_alive = world.check_alive, _full  # type: ignore[method-assign]
    stopped = world.run()
    assert stopped is not None
    assert stopped.code == "E0602"
    world.check_alive = real  # type: ignore[method-assign]
    assert world.run() is None
    world.check()
    assert set(world.provider.done.values()) == {1}
    assert len(world.provider.batches) == 1


def _full() -> None:
    raise StorageError("the disk is full", code="E0602")


@pytest.mark.parametrize("code", ["results_gone", "forbidden"])
def test_only_results_that_are_gone_fail_their_rows(tmp_path: Path, code: str) -> None:
    async def refuse(handle: str, directory: Path) -> Sequence[Path]:
        raise Permanent("no", code=code, http_status=404)

    world = World(tmp_path, 5)
    real, world.provider.download = world.provider.download, refuse  # type: ignore[method-assign]
    stopped = world.run()
    if code == "results_gone":
        assert stopped is None
        assert {one.error.code for one in world.results.values() if one.error} == {"results_gone"}
        return
    assert stopped is not None
    assert stopped.code == "E0552"
    assert not world.results
    world.provider.download = real  # type: ignore[method-assign]
    assert world.run() is None
    world.check()
    assert set(world.provider.done.values()) == {1}


def test_batches_in_turns_do_not_linger(tmp_path: Path) -> None:
    world = World(tmp_path, 40)
    world.provider.answering = lambda index, nth: Response(
        text="x", tier="batch", usage=Usage(input_tokens=1, output_tokens=1)
    )
    assert world.run(caps={"run": 15 * WORST / 2}, linger=100_000.0) is None
    world.check()
    assert world.clock.now() < 10_000


ENDINGS = st.builds(
    Ending,
    state=st.sampled_from(["completed", "completed", "expired", "cancelled", "failed"]),
    takes=st.sampled_from([1.0, 30.0, 300.0]),
    done=st.sampled_from([0.0, 0.5, 1.0]),
    reports=st.booleans(),
    odd=st.booleans(),
).map(lambda one: msgspec.structs.replace(one, bad=frozenset({0}) if one.state == "failed" else frozenset()))


WHATEVER = given(
    rows=st.integers(1, 30),
    requests=st.integers(1, 12),
    endings=st.lists(ENDINGS, max_size=6),
    deaths=st.lists(st.floats(0.0, 200.0), max_size=6),
    transient=st.sets(st.integers(0, 30), max_size=4),
    permanent=st.sets(st.integers(0, 30), max_size=4),
    limit=st.sampled_from([None, 40, 150]),
    fallback=st.booleans(),
)


def one_result_each_paid_once(
    rows: int,
    requests: int,
    endings: list[Ending],
    deaths: list[float],
    transient: set[int],
    permanent: set[int],
    limit: int | None,
    fallback: bool,
) -> None:
    """The model: a row is carried out once, and once more for each time its line came back as one to be tried again."""
    with TemporaryDirectory() as folder:
        world = World(Path(folder), rows, requests=requests, endings=endings, fallback=fallback, attempts=100)
        world.provider.enqueued_limit = limit
        tried_again: Counter[int] = Counter()

        def answering(index: int, nth: int) -> Response | ProviderError:
            if index in permanent:
                return Permanent("never", code="bad_request")
            return Transient("boom", code="server_error") if index in transient and nth == 1 else fine(index, nth)

        world.provider.answering = answering

        async def processes() -> None:
            for death in deaths:
                await world.process(dies_at=death)
                await anyio.sleep(SETTLE_S)
            with anyio.fail_after(30 * 86_400.0):
                stopped = await world.process()
            assert stopped is None, stopped

        world.clock.run(processes)
        world.check()
        tried_again.update(dict.fromkeys(transient - permanent, 1))
        for index in range(rows):
            by_batch = world.results[index].provider == "bulk"
            assert world.provider.done[index] <= 1 + tried_again[index] or not by_batch
            assert (world.results[index].status == "failed") <= (index in permanent or bool(endings))
        sent = Counter(one.tag for one in world.live_batches())
        assert set(sent.values()) <= {1}, "a shard was made into two batches"


def whatever_happens(runs: int) -> Any:
    """The property above with so many examples."""
    lasting = settings(max_examples=runs, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    return lasting(WHATEVER(one_result_each_paid_once))


test_whatever_happens_each_row_has_one_result_and_is_paid_once = whatever_happens(80)
test_whatever_happens_a_thousand_times = pytest.mark.heavy(pytest.mark.timeout(600)(whatever_happens(1000)))


@pytest.mark.parametrize(
    "ending",
    [
        Ending(state="failed", takes=10.0, bad=frozenset({1})),
        Ending(state="failed", takes=10.0, bad=frozenset({1}), names=False),
        Ending(state="failed", takes=10.0, limit=60),
        Ending(state="expired", takes=10.0, done=0.5),
        Ending(takes=10.0),
    ],
    ids=["bad line", "no line", "limit", "expired", "completed"],
)
def test_a_death_at_any_moment(tmp_path: Path, ending: Ending) -> None:
    for step in range(90):
        folder = tmp_path / str(step)
        folder.mkdir()
        world = World(folder, 6, endings=[ending])

        async def processes(world: World = world, dies_at: float = step * 0.7) -> None:
            await world.process(dies_at=dies_at)
            await anyio.sleep(SETTLE_S)
            assert await world.process() is None

        world.clock.run(processes)
        world.check()
        assert set(world.provider.done.values()) == {1}, f"dead after {step * 0.7:.1f} s"


class ForQuick:
    """Every third row is for the quick provider."""

    def matches(self, request: Request) -> bool:
        return request.index % 3 == 0


WORST = (worst_input_tokens(request("prompt", params={"max_tokens": 50})) or 0) * 1e-6 + 50 * 4e-6


def spending(chance: random.Random) -> Answering:
    """Answers with any usage there can be, some of them lost on the way, and failures of every kind."""

    def answering(index: int, nth: int) -> Response | ProviderError:
        mine = random.Random(f"{seed} {index} {nth}")
        failure = mine.random()
        if failure < 0.05:
            return Permanent("no", code="bad_request", http_status=400)
        if failure < 0.1:
            return Transient("boom", code="server_error", http_status=500)
        if failure < 0.15:
            return Throttled("slowly", http_status=429)
        usage = Usage(input_tokens=mine.randint(1, 80), output_tokens=mine.choice([1, 20, 50]))
        return Response(text="x", tier="batch", usage=usage, finish_reason="lost" if mine.random() < 0.1 else "stop")

    seed = chance.random()
    return answering


def paid_by(answering: Answering, tier: Tier) -> Answering:
    def answered(index: int, nth: int) -> Response | ProviderError:
        outcome = answering(index, nth)
        return msgspec.structs.replace(outcome, tier=tier) if isinstance(outcome, Response) else outcome

    return answered


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("runs", [200, pytest.param(1000, marks=pytest.mark.heavy)])
def test_a_budget_is_never_passed(tmp_path: Path, runs: int) -> None:
    """Runs with random prices, usages, failures, caps and deaths: the provider's own bill is the judge."""
    seed = random.randrange(10**9)
    print(f"seed {seed}")  # noqa: T201 - shown when it fails
    chance = random.Random(seed)
    ended = Counter[str]()
    for number in range(runs):
        folder = tmp_path / str(number)
        folder.mkdir()
        rows = chance.randint(1, 25)
        endings = [Ending(state=chance.choice(["completed", "expired"]), done=chance.random()) for _ in range(3)]
        world = World(folder, rows, requests=chance.randint(1, 8), endings=endings, fallback=True, attempts=4)
        world.routes = [Route("quick", ForQuick()), Route("bulk", fallback=("quick",))]
        answering = spending(chance)
        world.provider.answering = paid_by(answering, "batch")
        world.quick.answering = paid_by(answering, "realtime")
        cap = chance.uniform(0.0, 1.5) * rows * WORST
        caps = {"run": cap} if chance.random() < 0.7 else {"run": cap, "route 2": cap / 3}
        deaths = [chance.uniform(0, 150) for _ in range(chance.choice([0, 0, 1, 3]))]

        async def processes(world: World = world, caps: dict[str, float] = caps, deaths: list[float] = deaths) -> str:
            for death in deaths:
                await world.process(dies_at=death, caps=caps)
                assert world.provider.billed + world.quick.billed <= caps["run"] + 1e-12
                await anyio.sleep(SETTLE_S)
            with anyio.fail_after(30 * 86_400.0):
                stopped = await world.process(caps=caps)
            return stopped.code if stopped else "done"

        how = world.clock.run(processes)
        ended[how] += 1
        billed = world.provider.billed + world.quick.billed
        assert billed <= cap + 1e-12, (number, billed, cap)
        assert billed <= world.books.totals.get("run", 0.0) + 1e-12, "somebody paid for what is not in the books"
        if how == "done":
            assert len(world.results) == rows
    assert set(ended) == {"done", "E0511"}
    assert min(ended.values()) > runs / 10


def test_money_that_comes_back_is_used(tmp_path: Path) -> None:
    world = World(tmp_path, 40)
    usage = Usage(input_tokens=10, output_tokens=50)
    world.provider.answering = lambda index, nth: Response(text="x", tier="batch", usage=usage)
    stopped = world.run(caps={"run": 22 * WORST / 2})
    assert stopped is not None
    assert (stopped.code, stopped.exit_code) == ("E0511", 4)
    assert 22 <= len(world.results) < 40
    assert len([one for one in world.heard.warnings if "of its budget" in one]) == 3
    assert world.run(caps={"run": 100 * WORST}) is None
    world.check()
    assert set(world.provider.done.values()) == {1}


def test_what_is_under_way_is_waited_for_when_there_is_no_money_for_the_rest(tmp_path: Path) -> None:
    world = World(tmp_path, 40)
    plain = world.request
    huge = {"max_tokens": 10**9}
    world.request = lambda index: msgspec.structs.replace(plain(index), params=huge if index == 5 else plain(0).params)  # type: ignore[method-assign]
    stopped = world.run(caps={"run": 30 * WORST})
    assert stopped is not None
    assert stopped.code == "E0511"
    assert sorted(world.results) == [0, 1, 2, 3, 4]
    assert {state for _, state, _ in world.records.values()} == {"collected"}


def test_a_request_without_a_bound_is_not_sent_under_a_budget(tmp_path: Path) -> None:
    world = World(tmp_path, 2)
    world.params = {}
    world.provider.estimate = lambda request: TokenEstimate(10, None)  # type: ignore[method-assign]
    assert world.run(caps={"run": 100.0}) is None
    assert {one.error.code for one in world.results.values() if one.error} == {"unbounded_cost"}
    assert not world.provider.batches
