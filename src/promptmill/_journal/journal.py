"""One run's journal: what was sent, what came back, how far each sink has come.

Before a call, the intent is written to the tail; when the answer is there, the answer is, at once. The kernel keeps
both if the process is killed. Groups of results are then committed to the database, synced, and only after that seen
by sinks. Opening a journal takes in what a killed process left in its tail.

One process has a run at a time: by a lock, and, where somebody removed the lock file or the file system has no locks,
by an epoch that each commit checks. A process that has lost the run notices with its next commit, and its tail is its
own. What it had in flight is paid again.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio
import msgspec
from anyio import to_thread

from promptmill._journal.ballast import Ballast
from promptmill._journal.identity import request_digest
from promptmill._journal.lock import Owner, RunLock
from promptmill._journal.spending import Sent, Spending, Spent, pack_sent, pack_spent, totals_of, unpack_sent
from promptmill._journal.store import Finished, SinkState, Store, damaged
from promptmill._journal.tail import RECEIVED, SENT, SETTLED, SPENT, Frame, Tail, epoch_of, frames_of, tails_in
from promptmill._statepaths import is_file, is_folder, names_in
from promptmill.clock import Clock
from promptmill.errors import RunLocked, StorageError
from promptmill.files import fsync_dir, make_directory, open_to_read, remove, rename
from promptmill.interfaces import Position, Sink
from promptmill.jsontext import JSON, encode
from promptmill.models import Request, Result

TAIL_BYTES: Final = 4 * 1024 * 1024
"""The tail is written anew, without what is committed, when it is longer."""

RECOVERED_ROWS: Final = 500
"""Results of a killed process that are taken in with one commit."""

MOST_NAMED: Final = 10

FILES: Final = "run"
"""The directory of the files that belong together: setting them aside is one rename."""

DATABASE: Final = f"{FILES}/journal.db"

_SPENT: Final = "spent"
_SPENT_UNTIL: Final = "spent_until"
"""The epoch up to which what tails say was spent is in the totals: a killed recovery adds it only once."""

T = TypeVar("T")

_pack = msgspec.msgpack.Encoder().encode
_unpack_received = msgspec.msgpack.Decoder(Finished).decode


class Journal(Sink):
    """The journal as its run sees it. To the engine it is the sink that results go to before all others.

    ``fresh`` sets the files of an earlier run aside and begins anew, also when they cannot be read any more.
    """

    def __init__(self, directory: Path, clock: Clock, *, fresh: bool = False) -> None:
        self.directory = directory
        self._fresh = fresh
        self._clock = clock
        self._lock = RunLock(directory / "lock")
        self._ballast = Ballast(directory / "ballast")
        self._one_writer = anyio.CapacityLimiter(1)
        self._store: Store
        self._tail: Tail
        self._opened = contextlib.ExitStack()
        self._sent: dict[int, Sent] = {}
        self._unsettled: dict[int, Sent] = {}
        self._spent: dict[str, float] = {}
        self._spent_stored: dict[str, float] = {}
        self._received: dict[int, Finished] = {}
        self._unsaved: dict[int, str] = {}
        self._longest_tail = TAIL_BYTES
        self.failed = False
        """Whether a group could not be committed. Nothing of it, nor of what comes later, may be seen by a sink."""
        self.unknown: list[int] = []
        """Input positions of requests that were sent by a killed process and never answered to it."""
        self.spent_before: dict[str, float] = {}
        """USD spent by earlier processes, by scope, with all that was set aside for the calls in ``unknown``."""
        self.on_full: Callable[[StorageError], None] = lambda _: None
        """Called once when the disk is full: results are still kept, nothing more should be sent."""

    async def aopen(self) -> None:
        """Take the lock, open the files, and take in what a killed process left.

        Raises:
            RunLocked: another process has this run.
            StorageError: the files cannot be opened, are damaged, or a newer promptmill wrote them.
        """
        await self._in_thread(self._open)

    async def aclose(self) -> None:
        """Raises StorageError (E0645) when results that are paid for could be stored nowhere."""
        await self._in_thread(self._close)

    async def start(self, position: Position | None) -> None:
        """Nothing to do: the journal knows where it is."""

    async def write(self, results: Sequence[Result]) -> None:
        """Commit a group of results. Raises StorageError, or RunLocked when another process took the run over."""
        finished = [self._received.get(one.index) or _row(one) for one in results]
        try:
            full = await self._in_thread(self._commit, finished, self._spent)
        except BaseException:
            self.failed = True
            raise
        for one in results:
            self._received.pop(one.index, None)
            self._unsaved.pop(one.index, None)
        if full:
            self.on_full(full)
        if self._tail.size() > self._longest_tail:
            self._renew_tail()

    async def commit(self) -> Position:
        """Every write is a commit already."""
        return {"seq": self._store.last_seq}

    def sending(
        self, request: Request, attempt: int, provider: str, reserved: float = 0.0, scopes: Sequence[str] = ()
    ) -> None:
        """Note that ``request`` is about to be sent. Raises StorageError: then it must not be.

        ``reserved`` USD are set aside for it in each of ``scopes``. They count as spent if it is never known what
        became of the call.
        """
        self._sent[request.index] = sent = Sent(request.index, attempt, provider, reserved, tuple(scopes))
        try:
            self._tail.append(SENT, pack_sent(sent))
        except StorageError as error:
            del self._sent[request.index]
            self._full(error)
            raise

    def refused(self, request: Request) -> None:
        """Note that the last attempt for ``request`` failed, so that its outcome is known.

        If the attempt cost something, :meth:`spent` is called before.
        """
        if self._sent.pop(request.index, None):
            with contextlib.suppress(StorageError):  # no more than a word to the next process
                self._tail.append(SETTLED, _pack(request.index))

    def received(self, request: Request, result: Result, body: bytes) -> None:
        """Note a result the moment it is there. When money was set aside, :meth:`spent` follows without a wait."""
        sent = self._sent.pop(request.index, None)
        if sent is not None and sent.reserved:
            self._unsettled[request.index] = sent
        finished = Finished(
            index=result.index,
            id=result.id,
            digest=request_digest(request),
            status=result.status,
            record=encode(result),
            body=body,
        )
        self._received[result.index] = finished
        try:
            self._tail.append(RECEIVED, _pack(finished))
        except StorageError as error:
            self._unsaved[result.index] = result.id
            self._full(error)

    def spent(self, totals: Mapping[str, float]) -> None:
        """Note what has been spent so far, in USD by scope, that of earlier processes and the last answer included."""
        self._spent = dict(totals)
        self._unsettled.clear()
        try:
            self._tail.append(SPENT, pack_spent(Spent(self._spent)))
        except StorageError as error:
            self._full(error)

    async def put_sink(self, sink: SinkState) -> None:
        """Commit how far a sink has come."""
        await self._in_thread(self._store.put_sink, sink)

    async def sink(self, name: str) -> SinkState | None:
        return await self._in_thread(self._store.sink, name)

    async def check_owner(self) -> None:
        """Raise RunLocked when another process has taken the run over: then nothing may be written for it."""
        await self._in_thread(self._store.check_owner)

    async def reject(self, sink: str, index: int, reason: str) -> None:
        """Note that a sink does not take the result of the input row ``index``."""
        await self._in_thread(self._store.reject, sink, index, reason)

    async def put_meta(self, key: str, value: JSON) -> None:
        await self._in_thread(self._store.put_meta, key, value)

    async def meta(self, key: str) -> JSON:
        return await self._in_thread(self._store.meta, key)

    async def ask(self, question: Callable[[Store], T]) -> T:
        """Call ``question`` with the database, in the writer's thread."""
        return await self._in_thread(lambda: question(self._store))

    @property
    def last_seq(self) -> int:
        """The number of the last committed result."""
        return self._store.last_seq

    async def _in_thread(self, function: Callable[..., T], *args: Any) -> T:
        return await to_thread.run_sync(function, *args, limiter=self._one_writer)

    def _open(self) -> None:
        make_directory(self.directory)
        with contextlib.ExitStack() as stack:
            self._lock.acquire(Owner.here(self._clock.wall()))
            stack.callback(self._lock.release)
            self._ballast.load()
            stack.callback(self._ballast.drop)
            if self._fresh:
                self._set_aside()
            make_directory(self.directory / FILES)
            left = tails_in(self.directory / FILES)
            if left and not _has_content(self.directory / DATABASE):
                raise damaged(self.directory / DATABASE, "it is gone, and what belongs to it is there")
            self._store = Store.open(self.directory / DATABASE)
            stack.callback(self._store.close)
            self._recover(left)
            self._tail = Tail(self.directory / FILES, self._store.epoch)
            stack.callback(self._tail.close)
            self._opened = stack.pop_all()

    def _recover(self, left: Sequence[Path]) -> None:
        """Take in the tails a killed process left, twice over: first to see what is in them, then the results."""
        sent: set[int] = set()
        missing: set[int] = set()
        for kind, payload in _frames_of_all(left):
            if kind == SENT:
                sent.add(unpack_sent(payload).index)
            elif kind == SETTLED:
                sent.discard(msgspec.msgpack.decode(payload))
            elif kind == RECEIVED:
                missing.add(_unpack_received(payload).index)
        self.unknown = sorted(sent - missing - self._store.finished_among(sent))
        self._recover_spending(left)
        missing -= self._store.finished_among(missing)
        results = (_unpack_received(payload) for kind, payload in _frames_of_all(left) if kind == RECEIVED)
        wanted = (one for one in results if _take(missing, one.index))
        while group := list(islice(wanted, RECOVERED_ROWS)):
            self._store.append(group)
        for path in left:
            remove(path)
        if left:
            fsync_dir(self.directory / FILES)  # or a tail could be back after a power cut, older than what follows

    def _recover_spending(self, left: Sequence[Path]) -> None:
        """Work out what was spent, and commit it before the tails that tell it are gone."""
        stored = totals_of(self._store.meta(_SPENT))
        until = self._store.meta(_SPENT_UNTIL) or 0
        spending = Spending(stored)
        for kind, payload in _frames_of_all([path for path in left if epoch_of(path) >= until]):
            spending.take(kind, payload)
        totals = spending.with_unknown(self._store.finished_among(spending.open))
        if totals != stored:
            self._store.append((), meta={_SPENT: totals, _SPENT_UNTIL: self._store.epoch})
        self.spent_before = self._spent = self._spent_stored = totals

    def _close(self) -> None:
        with self._opened:
            kept = self._keep_spent()
            if self._unsaved:
                self._renew_tail()
            if self._unsaved:
                raise _lost(self._unsaved)
            if kept and not self._received and not self._sent:
                self._tail.drop()

    def _keep_spent(self) -> bool:
        """Commit the totals that are not. Where that cannot be, the tail has them."""
        try:
            self._commit((), self._spent)
        except (StorageError, RunLocked):
            return False
        return True

    def _set_aside(self) -> None:
        """One rename for all files: a kill in the middle must not leave half of them."""
        if is_folder(self.directory / FILES):
            taken = set(names_in(self.directory))
            numbers = (f"set-aside-{number}" for number in itertools.count(1))
            rename(self.directory / FILES, self.directory / next(name for name in numbers if name not in taken))

    def _commit(self, finished: Sequence[Finished], spent: dict[str, float]) -> StorageError | None:
        """Commit; when the disk is full, do so on the ballast and return what the disk said."""
        if finished:
            self._tail.reserve()
        meta = {_SPENT: spent} if spent != self._spent_stored else {}
        if not finished and not meta:
            return None
        full = None
        try:
            self._store.append(finished, meta=meta)
        except StorageError as error:
            if not self._store.is_full:
                raise
            self._ballast.drop()
            self._store.append(finished, meta=meta)
            full = error
        self._spent_stored = spent
        return full

    def _renew_tail(self) -> None:
        """Begin a tail with just what is nowhere else; without room for it the old one stays.

        In the loop's thread, so that no frame can come in between.
        """
        try:
            self._tail = self._tail.renewed(self._needed_frames())
        except StorageError:
            self._longest_tail *= 2
            return
        self._unsaved.clear()
        self._longest_tail = max(TAIL_BYTES, 2 * self._tail.size())

    def _needed_frames(self) -> Iterator[Frame]:
        for sent in (*self._sent.values(), *self._unsettled.values()):
            yield SENT, pack_sent(sent)
        for finished in self._received.values():
            yield RECEIVED, _pack(finished)
        if self._spent:
            yield SPENT, pack_spent(Spent(self._spent, tuple(self._unsettled)))

    def _full(self, error: StorageError) -> None:
        """The tail cannot be written. Give up the ballast, and write on it what is only in memory."""
        self._ballast.drop()
        self.on_full(error)
        self._renew_tail()


def _frames_of_all(paths: Sequence[Path]) -> Iterator[Frame]:
    for path in paths:
        yield from frames_of(path)


def _take(missing: set[int], index: int) -> bool:
    """Whether ``index`` is missing; it is not any more."""
    if index not in missing:
        return False
    missing.remove(index)
    return True


def _has_content(path: Path) -> bool:
    if not is_file(path):
        return False
    with open_to_read(path) as file:
        return bool(file.read(1))


def _lost(unsaved: dict[int, str]) -> StorageError:
    names = ", ".join(repr(id_) for id_ in islice(unsaved.values(), MOST_NAMED))
    more = f" and {len(unsaved) - MOST_NAMED} more" if len(unsaved) > MOST_NAMED else ""
    return StorageError(
        f"{len(unsaved)} results that are paid for could not be stored anywhere: {names}{more}",
        code="E0645",
        hint="free some space, then run the same command again: these requests are sent and paid again",
    )


def _row(result: Result) -> Finished:
    """A result nothing was sent for, such as a row that could not be read."""
    return Finished(index=result.index, id=result.id, digest=b"", status=result.status, record=encode(result))
