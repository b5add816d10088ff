"""A shard on disk: the file its provider gets, and beside it the requests behind the lines.

Both are JSON lines and written one line at a time, so a shard never is in memory. They are synced when the shard is
sealed, before anybody hears of it. All of it blocks: call it in a worker thread.
"""

from __future__ import annotations

import re
import secrets
from array import array
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

import msgspec

from promptmill import jsontext
from promptmill._statepaths import is_file, is_folder, names_in
from promptmill.batch import MAX_WIRE_ID, BatchLimits, Shard
from promptmill.errors import StorageError
from promptmill.files import DurableFile, open_to_read, remove, remove_directory
from promptmill.models import Request

BUFFER_BYTES: Final = 256 * 1024

_RANDOM_BYTES: Final = 5
_LONGEST_NUMBER: Final = 10


class Item(msgspec.Struct, frozen=True):
    """A request of a shard, the providers to try for it (the batch provider first), and the calls made for it in all
    and at this provider. ``due`` is its deadline in seconds since the epoch."""

    request: Request
    chain: tuple[str, ...]
    attempts: int = 0
    lane_attempts: int = 0
    due: float | None = None


_decode_item = msgspec.json.Decoder(Item).decode


def new_tag(run_id: str) -> str:
    """A name for a shard that no other shard of any run ever has; short enough for :func:`wire_id`."""
    tag = f"{run_id}-{secrets.token_hex(_RANDOM_BYTES)}"
    if len(tag) > MAX_WIRE_ID - _LONGEST_NUMBER - 1:
        raise ValueError(f"the run id {run_id!r} is too long to name batches by")
    return tag


def wire_id(tag: str, number: int) -> str:
    """The id that line ``number`` (0-based) of a shard is sent under. Never made of anything a user wrote."""
    return f"{tag}-{number}"


def wire_path(directory: Path, tag: str) -> Path:
    """The file the provider gets."""
    return directory / f"{tag}.jsonl"


def shards_in(directory: Path, run_id: str) -> set[str]:
    """The tags of the shards of a run that something in ``directory`` is named by."""
    name = re.compile(rf"({re.escape(run_id)}-[0-9a-f]{{{2 * _RANDOM_BYTES}}})\.(?:jsonl|items|results)")
    return {found[1] for one in names_in(directory) if (found := name.fullmatch(one))}


def items_path(directory: Path, tag: str) -> Path:
    """The requests behind its lines."""
    return directory / f"{tag}.items"


class ShardWriter:
    """A shard that is being filled. ``operation`` and ``model`` are those of all its requests."""

    def __init__(self, directory: Path, tag: str, limits: BatchLimits, *, operation: str, model: str | None) -> None:
        self.tag = tag
        self.requests = 0
        self.bytes = 0
        self.tokens = 0
        self._directory = directory
        self._limits = limits
        self._operation = operation
        self._model = model
        self._wire = _Appender(wire_path(directory, tag))
        try:
            self._items = _Appender(items_path(directory, tag))
        except BaseException:
            self._wire.close()
            raise

    @property
    def next_wire_id(self) -> str:
        """The id for the line to come."""
        return wire_id(self.tag, self.requests)

    def has_room(self, line: bytes) -> bool:
        """Whether ``line`` may be added. An empty shard takes any line: its provider says what it thinks of it."""
        if not self.requests:
            return True
        return self.requests < self._limits.requests and self.bytes + len(line) + 1 <= self._limits.bytes

    def add(self, item: Item, line: bytes, tokens: int) -> None:
        """Append a request. ``line`` is what the provider gets, without a newline; ``tokens`` its estimated input.

        Raises:
            ValueError: the line would be read as two, or the shard is full.
            StorageError: the disk does not take it; the shard must not be used any more.
        """
        if b"\n" in line or b"\r" in line:
            raise ValueError("a line of a batch file cannot hold a line break")
        if not self.has_room(line):
            raise ValueError(f"shard {self.tag!r} is full")
        record = jsontext.encode(item)
        self._wire.append(line)
        self._items.append(record)
        self.requests += 1
        self.bytes += len(line) + 1
        self.tokens += tokens

    def seal(self) -> Shard:
        """Make it durable; nothing can be added any more. Raises StorageError."""
        # The requests first: a file for the provider is never there without what its lines mean.
        self._items.finish()
        self._wire.finish()
        return Shard(
            tag=self.tag,
            path=wire_path(self._directory, self.tag),
            requests=self.requests,
            bytes=self.bytes,
            operation=self._operation,
            model=self._model,
            tokens=self.tokens,
        )

    def drop(self) -> None:
        """Delete what was written; nobody has heard of it."""
        self._wire.close()
        self._items.close()
        remove_shard(self._directory, self.tag)


def remove_shard(directory: Path, tag: str) -> None:
    """Delete the files of a shard that nobody needs any longer. Raises StorageError."""
    for path in (wire_path(directory, tag), items_path(directory, tag)):
        if is_file(path):
            remove(path)


def results_directory(shard: Shard) -> Path:
    """Where what came back of a shard is kept until it is safe elsewhere."""
    return _results_path(shard.path.parent, shard.tag)


def clear_shard(shard: Shard) -> None:
    """Delete all files of a shard that nobody needs any longer. Raises StorageError."""
    clear_files(shard.path.parent, shard.tag)


def clear_files(directory: Path, tag: str) -> None:
    """Delete everything that is named by ``tag``. Raises StorageError, when a part of it is not ours too."""
    remove_shard(directory, tag)
    results = _results_path(directory, tag)
    if is_folder(results):
        for path in [results / name for name in names_in(results)]:
            if is_file(path):
                remove(path)
        remove_directory(results)


def _results_path(directory: Path, tag: str) -> Path:
    return directory / f"{tag}.results"


class ShardItems:
    """The requests of a sealed shard, by number, each read when asked for. Use it inside ``with``.

    Raises:
        StorageError: the file is gone or holds something else than ``count`` requests.
    """

    def __init__(self, directory: Path, tag: str, count: int) -> None:
        self._path = items_path(directory, tag)
        self._count = count
        self._starts = array("Q")
        self._file: IO[bytes]

    def __enter__(self) -> Self:
        try:
            self._file = open_to_read(self._path)
        except OSError as error:
            raise self._damaged(str(error.strerror or error)) from error
        try:
            self._index()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Item:
        if not 0 <= number < self._count:
            raise IndexError(number)
        self._file.seek(self._starts[number])
        return self._read(self._file.readline())

    def __iter__(self) -> Iterator[Item]:
        """All of them, in order."""
        for number in range(self._count):
            yield self[number]

    def _index(self) -> None:
        at = 0
        for line in self._file:
            self._starts.append(at)
            at += len(line)
        if len(self._starts) != self._count or (self._count and not line.endswith(b"\n")):
            raise self._damaged(f"it has {len(self._starts)} lines, not {self._count}")

    def _read(self, line: bytes) -> Item:
        try:
            return _decode_item(line)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise self._damaged(str(error)) from error

    def _damaged(self, reason: str) -> StorageError:
        return StorageError(
            f"the requests of a batch, {str(self._path)!r}, cannot be read: {reason}",
            code="E0647",
            hint="put back a copy of its directory, or start over with `--fresh`, which keeps this one aside",
        )


class _Appender:
    """A durable file written in pieces of a useful size."""

    def __init__(self, path: Path) -> None:
        self._file = DurableFile.open(path)
        self._pieces = bytearray()

    def append(self, line: bytes) -> None:
        self._pieces += line
        self._pieces += b"\n"
        if len(self._pieces) >= BUFFER_BYTES:
            self._flush()

    def finish(self) -> None:
        self._flush()
        self._file.fsync()
        self._file.close()

    def close(self) -> None:
        self._file.close()

    def _flush(self) -> None:
        self._file.write(bytes(self._pieces))
        self._pieces.clear()
