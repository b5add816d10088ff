"""One run's journal: what was sent, what came back, how far each sink has come.

Before a call, the intent is written to the tail; when the answer is there, the answer is, at once. The kernel keeps
both if the process is killed. Groups of results are then committed to the database, synced, and only after that seen
by sinks. Opening a journal takes in what a killed process left in its tail.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio
import msgspec
from anyio import to_thread

from promptmill._journal.ballast import Ballast
from promptmill._journal.identity import request_digest
from promptmill._journal.lock import Owner, RunLock
from promptmill._journal.store import Finished, SinkState, Store
from promptmill._journal.tail import RECEIVED, SENT, SETTLED, Tail
from promptmill.clock import Clock
from promptmill.errors import StorageError
from promptmill.interfaces import Position, Sink
from promptmill.jsontext import JSON, encode
from promptmill.models import Request, Result

TAIL_BYTES: Final = 4 * 1024 * 1024
"""The tail is emptied when it is longer and nothing in it is only there."""

DATABASE: Final = "journal.db"
_FILES: Final = (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", "tail")

T = TypeVar("T")

_pack = msgspec.msgpack.Encoder().encode
_unpack_sent = msgspec.msgpack.Decoder(tuple[int, int, str]).decode
_unpack_received = msgspec.msgpack.Decoder(Finished).decode


class Journal(Sink):
    """The journal as its run sees it. To the engine it is the sink that results go to before all others."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        self.directory = directory
        self._clock = clock
        self._lock = RunLock(directory / "lock")
        self._ballast = Ballast(directory / "ballast")
        self._one_writer = anyio.CapacityLimiter(1)
        self._store: Store
        self._tail: Tail
        self._sent: dict[int, tuple[int, str]] = {}
        self._received: dict[int, Finished] = {}
        self.unknown: list[int] = []
        """Input positions of requests that were sent by a killed process and never answered to it."""
        self.on_full: Callable[[StorageError], None] = lambda _: None
        """Called once when the disk is full: results are still kept, nothing more should be sent."""

    async def aopen(self) -> None:
        """Take the lock, open the files, and take in what a killed process left.

        Raises:
            RunLocked: another process has this run.
            StorageError: the files cannot be opened, or a newer promptmill wrote them.
        """
        await self._in_thread(self._open)

    async def aclose(self) -> None:
        await self._in_thread(self._close)

    async def set_aside(self) -> str | None:
        """Move the files of an earlier run into a directory of their own, and begin anew."""
        return await self._in_thread(self._set_aside)

    async def start(self, position: Position | None) -> None:
        """Nothing to do: the journal knows where it is."""

    async def write(self, results: Sequence[Result]) -> None:
        """Commit a group of results. Raises StorageError, or RunLocked when another process took the run over."""
        received = self._received
        finished = [received.pop(one.index) if one.index in received else _row(one) for one in results]
        full = await self._in_thread(self._commit, finished)
        if full:
            self.on_full(full)
        if not self._received and self._tail.size() > TAIL_BYTES:
            self._shorten_tail()

    async def commit(self) -> Position:
        """Every write is a commit already."""
        return {"seq": self._store.last_seq}

    def sending(self, request: Request, attempt: int, provider: str) -> None:
        """Note that ``request`` is about to be sent. Raises StorageError: then it must not be."""
        self._sent[request.index] = (attempt, provider)
        try:
            self._tail.append(SENT, _pack((request.index, attempt, provider)))
        except StorageError as error:
            del self._sent[request.index]
            self._full(error)
            raise

    def refused(self, request: Request) -> None:
        """Note that the last attempt for ``request`` failed, so that its outcome is known."""
        if self._sent.pop(request.index, None):
            with contextlib.suppress(StorageError):  # no more than a word to the next process
                self._tail.append(SETTLED, _pack(request.index))

    def received(self, request: Request, result: Result, body: bytes) -> None:
        """Note a result the moment it is there."""
        self._sent.pop(request.index, None)
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
            self._full(error)  # the commit that follows has the ballast to live on

    async def put_sink(self, sink: SinkState) -> None:
        """Commit how far a sink has come."""
        await self._in_thread(self._store.put_sink, sink)

    async def sink(self, name: str) -> SinkState | None:
        return await self._in_thread(self._store.sink, name)

    async def reject(self, sink: str, seq: int, reason: str) -> None:
        """Note that a sink does not take a row."""
        await self._in_thread(self._store.reject, sink, seq, reason)

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
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"the directory {str(self.directory)!r} cannot be made: {error.strerror}", code="E0601"
            ) from error
        self._lock.acquire(Owner.here(self._clock.wall()))
        try:
            self._ballast.load()
            self._open_files()
        except BaseException:
            self._lock.release()
            raise

    def _open_files(self) -> None:
        self._store = Store.open(self.directory / DATABASE)
        self._tail = Tail(self.directory / "tail")
        self._recover()

    def _recover(self) -> None:
        known = set(self._store.finished_indexes()) if self._tail.size() else set()
        sent: set[int] = set()
        found: dict[int, Finished] = {}
        for kind, payload in self._tail.frames():
            if kind == SENT:
                sent.add(_unpack_sent(payload)[0])
            elif kind == SETTLED:
                sent.discard(msgspec.msgpack.decode(payload))
            else:
                finished = _unpack_received(payload)
                found[finished.index] = finished
        self._store.append([one for index, one in found.items() if index not in known])
        self.unknown = sorted(sent - known - set(found))
        self._tail.clear()

    def _close(self) -> None:
        if not hasattr(self, "_tail"):
            return
        if not self._received and not self._sent:
            self._tail.clear()
        self._tail.close()
        self._store.close()
        self._ballast.drop()
        self._lock.release()

    def _set_aside(self) -> str:
        self._tail.close()
        self._store.close()
        numbers = (self.directory / f"set-aside-{number}" for number in range(1, 1_000_000))
        target = next(name for name in numbers if not name.exists())
        target.mkdir()
        for name in _FILES:
            if (self.directory / name).exists():
                (self.directory / name).rename(target / name)
        self._open_files()
        return str(target)

    def _commit(self, finished: Sequence[Finished]) -> StorageError | None:
        """Commit; when the disk is full, do so on the ballast and return what the disk said."""
        try:
            self._store.append(finished)
        except StorageError as error:
            if not self._store.is_full:
                raise
            self._ballast.drop()
            self._store.append(finished)
            return error
        return None

    def _shorten_tail(self) -> None:
        """Drop what is committed by now. In the loop's thread, so that no frame can come in between."""
        self._tail.clear()
        for index, (attempt, provider) in self._sent.items():
            self._tail.append(SENT, _pack((index, attempt, provider)))

    def _full(self, error: StorageError) -> None:
        self._ballast.drop()
        self.on_full(error)


def _row(result: Result) -> Finished:
    """A result nothing was sent for, such as a row that could not be read."""
    return Finished(index=result.index, id=result.id, digest=b"", status=result.status, record=encode(result))
