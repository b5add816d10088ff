"""The tail of the journal: what happened since its last commit, written at once and not synced.

The kernel keeps what was written when the process is killed, so a kill loses neither the knowledge of what was sent
nor a result that had arrived. A power cut may lose the tail; the journal behind it is synced.

A frame is a magic byte, a kind, the length and a CRC-32 of the payload that starts from a seed, so that zeros, which is
what a file system puts where data was lost, are never a frame.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from promptmill.files import DurableFile

_HEADER: Final = struct.Struct("<BBII")
_MAGIC: Final = 0xB7
_SEED: Final = 0x70_72_6D_6C

SENT: Final = 1
RECEIVED: Final = 2
SETTLED: Final = 3


class Tail:
    """An append-only file of frames that is emptied when the journal has taken them in."""

    def __init__(self, path: Path) -> None:
        self._file = DurableFile.open(path)
        self._path = path

    def append(self, kind: int, payload: bytes) -> None:
        """Write one frame. Raises StorageError."""
        self._file.write(_HEADER.pack(_MAGIC, kind, len(payload), zlib.crc32(payload, _SEED)) + payload)

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """The whole frames in the file; what follows the first torn one is left out."""
        data = self._path.read_bytes()
        at = 0
        while at + _HEADER.size <= len(data):
            magic, kind, length, check = _HEADER.unpack_from(data, at)
            payload = data[at + _HEADER.size : at + _HEADER.size + length]
            if magic != _MAGIC or not length or len(payload) < length or zlib.crc32(payload, _SEED) != check:
                return
            yield kind, payload
            at += _HEADER.size + length

    def size(self) -> int:
        return self._file.size()

    def clear(self) -> None:
        """Empty the file: everything in it is in the journal."""
        self._file.truncate(0)

    def close(self) -> None:
        self._file.close()
