"""Sinks that append to one file: a position is the length of the file."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

from anyio import to_thread

from promptmill.errors import StorageError
from promptmill.files import DurableFile, rename
from promptmill.interfaces import Position, Sink
from promptmill.models import Result
from promptmill.sinks._altered import Altered
from promptmill.sinks._probing import refuse_unwritable


class AppendingSink(Sink):
    """Writes each group with one append, so that only whole records are ever behind the last position."""

    header: bytes = b""
    """What an empty file starts with."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.altered = Altered(f"the output {str(path)!r}")
        self._file: DurableFile | None = None
        self._length = 0

    @abstractmethod
    def encode(self, results: Sequence[Result]) -> bytes:
        """The bytes of a group of results: whole records. Called in a worker thread."""

    async def start(self, position: Position | None) -> None:
        """Refuse a file that is not empty (``position`` is None), is shorter than its position, or is being written
        by another process (E0610, E0611, E0702)."""
        await to_thread.run_sync(self._start, position)

    async def probe(self, position: Position | None) -> None:
        await to_thread.run_sync(self._probe, position)

    async def set_aside(self) -> str | None:
        """``answers.jsonl`` becomes ``answers.jsonl.1``, or the next free number."""
        return await to_thread.run_sync(self._set_aside)

    async def write(self, results: Sequence[Result]) -> None:
        if results:
            await to_thread.run_sync(self._write, results)

    async def commit(self) -> Position:
        """``{"bytes": n}``: the length of the file up to here."""
        await to_thread.run_sync(self._commit)
        return {"bytes": self._length}

    async def aclose(self) -> None:
        if self._file is not None:
            await to_thread.run_sync(self._file.close)

    def _set_aside(self) -> str | None:
        if not self.path.exists():
            return None
        numbers = (self.path.with_name(f"{self.path.name}.{number}") for number in itertools.count(1))
        free = next(name for name in numbers if not name.exists())
        rename(self.path, free)
        return str(free)

    def _probe(self, position: Position | None) -> None:
        refuse_unwritable(self.path)
        exists = self.path.exists()
        self._refuse(position, self.path.stat().st_size if exists else 0)

    def _start(self, position: Position | None) -> None:
        length = _length_of(position, self.path)
        if length and not self.path.exists():
            raise self._shorter(0, length)
        self._file = DurableFile.open(self.path)
        self._file.claim()
        size = self._file.size()
        self._refuse(position, size)
        if size > length:
            self._file.truncate(length)
        self._length = length

    def _refuse(self, position: Position | None, size: int) -> None:
        """Refuse a file of ``size`` bytes that is not as this run left it."""
        length = _length_of(position, self.path)
        if position is None and size and not self._only_header(size):
            raise StorageError(
                f"the output {str(self.path)!r} holds {size} bytes that are not of this run",
                code="E0610",
                hint="start over with `--fresh`, which moves it aside, or name another file in the job's sinks",
            )
        if size < length:
            raise self._shorter(size, length)

    def _only_header(self, size: int) -> bool:
        """Whether a run was killed between its first commit and the note of it: there is no result in the file."""
        return size == len(self.header) and self.path.read_bytes() == self.header

    def _shorter(self, size: int, length: int) -> StorageError:
        return StorageError(
            f"the output {str(self.path)!r} has {size} bytes, and {length} were written: it was changed since",
            code="E0611",
            hint="put the file back, or delete it and write it anew from the journal with `promptmill export`",
        )

    def _write(self, results: Sequence[Result]) -> None:
        self._append(self.encode(results))

    def _commit(self) -> None:
        self._append(b"")
        self._opened().fsync()

    def _append(self, data: bytes) -> None:
        # The header goes with the first data: a file that has only been started must still count as empty.
        data = data if self._length else self.header + data
        self._opened().write(data)
        self._length += len(data)

    def _opened(self) -> DurableFile:
        if self._file is None:
            raise RuntimeError("start() comes before write() and commit()")
        return self._file


def _length_of(position: Position | None, path: Path) -> int:
    length = position.get("bytes") if position else 0
    if not isinstance(length, int) or length < 0:
        raise StorageError(f"the position kept for {str(path)!r} is not of this sink: {position!r}", code="E0611")
    return length
