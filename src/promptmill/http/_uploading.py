"""A file sent as a form (multipart/form-data, RFC 7578): streamed from the disk, its length known beforehand."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final

from anyio import to_thread

from promptmill.errors import StorageError
from promptmill.files import open_to_read

PIECE_BYTES: Final = 256 * 1024

_ESCAPES: Final = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})
"""Source: the WHATWG's algorithm for form data, which browsers follow."""


class FileForm:
    """The body of one upload. ``length`` in bytes; ``pieces`` may be read once.

    Raises:
        StorageError: the file cannot be read, or changes its size while it is sent.
    """

    def __init__(self, file: Path, size: int, fields: Mapping[str, str], part: str, filename: str) -> None:
        boundary = f"promptmill-{secrets.token_hex(16)}"
        texts = [
            f'--{boundary}\r\ncontent-disposition: form-data; name="{name.translate(_ESCAPES)}"\r\n\r\n{value}\r\n'
            for name, value in fields.items()
        ]
        disposition = f'form-data; name="{part.translate(_ESCAPES)}"; filename="{filename.translate(_ESCAPES)}"'
        texts.append(
            f"--{boundary}\r\ncontent-disposition: {disposition}\r\ncontent-type: application/octet-stream\r\n\r\n"
        )
        self._head = "".join(texts).encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self._file = file
        self._size = size
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self.length = len(self._head) + size + len(self._tail)
        self.failure: StorageError | None = None
        """Why the file could not be read. HTTP clients make an error of the connection out of what is raised."""

    @classmethod
    async def of(cls, file: Path, fields: Mapping[str, str], part: str, filename: str) -> FileForm:
        """Look at the file and make a form of it."""
        try:
            size = await to_thread.run_sync(_size, file)
        except OSError as error:
            raise _unreadable(file, error) from error
        return cls(file, size, fields, part, filename)

    async def pieces(self) -> AsyncIterator[bytes]:
        yield self._head
        try:
            async for piece in self._read():
                yield piece
        except StorageError as failure:
            self.failure = failure
            raise
        yield self._tail

    async def _read(self) -> AsyncIterator[bytes]:
        left = self._size
        try:
            with await to_thread.run_sync(open_to_read, self._file) as opened:
                while left:
                    piece = await to_thread.run_sync(opened.read, min(PIECE_BYTES, left))
                    if not piece:
                        raise StorageError(f"{str(self._file)!r} became shorter while it was sent", code="E0617")
                    left -= len(piece)
                    yield piece
        except OSError as error:
            raise _unreadable(self._file, error) from error


def _size(file: Path) -> int:
    with open_to_read(file) as opened:
        return os.fstat(opened.fileno()).st_size


def _unreadable(file: Path, error: OSError) -> StorageError:
    return StorageError(f"{str(file)!r} cannot be read: {error.strerror or error}", code="E0616")
