"""A reply that goes to the disk as it comes, and is gone on with where it broke off."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from anyio import to_thread

from promptmill.errors import BadOutput
from promptmill.files import DurableFile, remove, rename

MOST_BREAKS: Final = 5
"""Times in a row a download may break off without having come further."""

BREAKS: Final = frozenset({"connection_lost", "truncated_body", "timeout", "stalled"})
"""The codes of failures after which the rest is asked for."""

PIECE_BYTES: Final = 1024 * 1024

_RANGE: Final = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)", re.ASCII)


class Download:
    """A file on its way, under another name until it is whole. Takes the body of one reply after another.

    Raises:
        StorageError: the disk does not take it.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self._part = target.with_name(f"{target.name}.part")
        self._file: DurableFile | None = None
        self._pieces = bytearray()
        self._etag: str | None = None
        self.received = 0
        """Bytes there are."""

    async def open(self) -> None:
        self._file = await to_thread.run_sync(DurableFile.open, self._part)
        await to_thread.run_sync(self._file.truncate, 0)

    async def close(self) -> None:
        """Leave nothing but a whole file."""
        file, self._file = self._file, None
        if file is not None:
            await to_thread.run_sync(file.close)
            await to_thread.run_sync(remove, self._part)

    def headers(self) -> dict[str, str]:
        """What to ask for: all of it, or the rest of the very same content."""
        headers = {"accept-encoding": "identity"}
        if self.received and self._etag is not None:
            headers |= {"range": f"bytes={self.received}-", "if-range": self._etag}
        return headers

    async def begin(self, status: int, headers: Mapping[str, str]) -> bool:
        """Whether the body of this reply belongs here; if so, all that follows does."""
        if status not in (200, 206):
            return False
        if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
            raise BadOutput("the download is compressed, which was not asked for", code="bad_encoding")
        if status == 206:
            found = _RANGE.fullmatch(headers.get("content-range", "").strip())
            if found is None or int(found[1]) != self.received:
                raise BadOutput("the server sent another part of the file than it was asked for", code="bad_http")
            return True
        await self._restart()
        etag = headers.get("etag", "")
        # A weak one says that contents are much the same, which is not enough to join two halves.
        self._etag = None if not etag or etag.startswith("W/") else etag
        return True

    async def take(self, piece: bytes) -> None:
        self._pieces += piece
        self.received += len(piece)
        if len(self._pieces) >= PIECE_BYTES:
            await self._flush()

    async def finish(self) -> None:
        """The body came to its end: make the file durable, under its own name."""
        await self._flush()
        if self._file is None:
            raise RuntimeError("the download is not open")
        await to_thread.run_sync(self._file.fsync)
        await to_thread.run_sync(self._file.close)
        self._file = None
        await to_thread.run_sync(rename, self._part, self._target)

    async def _restart(self) -> None:
        self._pieces.clear()
        self.received = 0
        if self._file is not None:
            await to_thread.run_sync(self._file.truncate, 0)

    async def _flush(self) -> None:
        pieces, self._pieces = bytes(self._pieces), bytearray()
        if pieces and self._file is not None:
            await to_thread.run_sync(self._file.write, pieces)
