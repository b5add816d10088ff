"""Which requests of a shard have their result, while lines come in from wherever, in whatever order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

MOST_DIGITS: Final = 10


class Collector:
    """Joins lines to the requests of one shard by their id alone. One byte a request.

    The first line of a request counts. Others of it, and lines of ids that are not of this shard, are counted and
    otherwise left alone.
    """

    def __init__(self, tag: str, requests: int) -> None:
        self.taken = 0
        self.duplicates = 0
        self.unknown = 0
        self._prefix = f"{tag}-"
        self._seen = bytearray(requests)

    def take(self, wire_id: str) -> int | None:
        """The number of the request this line is for; None when there is none, or it has its line already."""
        number = self._number(wire_id)
        if number is None:
            self.unknown += 1
            return None
        if self._seen[number]:
            self.duplicates += 1
            return None
        self._seen[number] = 1
        self.taken += 1
        return number

    def missing(self) -> Iterator[int]:
        """The numbers of the requests no line has come for, in order."""
        at = self._seen.find(0)
        while at >= 0:
            yield at
            at = self._seen.find(0, at + 1)

    def _number(self, wire_id: str) -> int | None:
        digits = wire_id.removeprefix(self._prefix)
        if digits == wire_id or len(digits) > MOST_DIGITS or not (digits.isascii() and digits.isdigit()):
            return None
        # "007" is nobody's id, though it reads as 7.
        if digits != str(int(digits)) or int(digits) >= len(self._seen):
            return None
        return int(digits)
