"""Finds numbers that occur more than once among millions, without ever holding the event loop up."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from itertools import pairwise
from typing import Final

from anyio.lowlevel import checkpoint

_GROUPS: Final = 256
"""A power of two. A million numbers are sorted in as many steps, of about a millisecond each."""


class Repeats:
    """Signed integers of 64 bits, spread like hashes are; eight bytes of memory each."""

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        self._groups = [array("q") for _ in range(_GROUPS)]
        for number in numbers:
            self.add(number)

    def add(self, number: int) -> None:
        self._groups[number & (_GROUPS - 1)].append(number)

    async def found(self) -> set[int]:
        """The numbers that were added more than once."""
        repeated: set[int] = set()
        for group in self._groups:
            repeated.update(one for one, other in pairwise(sorted(group)) if one == other)
            await checkpoint()
        return repeated

    async def meets(self, others: Repeats) -> bool:
        """Whether a number is in both."""
        for group, other in zip(self._groups, others._groups, strict=True):
            if other and not set(other).isdisjoint(group):
                return True
            await checkpoint()
        return False
