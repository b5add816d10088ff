"""The queue of a lane: by priority, bounded in memory, spilling to a temporary file beyond that.

Spilling lets the feeder go on for the sake of another lane that is hungry, so a slow lane never starves a quick one,
and memory does not grow with the number of inputs.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections import deque
from typing import IO, Final

import msgspec

from promptmill.errors import StorageError
from promptmill.models import PRIORITIES, Request

FLOOR: Final = 10
"""Every tenth request is taken from the lowest class that waits, so that it is never starved."""

_LENGTH_BYTES: Final = 4


class Queued(msgspec.Struct, frozen=True):
    """A request, the names of the providers to try for it, the calls made for it in all and at the first of them, and
    its deadline in seconds since the epoch."""

    request: Request
    chain: tuple[str, ...]
    attempts: int = 0
    lane_attempts: int = 0
    due: float | None = None


class _Spool:
    """First in, first out, in a temporary file. Reads and writes are small and stay in the page cache.

    A request comes out as it went in. What the file cannot hold (a Python caller's lone surrogate, an integer over 64
    bits, an object) stays in memory, and an empty record holds its place.
    """

    def __init__(self) -> None:
        try:
            self._file: IO[bytes] = tempfile.TemporaryFile(prefix="promptmill-")  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise _storage_error(error) from error
        self._kept: deque[Queued] = deque()
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(Queued)
        self._read_at = 0
        self._write_at = 0
        self.count = 0

    def append(self, item: Queued) -> None:
        try:
            data = self._encoder.encode(item)
        except (ValueError, OverflowError, TypeError, RecursionError):
            self._kept.append(item)
            data = b""
        try:
            self._file.seek(self._write_at)
            self._file.write(len(data).to_bytes(_LENGTH_BYTES) + data)
        except OSError as error:
            raise _storage_error(error) from error
        self._write_at += _LENGTH_BYTES + len(data)
        self.count += 1

    def popleft(self) -> Queued:
        try:
            self._file.seek(self._read_at)
            size = int.from_bytes(self._file.read(_LENGTH_BYTES))
            data = self._file.read(size)
        except OSError as error:
            raise _storage_error(error) from error
        item = self._decoder.decode(data) if size else self._kept.popleft()
        self._read_at += _LENGTH_BYTES + size
        self.count -= 1
        if not self.count:
            self._read_at = self._write_at = 0
            self._truncate()
        return item

    def _truncate(self) -> None:
        try:
            self._file.truncate(0)
        except OSError as error:
            raise _storage_error(error) from error

    def close(self) -> None:
        # Closing flushes; on a full disk that fails once more, and nobody wants the data any longer.
        with contextlib.suppress(OSError):
            self._file.close()


def _storage_error(error: OSError) -> StorageError:
    return StorageError(
        f"the temporary file of a queue cannot be used: {error.strerror or error}",
        code="E0620",
        hint=f"make room in {tempfile.gettempdir()!r}, or set TMPDIR to a folder that has some",
    )


class _Class:
    """The requests of one priority: the front in memory, the rest on disk, in order."""

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self._front: deque[Queued] = deque()
        self._spool: _Spool | None = None

    def append(self, item: Queued) -> None:
        if len(self._front) < self._memory and not (self._spool and self._spool.count):
            self._front.append(item)
            return
        if self._spool is None:
            self._spool = _Spool()
        self._spool.append(item)

    def popleft(self) -> Queued:
        item = self._front.popleft()
        if not self._front and self._spool:
            for _ in range(min(self._memory, self._spool.count)):
                self._front.append(self._spool.popleft())
        return item

    def __len__(self) -> int:
        return len(self._front) + (self._spool.count if self._spool else 0)

    def close(self) -> None:
        if self._spool:
            self._spool.close()


class LaneQueue:
    """Requests waiting for one provider. ``memory`` is how many of each priority are kept in memory.

    Raises:
        StorageError: the disk that holds the rest is full or broken.
    """

    def __init__(self, memory: int) -> None:
        self._classes = {priority: _Class(memory) for priority in PRIORITIES}
        self._urgent_first = list(self._classes.values())
        self._urgent_last = self._urgent_first[::-1]
        self._taken = 0
        self._length = 0

    def append(self, item: Queued) -> None:
        self._classes[item.request.priority].append(item)
        self._length += 1

    def popleft(self) -> Queued | None:
        """The next item: the most urgent class first, but every tenth time the least urgent one."""
        ordered = self._urgent_last if (self._taken + 1) % FLOOR == 0 else self._urgent_first
        for waiting in ordered:
            if len(waiting):
                self._taken += 1
                self._length -= 1
                return waiting.popleft()
        return None

    def __len__(self) -> int:
        return self._length

    def close(self) -> None:
        for waiting in self._urgent_first:
            waiting.close()
