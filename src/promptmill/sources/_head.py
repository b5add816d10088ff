"""The beginning of a stream, looked at before it is read."""

from __future__ import annotations

from typing import Final

from promptmill.sources._bytes import CHUNK_BYTES, ByteStream

HEAD_BYTES: Final = 256 * 1024


class Peeked:
    """A stream whose first bytes are known: ``head``, and whether they are ``whole``, all there is."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        pieces: list[bytes] = []
        length = 0
        self.whole = False
        while length < HEAD_BYTES:
            piece = stream.read(CHUNK_BYTES)
            if not piece:
                self.whole = True
                break
            pieces.append(piece)
            length += len(piece)
        self.head = b"".join(pieces)
        self._given = False

    def read(self, size: int, /) -> bytes:
        """The head first, then what comes after it."""
        if not self._given:
            self._given = True
            if self.head:
                return self.head
        return b"" if self.whole else self._stream.read(size)

    def close(self) -> None:
        """Whoever opened the stream closes it."""
