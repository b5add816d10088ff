"""The tail of the journal: what happened since its last commit, written at once, through memory, and not synced.

The kernel keeps what was written when the process is killed, so a kill loses neither the knowledge of what was sent
nor a result that had arrived. A power cut may lose the tail; the journal behind it is synced.

A frame is a magic byte, a kind, the length and a CRC-32 of the payload that starts from a seed, so that zeros, which is
what a file system puts where data was lost, are never a frame.

A tail belongs to one owner: its name has the owner's epoch in it, so a process that lost the run cannot write into, or
empty, the tail of the one that has it now. It is never shortened in place: what is still needed is written to the next
tail before the old one is removed, so that a kill at any moment finds all of it in one of them.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from promptmill._statepaths import names_in
from promptmill.errors import StorageError
from promptmill.files import MappedFile, open_to_read, remove

_HEADER: Final = struct.Struct("<BBII")
_MAGIC: Final = 0xB7
_SEED: Final = 0x70_72_6D_6C

_NAME: Final = re.compile(r"tail-[0-9]{1,19}-[0-9]{1,19}")

SENT: Final = 1
RECEIVED: Final = 2
SETTLED: Final = 3
SPENT: Final = 4

Frame = tuple[int, bytes]
"""A kind and a payload."""


class Tail:
    """An append-only file of frames in ``directory``, of the owner with ``epoch``."""

    def __init__(self, directory: Path, epoch: int, number: int = 1) -> None:
        self._directory = directory
        self._epoch = epoch
        self._number = number
        self.path = directory / f"tail-{epoch}-{number}"
        self._file = MappedFile.open(self.path, synced=False)

    def append(self, kind: int, payload: bytes) -> None:
        """Write one frame. Raises StorageError."""
        self._file.write(_HEADER.pack(_MAGIC, kind, len(payload), zlib.crc32(payload, _SEED)) + payload)

    def reserve(self) -> None:
        """Take room for frames to come. Call it in a thread."""
        self._file.reserve()

    def renewed(self, frames: Iterator[Frame]) -> Tail:
        """A new tail with ``frames`` in it; this one is gone. Raises StorageError: then it is there as before."""
        following = Tail(self._directory, self._epoch, self._number + 1)
        try:
            for kind, payload in frames:
                following.append(kind, payload)
        except StorageError:
            with contextlib.suppress(StorageError):
                following.drop()
            raise
        with contextlib.suppress(StorageError):  # it does no harm where it is: it is read before the new one
            self.drop()
        return following

    def size(self) -> int:
        return self._file.size()

    def drop(self) -> None:
        """Close and delete it: everything in it is elsewhere."""
        self._file.close()
        remove(self.path)

    def close(self) -> None:
        self._file.close()


def tails_in(directory: Path) -> list[Path]:
    """The tails that are there, oldest first."""
    found = [directory / name for name in names_in(directory) if _NAME.fullmatch(name)]
    return sorted(found, key=lambda path: [int(part) for part in path.name.split("-")[1:]])


def epoch_of(path: Path) -> int:
    """The epoch of the owner of a tail."""
    return int(path.name.split("-")[1])


def frames_of(path: Path) -> Iterator[Frame]:
    """The whole frames in a tail; what follows the first torn one is left out."""
    with open_to_read(path) as file:
        rest = os.fstat(file.fileno()).st_size
        while len(header := file.read(_HEADER.size)) == _HEADER.size:
            rest -= _HEADER.size
            magic, kind, length, check = _HEADER.unpack(header)
            if magic != _MAGIC or not 0 < length <= rest:
                return
            payload = file.read(length)
            if zlib.crc32(payload, _SEED) != check:
                return
            rest -= length
            yield kind, payload
